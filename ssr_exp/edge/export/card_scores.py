"""The part of a model card about its score: what the network scores, beside others of its study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssr_exp.edge.export import card_training, markdown
from ssr_exp.edge.selection import Selection
from ssr_exp.runs import seed_means, verdict
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.terminal import counted

PROMISED = {"drop", "low", "high", "probability", "allowed", "confidence"}


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
    beaten = [p for p in points.values() if p != own and p[0] <= own[0] and p[1] >= own[1]]
    has, are = ("has", "is") if len(beaten) == 1 else ("have", "are")
    place = (
        f"{len(beaten)} of them {has} no more parameters and {are} no worse in {score.name}"
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
    tested = list(_tested(chosen, finished))
    yield from tested or _beside(chosen, means)
    yield from _promised(chosen)
    if chosen.verdict is not None:
        yield f"- Against it: {markdown.inert(chosen.verdict)}."


def _tested(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    """Write what was compared last: on test, or of a study that is not at hand on val."""
    told, record, on = chosen.told, chosen.record, str(chosen.told.get("measured_on", "test"))
    if on == "val" and finished:
        return
    pair = told.get("measured")
    pair = pair if isinstance(pair, dict) else {}
    rows = chosen.comparison or list(_rows(record, pair, finished, on))
    lines = [line for row in rows if (line := _compared(row, record.scored_by, on))]
    yield from lines
    drop = told.get("drop")
    if lines and isinstance(drop, int | float) and not record.is_whole:
        yield _drop(chosen, drop, on, _error(rows))
        yield from _noise(chosen, rows)


def _noise(chosen: Selection, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what the baseline's seeds say against the drop."""
    full = next((row for row in rows if row.get("role") == "baseline"), {})
    spread = full.get("test_score_std", full.get("test_acc_std"))
    spread = spread if isinstance(spread, int | float) else None
    if (noise := verdict.noise_text(spread, _promise(chosen).get("allowed"))) is not None:
        yield f"- Noise: {noise}."


def _error(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Find the standard error of the drop in the rows of answer and baseline."""
    means = []
    for row in rows:
        deviation, seeds = row.get("test_score_std", row.get("test_acc_std")), row.get("seeds")
        if row.get("role") in ("answer", "baseline") and isinstance(seeds, list | int):
            count = seeds if isinstance(seeds, int) else len(seeds)
            is_known = isinstance(deviation, int | float) and count > 0
            means.append((deviation if is_known else None, count))
    return verdict.standard_error(*means) if len(means) == 2 else None


def _rows(
    record: Record, pair: Mapping[str, Any], finished: Sequence[Record], on: str
) -> Iterator[dict[str, Any]]:
    """Write the answer and the baseline that a loop's study compared as a search's rows."""
    whole = next((one.network for one in finished if one.is_whole), "")
    for role, network in (("answer", record.network), ("baseline", whole)):
        figure = pair.get(role)
        if not isinstance(figure, dict) or (role == "answer" and record.is_whole):
            continue
        scores = {
            one.seed: one.test_score if on == "test" else one.score
            for one in finished
            if one.network == network
        }
        seeds = sorted(seed for seed, value in scores.items() if value is not None)
        yield {
            "role": role,
            "model": record.model,
            "network": network,
            "test_score_mean": figure.get("mean"),
            "test_score_std": figure.get("std"),
            "seeds": seeds if len(seeds) == figure.get("seeds") else figure.get("seeds"),
        }


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
    yield _drop(chosen, score.drop(own.mean, full.mean), "val", error)


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


def _compared(row: Mapping[str, Any], score: Score, on: str) -> str | None:
    """Write a row of a search's last comparison; None if it is no such row."""
    mean, deviation = (
        row.get(f"test_score_{name}", row.get(f"test_acc_{name}")) for name in ("mean", "std")
    )
    seeds = row.get("seeds")
    if not isinstance(mean, int | float) or not isinstance(seeds, list | int):
        return None
    role, model, network = (markdown.inert(row.get(key)) for key in ("role", "model", "network"))
    spread = deviation if isinstance(deviation, int | float) else None
    return f"- {role}, {f'{model} {network}'.strip()}: {_figure(score, mean, spread, seeds, on)}."


def _drop(chosen: Selection, drop: float, on: str, error: float | None) -> str:
    """Say what is lost against the baseline, and what may be."""
    allowed = _promise(chosen).get("allowed")
    text = verdict.drop_text(chosen.record.scored_by, drop, error=error, allowed=allowed, on=on)
    return f"- Drop against the baseline on {on}: {markdown.inert(text)}."


def _promised(chosen: Selection) -> Iterator[str]:
    """Say what became of the promise of an answer, where one was stated."""
    told, promise, record = chosen.told, _promise(chosen), chosen.record
    if not promise.keys() >= PROMISED or record.is_whole:
        return
    on, kept, drop = str(told.get("measured_on")), told.get("kept"), told.get("drop")
    if kept is None and on == "test" and isinstance(drop, int | float):
        kept = drop <= promise["allowed"]
    kept = kept if isinstance(kept, bool) else None
    text = verdict.promise_text(record.scored_by, promise, on=on, kept=kept)
    yield f"- Promise: {markdown.inert(text)}."


def _promise(chosen: Selection) -> dict[str, float]:
    """Read what was promised of an answer, as far as it can be read."""
    told = chosen.told.get("promise")
    numbers = told if isinstance(told, dict) else {}
    return {key: value for key, value in numbers.items() if isinstance(value, int | float)}
