"""What a search prints while it runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ssr_exp import messages, terminal
from ssr_exp.config import CostAxis, Outcome, SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import Record
from ssr_exp.search import answer, diagnostics
from ssr_exp.search.answer import Result, Taken
from ssr_exp.search.belief import View
from ssr_exp.search.diagnostics import Check, Sensitivity
from ssr_exp.search.proposals.propose import Pick

FIGURE = re.compile(
    r"-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?|\bnan\b|\bnone\b"
)  # moves from round to round
UNITS = {Outcome.val_acc: "points", Outcome.val_loss: "nats"}


def print_checks(view: View, check: Check, sensitivities: Sequence[Sensitivity]) -> None:
    """Print how far the surrogate is to be believed, and what it says matters."""
    screen = terminal.console()
    unit = UNITS[view.scale.outcome]
    rank = "none" if check.spearman is None else f"{check.spearman:.2f}"
    intervals = ", ".join(
        f"{share:.0%} in {level:.0%}"
        for level, share in zip(diagnostics.LEVELS, check.coverage, strict=True)
    )
    repeats = len(view.history) > len(view.networks)
    seeds = "repeated seeds" if repeats else "inferred, no seed repeated"
    screen.print(
        f"\nsurrogate: {check.count} runs of {len(view.networks)} networks; left out and predicted "
        f"from the others: error {check.rmse:.2f} {unit} (guessing the mean: {check.spread:.2f}), "
        f"rank correlation {rank}, intervals {intervals}; noise of one run {check.noise:.2f} "
        f"{unit} ({seeds})"
    )
    print_new(check.warnings())
    parts = []
    for name, effects in diagnostics.describe(view.history.space, list(sensitivities)).items():
        words = ", ".join(f"{kind} {effect:+.2f}" for kind, effect in effects.items())
        parts.append(f"{name}: {words or 'fixed'}")
    screen.print(f"from lowest to full, in {unit}: {'; '.join(parts)}\n")


def print_new(warnings: Sequence[str]) -> None:
    """Print the warnings that the command has not given before, with these figures or others."""
    print_warnings([one for one in warnings if messages.is_first(FIGURE.sub("N", one))])


def print_warnings(warnings: Sequence[str]) -> None:
    """Print each warning in a line."""
    for warning in warnings:
        terminal.console().print(f"warning: {terminal.inert(warning)}")


def print_batch(view: View, picks: Sequence[Pick], *, title: str) -> None:
    """Print the networks that are trained next."""
    space, unit = view.history.space, UNITS[view.scale.outcome]
    outcome = "val acc %" if view.scale.outcome is Outcome.val_acc else f"val loss {unit}"
    times = _times(view, [pick.architecture for pick in picks])
    headings = "network,parameters,of baseline,MACs,of baseline,GeMMs".split(",")
    headings += [*(["ms"] if times else []), f"expected {outcome}", "80 % interval"]
    rows = []
    full = space.baseline
    for pick in picks:
        own = cost.of(space.plan, pick.architecture)
        low, high = sorted((pick.low, pick.high))
        rows.append(
            [
                space.code(pick.architecture),
                f"{own.params:,}",
                f"{own.params / full.params:.1%}",
                f"{own.macs / 1e6:,.2f}M",
                f"{own.macs / full.macs:.1%}",
                f"{own.gemms:,}",
                *([times[pick.architecture]] if times else []),
                f"{pick.mean:.2f}",
                f"{low:.2f} to {high:.2f}",
            ]
        )
    console = terminal.console()
    spare = ("GeMMs", "of baseline", "MACs", "parameters")
    console.print(terminal.table(title, headings, rows, left=("network",), spare=spare))
    if times:
        cap = view.caps.get("latency_ms")
        allowed = "" if cap is None else f"; {cap:.4g} ms are allowed"
        console.print(f"ms: {view.latencies} (~: predicted, not measured){allowed}")


def _times(view: View, architectures: Sequence[Architecture]) -> dict[Architecture, str]:
    """Write the latency of networks, where a device's is traded or capped; else nothing."""
    if view.latencies is None or not architectures:
        return {}
    known = view.latencies.known()
    points = cost.encode(view.history.space.plan, architectures)
    pairs = zip(architectures, view.latencies.ms(points).tolist(), strict=True)
    return {a: f"{'' if a in known else '~'}{ms:.4g}" for a, ms in pairs}


