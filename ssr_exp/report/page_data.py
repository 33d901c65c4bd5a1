"""What a page shows, as plain data: networks with their trainings, and what is believed of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np

import ssr_exp
from ssr_exp import files
from ssr_exp.report import (
    answer_block,
    class_scores,
    next_training,
    page_networks,
    search_results,
)
from ssr_exp.runs import pareto, predictions, seed_means, studies, study_names
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.predictions import Predictions, Promised, Sample
from ssr_exp.runs.record import FINALIST, NOT_TOLD, Kind, Record
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import Store, folder_name

NETWORK = "network.json"  # of a study: its seed network, written by training
POINTS = 40_000  # of lattices that one page shows; of several studies each has its part
EPS = 1e-9
ANSWER = "answer"  # a role of the last comparison
NOISE = "noise"  # a row of the answer
CODE = "CODE"  # stands for a network's in words to copy


def collect(
    store: Store,
    only: Sequence[str] = (),
    fresh: Mapping[str, Predictions] = MappingProxyType({}),
    *,
    is_beside: bool = True,
) -> dict[str, Any]:
    """Gather all that a page of a store's studies shows.

    Args:
        store: of the records.
        only: the names of the studies; none: all.
        fresh: predictions of studies, where they are not those that the store has.
        is_beside: whether the page lies in the store's folder.
    """
    records, fields = store.records_by_study(), studies.read_all(store.root)
    finals = search_results.finalist_studies(store, records)
    inside = {name for names in finals.values() for name in names}
    names = [name for name in records if (name in only if only else name not in inside)]
    predicted = {name: fresh.get(name) or predictions.latest(store, name) for name in names}
    points = POINTS // max(sum(one is not None for one in predicted.values()), 1)
    shown = [
        _study(
            store,
            name,
            [*records[name], *(_finalist(r) for n in finals.get(name, ()) for r in records[n])],
            fields.get(folder_name(name), {}),
            predicted[name],
            points=points,
            is_beside=is_beside,
        )
        for name in names
    ]
    return {
        "version": ssr_exp.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "studies": sorted(shown, key=lambda s: (s["has_val"], s["started_at"]), reverse=True),
    }


def _finalist(record: Record) -> Record:
    return record.model_copy(update={"origin": FINALIST})


def _study(
    store: Store,
    name: str,
    records: Sequence[Record],
    fields: dict[str, Any],
    predicted: Predictions | None,
    *,
    points: int,
    is_beside: bool,
) -> dict[str, Any]:
    first, *_ = searched = [record for record in records if record.study == name]
    comparison = search_results.read_comparison(store, name)
    settings, handed = page_networks.latency_settings(records, predicted), _handed_over(store, name)
    place = answer_block.place_on_a_page(store)
    block = answer_block.read(store, name, place=place, is_beside=is_beside)
    return {
        "name": name,
        "title": study_names.title(store.root, name),
        "model": first.model,
        "dataset": first.dataset,
        "by_loop": next_training.is_of_a_loop(fields),
        "score": _described(first.scored_by),
        "baseline": {axis: getattr(first, f"baseline_{axis}") for axis in predictions.AXES},
        "segments": _segments(store, name, first, predicted),
        "settings": settings,
        "networks": page_networks.collect(records, settings, predicted),
        "runs": [page_networks.run(record, settings) for record in records],
        "predictions": predicted and _thinned(_as_promised(predicted, comparison, handed), points),
        "answer": None if comparison is None else comparison.model_dump(),
        "handed_over": handed,
        "block": block,
        "train": next_training.words(store, name, CODE, place=place),
        "warnings": _warnings(predicted, searched, block),
        "classes": class_scores.collect(store, name, searched, _answers(comparison)),
        "picture": search_results.read_picture(store, name),
        "about": _about(records, fields),
        "has_val": any(record.score is not None for record in searched),
        "started_at": max(record.started_at for record in records),
    }


def _warnings(
    predicted: Predictions | None, records: Sequence[Record], block: answer_block.Rows
) -> list[str]:
    """List what speaks against believing an answer, beside what the answer's own rows say."""
    if predicted is None:
        return []
    told = [*predicted.val_warnings, *(predicted.looks[-1].warnings if block else ())]
    means = seed_means.on_val(records).values()
    full = next((m for m in means if any(r.kind is Kind.baseline for r in m.records)), None)
    is_noisy = full is not None and (full.deviation or 0.0) > predicted.max_drop
    if full is None or not (is_noisy and predicted.search) or NOISE in dict(block):
        return told
    how, spread = predicted.score, full.deviation or 0.0
    return [
        f"the baseline's own {len(full.seeds)} trainings differ by {how.drop_text(spread)} on val "
        f"(a standard deviation), and {how.short_drop(predicted.max_drop)} may be lost: a drop of "
        "that size says little; train longer, or with more seeds",
        *told,
    ]


