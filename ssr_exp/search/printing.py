"""What a search prints while it runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ssr_exp import messages, terminal
from ssr_exp.config import CostAxis
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import cost_words
from ssr_exp.runs.predictions import Predictions
from ssr_exp.search.answer import BASELINE, ROLE, Result
from ssr_exp.search.belief import Belief
from ssr_exp.search.rounds import Planned

# What of a warning moves from round to round.
FIGURE = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?|\bnan\b|\bnone\b")


def print_diagnostics(belief: Belief, predictions: Predictions, *, whole: bool = False) -> None:
    """Print how far the surrogate is to be believed; in its log file, what it says matters.

    Args:
        belief: what is believed.
        predictions: its summary.
        whole: whether all of it is printed.
    """
    look, outcome = predictions.looks[-1], belief.scale.outcome
    short = (
        f"surrogate: {look.runs} runs of {len(belief.networks)} networks; off by "
        f"{outcome.drop_text(look.rmse)} on a network that it has not seen (guessing the mean: "
        f"{outcome.number(look.spread)})"
    )
    if messages.is_first(short):  # a command looks again where nothing was trained, too
        terminal.console().print(short)
    for line in _details(belief, predictions):
        if whole:
            terminal.console().print(line)
        else:
            messages.file_log.info("%s", line)


def _details(belief: Belief, predictions: Predictions) -> list[str]:
    """Say how sure the surrogate may be, and what depth and width of each segment matter."""
    look, outcome = predictions.looks[-1], belief.scale.outcome
    rank = "none" if look.spearman is None else f"{look.spearman:.2f}"
    pairs = zip(predictions.levels, look.coverage, strict=True)
    intervals = ", ".join(f"{share:.0%} in {level:.0%}" for level, share in pairs)
    repeats = len(belief.history) > len(belief.networks)
    seeds = f"inferred, {'with repeated seeds' if repeats else 'no seed repeated'}"
    effects: dict[str, list[str]] = {s.name: [] for s in belief.history.space.plan.segments}
    for one in predictions.sensitivities:
        sign = "+" if one.effect >= 0 else ""
        effects[one.segment].append(f"{one.kind} {sign}{outcome.number(one.effect)}")
    parts = [f"{name}: {', '.join(words) or 'fixed'}" for name, words in effects.items()]
    return [
        f"  left out and predicted from the others: rank correlation {rank}, intervals "
        f"{intervals}; noise of one run {outcome.drop_text(look.noise)} ({seeds})",
        f"  from lowest to full, in {outcome.unit_of_drops or outcome.name}: {'; '.join(parts)}",
    ]


def print_new(warnings: Sequence[str]) -> None:
    """Print the warnings that the command has not given before."""
    print_warnings(new(warnings))


def new(warnings: Sequence[str]) -> list[str]:
    """Keep the warnings that the command has not given before, with these figures or others."""
    return [one for one in warnings if messages.is_first(FIGURE.sub("N", one))]


def print_warnings(warnings: Sequence[str]) -> None:
    """Print each warning in a line."""
    for warning in warnings:
        terminal.console().print(f"{messages.WARNING}{terminal.printable(warning)}")


def print_round(
    belief: Belief,
    picks: Sequence[Planned],
    *,
    title: str,
    count: int,
    axis: CostAxis = CostAxis.params,
) -> None:
    """Print in one line what is trained next; the log file has each network.

    Args:
        belief: what is believed.
        picks: the first of them.
        title: which round it is.
        count: of all; more than the picks where one is chosen after the other.
        axis: the cost that the search is about.
    """
    space, outcome = belief.history.space, belief.scale.outcome
    architectures = [space.parse(pick.network) for pick in picks]
    for pick in picks:
        expected = outcome.text(pick.mean or 0.0)
        messages.file_log.info("%s: %s, %s expected", title, pick.network, expected)
    networks = terminal.counted(count, "network")
    if count > len(picks):
        terminal.console().print(f"{title}: {networks}, one after the other")
        return
    means = _range([outcome.number(v) for v in sorted(pick.mean or 0.0 for pick in picks)])
    unit = f" {outcome.unit}" if outcome.unit else ""
    terminal.console().print(
        f"{title}: {networks} of {_sizes(belief, architectures, axis)}, {outcome.name} "
        f"{means}{unit} expected"
    )


def _sizes(belief: Belief, architectures: Sequence[Architecture], axis: CostAxis) -> str:
    """Write what networks cost: as shares of the baseline's, and in ms where that is known."""
    times = list(latencies(belief, architectures).values())
    ms = f"{_range(sorted(times, key=lambda ms: float(ms.strip('~'))))} ms" if times else ""
    if ms and axis is CostAxis.latency_ms:
        return ms
    shares = sorted(share_of_cost(belief, a, axis) for a in architectures)
    noun = cost_words.NOUNS[cost_words.counted(axis)]
    sizes = f"{_range([f'{share:.1%}' for share in shares])} of the {noun}"
    return f"{sizes}, {ms}" if ms else sizes