def print_results(results: Sequence[Result]) -> None:
    """Print the last comparison: networks trained on train and val, and tested once."""
    headings = "role,network,parameters,of baseline,MACs,test acc %,+-,drop,seeds,wall s".split(",")
    rows = []
    full = results[0].accuracy
    for result in results:
        first, runs = result.records[0], len(result.records)
        model = f"{result.contender.model} " if result.contender.model else ""
        rows.append(
            [
                result.contender.role,
                f"{model}{first.network}",
                f"{first.params:,}",
                f"{result.params_share:.1%}",
                f"{first.macs / 1e6:,.2f}M",
                f"{result.accuracy:.2f}",
                "" if result.deviation is None else f"{result.deviation:.2f}",
                f"{full - result.accuracy:.2f}",
                str(runs),
                f"{sum(r.wall_s for r in result.records):.1f}",
            ]
        )
    title = "finalists: trained on train and val, tested once"
    spare = ("wall s", "MACs", "seeds", "parameters")
    left = ("role", "network")
    terminal.console().print(terminal.table(title, headings, rows, left=left, spare=spare))


def print_smallest(view: View, conf: SearchConfig) -> None:
    """Print the smallest network that is accurate enough: trained, and predicted."""
    space, drop = view.history.space, conf.objective.max_drop
    screen, full = terminal.console(), space.baseline.params
    what = "fastest" if conf.objective.cost is CostAxis.latency_ms else "smallest"
    screen.print(f"\n{what} within {drop:g} points of the baseline, on val:")
    own = answer.trained(view)[0]
    accuracy = view.history.accuracies()[own]
    share = cost.of(space.plan, own).params / full
    times = {a: f", {ms} ms" for a, ms in _times(view, [own]).items()}
    alone = ""
    if own == space.plan.baseline:
        alone = ", the baseline itself: no smaller one is accurate enough yet"
        if answer.breaks_a_cap(view, own):
            alone += ", and it does not keep to the caps"
    screen.print(
        f"  trained    {space.code(own)}: {share:.1%} of its parameters, {accuracy:.2f} %"
        f"{times.get(own, '')}{alone}"
    )
    if (found := answer.predicted(view)) is not None:
        best, expected = found
        share = cost.of(space.plan, best).params / full
        times = {a: f", {ms} ms" for a, ms in _times(view, [best]).items()}
        screen.print(
            f"  predicted  {space.code(best)}: {share:.1%} of its parameters, {expected:.2f} % "
            f"expected{times.get(best, '')}{'' if best in view.networks else ', not trained'}"
        )


def print_answer(
    record: Record,
    *,
    drop: float,
    allowed: float,
    on: str,
    folder: Path,
    taken: Taken | None = None,
) -> None:
    """Print the last lines: the answer, what it costs and loses, and where it is."""
    screen = terminal.console()
    share = record.params / record.baseline_params
    macs = record.macs / record.baseline_macs
    screen.print(
        f"\nanswer: {record.model} {record.network}, {share:.1%} of the baseline's parameters "
        f"({record.params:,} of {record.baseline_params:,}), {macs:.1%} of its MACs, accuracy drop "
        f"{drop:.2f} points on {on}"
    )
    if drop > allowed:
        screen.print(
            f"warning: that is more than the {allowed:g} points that objective.max_drop allows; on "
            "val it was within them: allow less there, or search on"
        )
    if taken is not None:
        how = "measured" if taken.measured else "predicted, it was not measured"
        cap = "" if taken.cap is None else f", where {taken.cap:.4g} are allowed"
        screen.print(f"latency: {taken.ms:.4g} ms {how}{cap}; {taken.setting}")
    screen.print(f"best: {folder}  (record.json, weights.pt; python {folder}/load.py)")
