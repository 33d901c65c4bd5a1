"""What a search prints of its answer, beside the block that is read from `best/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssr_exp import terminal
from ssr_exp.config import CostAxis, SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import cost_words, verdict
from ssr_exp.runs.record import Record
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.search import answer, decision, diagnostics, other_networks
from ssr_exp.search.answer import BASELINE, FINALIST, ROLE, Result
from ssr_exp.search.belief import Belief
from ssr_exp.search.decision import Decision
from ssr_exp.search.printing import latencies, share_of_cost


def print_costs_of(results: Sequence[Result], first: str) -> None:
    """Print whose cost arms and family have, where the network that set it is not the answer."""
    answers = {r.contender.role: r.contender.network for r in results}
    others = [role for role in answers if not role.startswith((BASELINE, ROLE, FINALIST))]
    if others and answers.get(ROLE, first) != first:
        roles = ", ".join(others)
        terminal.console().print(
            f"{roles}: of the cost of {first}, which was tested first, and not of the answer's"
        )


def print_replaced(
    before: Record | None,
    record: Record,
    *,
    allowed: float,
    confidence: float,
    axis: CostAxis = CostAxis.params,
    exported: Path | None = None,
) -> None:
    """Print which answer `best/` held, where that is another one than now.

    `exported` is the folder of its export, which still holds it.
    """
    if before is None or (before.model, before.network) == (record.model, record.network):
        return
    share, noun = cost_words.share(before, axis), cost_words.NOUNS[cost_words.counted(axis)]
    terminal.console().print(
        f"\nthe answer was {before.model} {before.network} before, {share:.1%} of the baseline's "
        f"{noun}, and is replaced in best/: by all trainings so far, and by what is allowed now "
        f"(a drop of {record.scored_by.short_drop(allowed)}, "
        f"objective.confidence={confidence:g})"
    )
    if exported is not None and exported.is_dir():
        terminal.console().print(f"{exported} still holds that one: export anew")


def print_smallest(
    belief: Belief,
    conf: SearchConfig,
    decided: Decision | None = None,
    means: Mapping[str, SeedMean] | None = None,
    *,
    seen: Belief | None = None,
) -> None:
    """Print the smallest network that is good enough: trained, as finalists decided, and predicted.

    The heading says where it is so; scores are on val, and named so.

    Args:
        belief: what is believed, by val.
        conf: the search.
        decided: by finalists; None: there are none.
        means: of networks on val, over all trainings; None: those of the search.
        seen: what is believed by all trainings, those of finalists, too; None: there are no others.
    """
    decided = decided or decision.decide(belief, {})
    axis = conf.objective.cost
    lines = [_heading(belief, decided, axis), _trained(belief, decided, means or {}, axis)]
    if decided.verdict:
        lines.append(f"  but        {decided.verdict}")
    seen = seen or belief
    lines += _promised(belief, seen, decided)
    if (predicted := other_networks.predicted(seen, decided.drops)) is not None:
        best, expected = predicted
        known = "" if best in seen.networks else ", not trained"
        sized = _sized(belief, best, expected, axis, of_score=" expected")
        lines.append(f"  predicted  {sized}{known}")
    for line in lines:
        terminal.console().print(line)


def _heading(belief: Belief, decided: Decision, axis: CostAxis) -> str:
    what, limit = "smallest", belief.score.short_drop(belief.drop)
    if axis is CostAxis.latency_ms:
        what = "fastest"
    if decided.is_kept:
        return f"\n{what} that lost at most {limit} on test:"
    return f"\n{what} within {limit} of the baseline, on val:"


def _trained(
    belief: Belief, decided: Decision, means: Mapping[str, SeedMean], axis: CostAxis
) -> str:
    """Write the network that is handed over, and why where it is the baseline."""
    space, network = belief.history.space, decided.network
    own = means.get(space.code(network))
    value = belief.history.scores()[network] if own is None else own.mean
    row = f"  trained    {_sized(belief, network, value, axis)}"
    if network != space.plan.baseline:
        return row
    return f"{row}, {verdict.baseline_text(decided.verdict)}"


def _promised(belief: Belief, seen: Belief, decided: Decision) -> Iterator[str]:
    """Write what the answer lost on test, and what is promised; of the baseline, what else may be.

    The arguments are as those of `print_smallest`.
    """
    rests, question = "", {"allowed": belief.drop, "confidence": belief.confidence}
    if seen.predicts_score and diagnostics.is_poor(diagnostics.look(seen)):
        rests = "; it rests on a surrogate that predicts poorly"
    if decided.network == belief.history.space.plan.baseline:
        if (one := answer.likeliest(seen, decided.drops)) is not None:
            sure = verdict.likeliest_text(seen.promises[one].probability, belief.confidence)
            yield f"  likeliest  {belief.history.space.code(one)} {sure}{rests}"
        return
    on = "val" if decided.drop is None else "test"
    if decided.drop is not None:
        lost = verdict.drop_text(belief.score, decided.drop, error=None, allowed=belief.drop, on=on)
        yield f"  drop       {lost}"
    stated = decided.promise(belief, seen).stated(**question)
    said = verdict.promise_text(belief.score, stated, on=on, kept=decided.is_kept)
    yield f"  promise    {said}{rests}"


def _sized(
    belief: Belief, architecture: Architecture, value: float, axis: CostAxis, *, of_score: str = ""
) -> str:
    """Write a network with its cost, score on val and latency; parameters stand in for latency.

    `of_score` is said of the score.
    """
    space, share = belief.history.space, share_of_cost(belief, architecture, axis)
    times = "".join(f", {ms} ms" for ms in latencies(belief, [architecture]).values())
    noun = cost_words.NOUNS[cost_words.counted(axis)]
    scored = f"{belief.score.val_name} {belief.score.text(value)}{of_score}"
    return f"{space.code(architecture)}: {share:.1%} of its {noun}, {scored}{times}"
