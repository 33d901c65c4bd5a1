"""What a page shows, as plain data: networks with their trainings, and what is believed of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any

import numpy as np

import ssr_exp
from ssr_exp import files, terminal
from ssr_exp.errors import without_paths
from ssr_exp.report import answer_block, class_scores, search_results
from ssr_exp.runs import pareto, predictions, studies, study_names
from ssr_exp.runs.predictions import Predictions, Sample
from ssr_exp.runs.record import FINALIST, Kind, Record, Status
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import BEST_FOLDER, RECORD_FILE, Store, folder_name

NETWORK = "network.json"  # of a study: its seed network, written by training
POINTS = 40_000  # of lattices that one page shows; of several studies each has its part
EPS = 1e-9
ANSWER = "answer"  # a role of the last comparison
SIZES = "round blocks widths params macs gemms".split()
METRICS = ("score", "best_score", "test_score", "val_loss")
RUN = "network study seed epochs score best_score val_loss test_score device started_at".split()


def collect(
    store: Store,
    only: Sequence[str] = (),
    fresh: Mapping[str, Predictions] = MappingProxyType({}),
) -> dict[str, Any]:
    """Gather all that a page of a store's studies shows.

    Args:
        store: of the records.
        only: the names of the studies; none: all.
        fresh: predictions of studies, where they are not those that the store has.
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
) -> dict[str, Any]:
    first, *_ = searched = [record for record in records if record.study == name]
    comparison = search_results.read_comparison(store, name)
    settings = _settings(records, predicted)
    groups: dict[tuple[str, str, bool], list[Record]] = {}
    for record in records:  # those of finalists saw other images, and stand apart
        key = (record.study, record.network, record.kind is Kind.finalist)
        groups.setdefault(key, []).append(record)
    return {
        "name": name,
        "title": study_names.title(store.root, name),
        "model": first.model,
        "dataset": first.dataset,
        "score": _described(first.scored_by),
        "baseline": {axis: getattr(first, f"baseline_{axis}") for axis in predictions.AXES},
        "segments": _segments(store, name, first, predicted),
        "settings": settings,
        "networks": [_network(trainings, settings) for trainings in groups.values()],
        "runs": [_run(record, settings) for record in records],
        "predictions": None if predicted is None else _thinned(predicted, points),
        "answer": None if comparison is None else comparison.model_dump(),
        "handed_over": _handed_over(store, name),
        "block": answer_block.read(store, name, place=answer_block.place_on_a_page(store)),
        "classes": class_scores.collect(store, name, searched, _answers(comparison)),
        "picture": search_results.read_picture(store, name),
        "about": _about(records, fields),
        "has_val": any(record.score is not None for record in searched),
        "started_at": max(record.started_at for record in records),
    }


def _handed_over(store: Store, study: str) -> dict[str, Any] | None:
    """Name the network that a study hands over."""
    folder = store.study_folder(study) / BEST_FOLDER
    record = store.read(folder) if (folder / RECORD_FILE).exists() else None
    return None if record is None else {"network": record.network, "model": record.model}


def _answers(comparison: search_results.Comparison | None) -> list[str]:
    """List the networks that a search named."""
    results = () if comparison is None else comparison.results
    return [row.network for row in results if row.role == ANSWER]


def _described(score: Score) -> dict[str, Any]:
    """Say how a score is written, and which is better."""
    words = "name word title heading unit_of_drops sign".split()
    return score.model_dump(mode="json") | {name: getattr(score, name) for name in words}


def _network(records: Sequence[Record], settings: Sequence[str]) -> dict[str, Any]:
    """Say what one network costs and scores, on average over its finished trainings."""
    finished = [record for record in records if record.status is Status.finished]
    first = (finished or records)[0]
    return {
        "code": first.network,
        "short": terminal.shortened(first.network),
        "model": first.model,
        "kind": first.kind.value,
        **{name: getattr(first, name) for name in SIZES},
        "latency": [_mean(_latencies(r).get(setting) for r in records) for setting in settings],
        "seeds": [record.seed for record in finished],
        "wall_s": round(sum(record.wall_s for record in records), 2),
        "status": first.status.value,
        **{metric: _spread(getattr(r, metric) for r in finished) for metric in METRICS},
    }


def _spread(measured: Iterable[float | None]) -> list[float | None] | None:
    """Return mean and standard deviation; the latter is None of a single value."""
    values = [value for value in measured if value is not None]
    if not values:
        return None
    return [_rounded(mean(values)), _rounded(stdev(values)) if len(values) > 1 else None]


def _rounded(value: float) -> float:
    """Round to 4 digits after the point; small numbers to 6 digits."""
    return round(value, 4) if abs(value) >= 0.1 else float(f"{value:.6g}")


def _mean(measured: Iterable[float | None]) -> float | None:
    values = [value for value in measured if value is not None]
    return round(mean(values), 6) if values else None


def _latencies(record: Record) -> dict[str, float]:
    """List what was measured, in ms, by setting: a device, or a runtime on it."""
    measured = dict(record.latencies or {})
    if record.latency_device is not None and record.latency_ms is not None:
        measured.setdefault(record.latency_device, record.latency_ms)
    return measured


def _settings(records: Sequence[Record], predicted: Predictions | None) -> list[str]:
    """List the settings of latencies, the one with most networks first."""
    counted = Counter(setting for record in records for setting in _latencies(record))
    settings = [setting for setting, _ in counted.most_common()]
    asked = None if predicted is None else predicted.latency
    return settings if asked is None or asked in settings else [asked, *settings]


def _run(record: Record, settings: Sequence[str]) -> dict[str, Any]:
    """Keep of a run what a table for download holds, and what went wrong."""
    return {
        **{name: getattr(record, name) for name in RUN},
        "wall_s": round(record.wall_s, 2),
        "status": record.status.value,
        "kind": record.kind.value,
        "round": record.round,
        "latency": [_latencies(record).get(setting) for setting in settings],
        "latency_ms": record.latency_ms,
        "latency_device": record.latency_device,
        **({"error": without_paths(record.error)} if record.error else {}),
    }


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
    reading = fields.get(studies.READING)
    lines = reading.get("text") if isinstance(reading, dict) else None
    return {
        "fields": _finite(studies.compared(fields) | _first_weights(fields)),
        "reading": [str(line) for line in lines] if isinstance(lines, list) else [],
        "epochs": sorted({record.epochs for record in records}),
        "seeds": sorted({record.seed for record in records}),
        "versions": versions,
        "devices": dict(Counter(record.device for record in records).most_common()),
        "precisions": sorted({record.precision for record in records}),
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
