"""The part of a model card about its score: what the network scores, beside others of its study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ssr_exp.edge.export import markdown
from ssr_exp.edge.selection import Selection
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score


def front(chosen: Selection, finished: Sequence[Record]) -> str:
    """Say which trained networks of the study beat it in score on val and in parameters.

    Networks that were trained with several seeds count by their mean.
    """
    if not finished:
        return (
            "The study that it comes from is not at hand, so its place on the front is not known."
        )
    trainings: dict[str, list[Record]] = {}
    for record in finished:
        if record.score is not None:
            trainings.setdefault(record.network, []).append(record)
    score = chosen.record.scored_by
    points = {
        n: (r[0].params, score.sign * mean(x.score or 0 for x in r)) for n, r in trainings.items()
    }
    if (own := points.get(chosen.record.network)) is None:
        return "It was not measured on val in its study, so its place on the front is not known."
    beaten = [p for p in points.values() if p != own and p[0] <= own[0] and p[1] >= own[1]]
    place = (
        f"{len(beaten)} of them have no more parameters and are no worse in {score.name}"
        if beaten
        else f"none has fewer parameters and is as good in {score.name}: it is on the front"
    )
    study = markdown.inert(chosen.folder.name)
    return f"Of the {len(points)} networks that were trained in study `{study}`, {place}."


def section(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    """Write what it scores, and what speaks against it."""
    record, score = chosen.record, chosen.record.scored_by
    better = "larger" if score.sign > 0 else "smaller"
    yield "## Score"
    yield ""
    yield f"Networks are judged by `{markdown.inert(score.key)}`: {better} is better."
    yield ""
    for part, value in (("val", record.score), ("test", record.test_score)):
        if value is not None:
            yield f"- {_text(score, value)} on {part}: this training, seed {record.seed}."
    if chosen.has_seen_val:
        yield f"- Its last training learned from train and val; its {score.name} flatters it."
    elif line := _seeds(record, finished):
        yield line
    for row in chosen.comparison:
        if line := _compared(row, score):
            yield line
    if chosen.verdict is not None:
        yield f"- Against it: {markdown.inert(chosen.verdict)}."


def _seeds(record: Record, finished: Sequence[Record]) -> str | None:
    """Average over all seeds that the network was trained with; None if there is but one."""
    scores = {
        r.seed: r.score for r in finished if r.network == record.network and r.score is not None
    }
    if len(scores) < 2:
        return None
    seeds, values, score = ", ".join(map(str, scores)), scores.values(), record.scored_by
    return (
        f"- {score.number(mean(values))} +- {_text(score, stdev(values))} on val, mean and "
        f"standard deviation over {len(values)} seeds ({seeds})."
    )


def _compared(row: Mapping[str, Any], score: Score) -> str | None:
    """Write a row of a search's last comparison; None if it is no such row."""
    mean_, deviation = (
        row.get(f"test_score_{name}", row.get(f"test_acc_{name}")) for name in ("mean", "std")
    )
    seeds = row.get("seeds")
    if not isinstance(mean_, int | float) or not isinstance(seeds, list):
        return None
    has_spread = isinstance(deviation, int | float)
    spread = f" +- {score.number(deviation)}" if has_spread else ""
    words = "mean and standard deviation" if has_spread else "mean"
    role, model, network = (markdown.inert(row.get(key)) for key in ("role", "model", "network"))
    who = f"{role}, {model} {network}"
    return (
        f"- {who}: {score.number(mean_)}{spread} {markdown.inert(score.unit)}".rstrip()
        + f" on test, {words} over {len(seeds)} seed{'s' if len(seeds) > 1 else ''} "
        f"({', '.join(map(markdown.inert, seeds))})."
    )


def _text(score: Score, value: float) -> str:
    return markdown.inert(score.text(value))