def share_of_cost(belief: Belief, architecture: Architecture, axis: CostAxis) -> float:
    """Return a cost as a share of the baseline's; parameters stand in for a latency."""
    space, name = belief.history.space, cost_words.counted(axis)
    return float(
        getattr(cost.count_one(space.plan, architecture), name) / getattr(space.baseline, name)
    )


def _range(ordered: Sequence[str]) -> str:
    first, last = ordered[0], ordered[-1]
    return first if first == last else f"{first} to {last}"


def print_batch(belief: Belief, picks: Sequence[Planned], *, title: str) -> None:
    """Print the networks that are trained next."""
    space, full, console = belief.history.space, belief.history.space.baseline, terminal.console()
    outcome = belief.scale.outcome
    architectures = [space.parse(pick.network) for pick in picks]
    times = latencies(belief, architectures)
    headings = "network,parameters,of baseline,MACs,of baseline,GeMMs".split(",")
    headings += [
        *(["ms"] if times else []),
        f"expected {outcome.heading}",
        "80 % interval",
    ]
    rows = []
    for pick, architecture in zip(picks, architectures, strict=True):
        params, macs, gemms = cost.count_one(space.plan, architecture)
        low, high = sorted((pick.low or 0.0, pick.high or 0.0))
        rows.append(
            [
                terminal.shortened(pick.network),
                f"{params:,}",
                f"{params / full.params:.1%}",
                f"{macs / 1e6:,.2f}M",
                f"{macs / full.macs:.1%}",
                f"{gemms:,}",
                *([times[architecture]] if times else []),
                outcome.number(pick.mean or 0.0),
                f"{outcome.number(low)} to {outcome.number(high)}",
            ]
        )
    spare = ("GeMMs", "of baseline", "MACs", "parameters")
    console.print(terminal.table(title, headings, rows, left=("network",), spare=spare))
    if times:
        cap = belief.caps.get("latency_ms")
        allowed = "" if cap is None else f"; {cap:.4g} ms are allowed"
        console.print(f"ms: {belief.latencies} (~: predicted, not measured){allowed}")


def latencies(belief: Belief, architectures: Sequence[Architecture]) -> dict[Architecture, str]:
    """Write the latency of networks, where a device's is traded or capped; else nothing."""
    if belief.latencies is None or not architectures:
        return {}
    measured = belief.latencies.measured()
    points = cost.encode(belief.history.space.plan, architectures)
    pairs = zip(architectures, belief.latencies.ms(points).tolist(), strict=True)
    return {a: f"{'' if a in measured else '~'}{ms:.4g}" for a, ms in pairs}


def print_others(results: Sequence[Result]) -> None:
    """Print what was tested beside answer and baseline, which the answer's block has."""
    full, score = results[0].score, results[0].records[0].scored_by
    headings = ["role", "network", "of baseline", score.on("test").heading, "+-", "drop", "seeds"]
    rows = []
    for result in results:
        if result.contender.role in (BASELINE, ROLE):
            continue
        first = result.records[0]
        model = f"{result.contender.model} " if result.contender.model else ""
        rows.append(
            [
                result.contender.role,
                f"{model}{terminal.shortened(first.network)}",
                f"{result.params_share:.1%}",
                score.number(result.score),
                "" if result.deviation is None else score.number(result.deviation),
                score.number(score.drop(result.score, full)),
                str(len(result.records)),
            ]
        )
    if rows:
        left, spare = ("role", "network"), ("seeds", "+-")
        laid = terminal.table("tested beside it", headings, rows, left=left, spare=spare)
        terminal.console().print(laid)
