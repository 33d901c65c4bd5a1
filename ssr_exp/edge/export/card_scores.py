"""The part of a model card about its score: what the network scores, beside others of its study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssr_exp.edge.export import card_training, markdown
from ssr_exp.edge.selection import Selection
from ssr_exp.runs import seed_means, verdict
from ssr_exp.runs.last_comparison import Comparison, Figure
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.terminal import counted

MOST = 3  # networks that are named


def front(chosen: Selection, finished: Sequence[Record]) -> str:
    """Say which trained networks of the study beat it in score on val and in parameters.

    Networks that were trained with several seeds count by their mean.
    """
    if not finished:
        return (
            "The study that it comes from is not at hand, so its place on the front is not known."
        )
    score = chosen.record.scored_by
    points = {
        network: (one.records[0].params, score.sign * one.mean)
        for network, one in seed_means.on_val(finished).items()
    }
    if (own := points.get(chosen.record.network)) is None:
        return "It was not measured on val in its study, so its place on the front is not known."
    beaten = [n for n, p in points.items() if p != own and p[0] <= own[0] and p[1] >= own[1]]
    has, are = ("has", "is") if len(beaten) == 1 else ("have", "are")
    named = ", ".join(markdown.inert(n) for n in sorted(beaten, key=points.__getitem__)[:MOST])
    such = ", such as" if len(beaten) > MOST else ":"
    place = (
        f"{len(beaten)} of them {has} no more parameters and {are} no worse in {score.name}"
        f"{such} {named}"
        if beaten
        else f"none has fewer parameters and is as good in {score.name}: it is on the front"
    )
    study = markdown.inert(chosen.folder.name)
    return f"Of the {len(points)} networks that were trained in study `{study}`, {place}."


def section(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    """Write what it scores, beside the baseline, and what speaks against it."""
    record, score = chosen.record, chosen.record.scored_by
    better = "larger" if score.sign > 0 else "smaller"
    yield "## Score"
    yield ""
    judged = f"Networks are judged by `{markdown.inert(score.key)}`: {better} is better"
    parts = [card_training.one_image(chosen, part) for part in ("val", "test")]
    yield "; ".join([judged, *filter(None, parts)]) + "."
    yield ""
    means = seed_means.on_val(finished)
    own = means.get(record.network)
    if own is not None and (chosen.has_seen_val or len(own.seeds) > 1):
        apart = ", in its search, where it did not learn from val" if chosen.has_seen_val else ""
        yield f"- {_mean(score, own, 'val')}{apart}."
    if chosen.has_seen_val:
        yield f"- Its last training learned from train and val; its {score.name} flatters it."
    yield f"- The weights are {markdown.inert(verdict.weights(record))}."
    yield from list(_compared(chosen, finished)) or _beside(chosen, means)
    if chosen.told is not None and (promised := chosen.told.promise_text(record)) is not None:
        yield f"- Promise: {markdown.inert(promised)}."
    if chosen.verdict is not None:
        yield f"- Against it: {markdown.inert(chosen.verdict)}."


def _compared(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    """Write what was compared last: on test, or of a study that is not at hand on val."""
    told, record = chosen.told, chosen.record
    if told is None or (told.measured_on == "val" and finished):
        return
    rows = list(_rows(record, told, finished))
    yield from rows
    if not rows or record.is_whole:
        return
    lost = told.drop_text(record)
    yield f"- Drop against the baseline on {told.measured_on}: {markdown.inert(lost)}."
    if (noise := told.noise_text(record)) is not None:
        yield f"- Noise: {noise}."


def _rows(record: Record, told: Comparison, finished: Sequence[Record]) -> Iterator[str]:
    """Write a line of each network that was tested; where the answer was not, two."""
    score, on = record.scored_by, told.measured_on
    tested = told.results if on == "test" else ()
    for row in tested:
        who = f"{row.role}, {row.model} {row.network}"
        yield _line(who, _figure(score, row.figure.mean, row.figure.std, row.seeds, on))
    if tested or told.pair is None:
        return
    whole = next((one.network for one in finished if one.is_whole), "")
    both = (("baseline", whole), ("answer", record.network))
    for role, network in both[:1] if record.is_whole else both:
        figure: Figure = getattr(told.pair, role)
        seeds = _seeds(network, finished, on=on)
        named = seeds if len(seeds) == figure.seeds else figure.seeds
        who = f"{role}, {record.model} {network}".rstrip()
        yield _line(who, _figure(score, figure.mean, figure.std, named, on))


def _line(who: str, figure: str) -> str:
    return f"- {markdown.inert(who)}: {figure}."


def _seeds(network: str, finished: Sequence[Record], *, on: str) -> list[int]:
    """List the seeds of a network's trainings that have a score on test, or on val."""
    mine = [one for one in finished if one.network == network]
    values = {one.seed: one.test_score if on == "test" else one.score for one in mine}
    return sorted(seed for seed, value in values.items() if value is not None)


def _beside(chosen: Selection, means: Mapping[str, SeedMean]) -> Iterator[str]:
    """Write what the baseline scores on val, and what the network loses against it there."""
    record, score = chosen.record, chosen.record.scored_by
    own = means.get(record.network)
    full = next((one for one in means.values() if one.records[0].is_whole), None)
    if own is None or full is None or record.is_whole:
        return
    first = full.records[0]
    who = f"baseline, {markdown.inert(first.model)} {markdown.inert(first.network)}"
    yield f"- {who}: {_mean(score, full, 'val')}."
    error = verdict.standard_error(*((one.deviation, len(one.seeds)) for one in (own, full)))
    promise = None if chosen.told is None else chosen.told.promise
    allowed = None if promise is None else promise.allowed
    lost = score.drop(own.mean, full.mean)
    text = verdict.drop_text(score, lost, error=error, allowed=allowed, on="val")
    yield f"- Drop against the baseline on val: {markdown.inert(text)}."


def _mean(score: Score, one: SeedMean, on: str) -> str:
    return _figure(score, one.mean, one.deviation, one.seeds, on)


def _figure(
    score: Score, mean: float, deviation: float | None, seeds: Sequence[Any] | int, on: str
) -> str:
    """Write a mean with its spread, and over how many seeds it is."""
    spread = "" if deviation is None else f" +- {score.number(deviation)}"
    text = f"{score.number(mean)}{spread} {markdown.inert(score.unit)}".rstrip()
    words = "mean" if deviation is None else "mean and standard deviation"
    count = seeds if isinstance(seeds, int) else len(seeds)
    named = "" if isinstance(seeds, int) else f" ({', '.join(map(markdown.inert, seeds))})"
    over = f"{words} over {counted(count, 'seed')}{named}"
    return f"{text} on {on}, {f'of a single seed{named}' if count == 1 else over}"