def _handed_over(store: Store, study: str) -> dict[str, Any] | None:
    """Name the network that a study hands over."""
    record = store.answer(study)
    return None if record is None else {"network": record.network, "model": record.model}


def _as_promised(
    predicted: Predictions,
    told: Comparison | None,
    handed: Mapping[str, Any] | None,
) -> Predictions:
    """Believe of the answer what its rows say: one network is not believed by two figures."""
    if handed is None or told is None or (promise := told.promise) is None:
        return predicted
    sigma = (promise.high - promise.low) / (2 * predictions.WITHIN_80)
    one = Promised(network=handed["network"], drop=promise.drop, sigma=sigma)
    others = (other for other in predicted.promises if other.network != one.network)
    return predicted.model_copy(update={"promises": (one, *others)})


def _answers(comparison: Comparison | None) -> list[str]:
    """List the networks that a search named."""
    results = () if comparison is None else comparison.results
    return [row.network for row in results if row.role == ANSWER]


def _described(score: Score) -> dict[str, Any]:
    """Say how a score is written, and which is better."""
    words = "name word title heading unit_of_drops sign".split()
    return score.model_dump(mode="json") | {name: getattr(score, name) for name in words}


def _segments(
    store: Store, study: str, first: Record, predicted: Predictions | None
) -> list[dict[str, Any]]:
    """Name the segments with their full sizes; unnamed ones where no file says more."""
    try:
        described = files.read_fields(store.study_folder(study) / NETWORK)["segments"]
        segments = [
            {"name": str(s["name"]), "blocks": int(s["blocks"]), "channels": int(s["channels"])}
            for s in described
        ]
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        segments = []
    count = len(first.blocks)
    if len(segments) == count:
        return segments
    sensitivities = () if predicted is None else predicted.sensitivities
    named = list(dict.fromkeys(one.segment for one in sensitivities))
    if len(named) != count:
        named = [f"segment {number}" for number in range(1, count + 1)]
    modifiers = first.modifiers  # a record may be damaged: its columns may differ in length
    rows = zip(named, first.blocks, first.widths, modifiers.depth, modifiers.width, strict=False)
    return [
        {
            "name": name,
            "blocks": round(blocks / max(depth, EPS)),
            "channels": round(channels / max(width, EPS)),
        }
        for name, blocks, channels, depth, width in rows
    ]


def _thinned(predicted: Predictions, points: int) -> dict[str, Any]:
    """Thin the lattice's sample out where many studies share a page; its front stays."""
    fields = predicted.model_dump(mode="json") | {"outcome": _described(predicted.outcome)}
    lattice = fields["lattice"]
    step = -(-len(lattice["network"]) // max(points, 1))
    if step > 1:
        kept = sorted(
            _front(predicted.lattice, predicted.outcome.sign)
            | set(range(0, len(lattice["network"]), step))
        )
        columns = {key: value for key, value in lattice.items() if isinstance(value, list)}
        lattice |= {key: [value[at] for at in kept] for key, value in columns.items()}
    return fields


def _front(sample: Sample, sign: int) -> set[int]:
    """Find the points that no cheaper one is predicted to match, for each cost."""
    columns = [getattr(sample, axis) for axis in (*predictions.AXES, "latency_ms")]
    return {
        int(at)
        for costs in columns
        if costs
        for at in pareto.front(costs, sign * np.asarray(sample.mean))
    }


def _first_weights(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Keep whose weights trainings started from, if from any."""
    return {key: value for key, value in fields.items() if key == studies.FIRST_WEIGHTS}


def _about(records: Sequence[Record], fields: dict[str, Any]) -> dict[str, Any]:
    """Say what a study took: recipe, seeds, versions, devices, hours, and what failed."""
    versions: dict[str, list[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    devices = [record.device for record in records]
    reading = fields.get(studies.READING)
    lines = reading.get("text") if isinstance(reading, dict) else None
    return {
        "fields": _finite(studies.compared(fields) | _first_weights(fields)),
        "reading": [str(line) for line in lines] if isinstance(lines, list) else [],
        "epochs": sorted({record.epochs for record in records if record.epochs}),
        "seeds": sorted({record.seed for record in records}),
        "versions": versions,
        "devices": dict(Counter(device for device in devices if device != NOT_TOLD).most_common()),
        "precisions": sorted({record.precision for record in records} - {NOT_TOLD}),
        "commits": sorted({record.git_commit for record in records if record.git_commit}),
        "hours": round(sum(record.wall_s for record in records) / 3600, 4),
        "statuses": dict(Counter(record.status.value for record in records)),
        "first": min(record.started_at for record in records),
        "last": max(record.started_at for record in records),
    }


def _finite(value: Any) -> Any:
    """Write what JSON has no number for, such as infinity, as text."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
