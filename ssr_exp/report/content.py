"""What a page shows, as plain data: networks with their trainings, and what is believed of them."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any

import ssr_exp
from ssr_exp.errors import without_paths
from ssr_exp.report import answers
from ssr_exp.runs import pareto, predictions, studies
from ssr_exp.runs.predictions import Predictions, Sample
from ssr_exp.runs.record import FINALIST, Kind, Record, Status
from ssr_exp.runs.store import Store, folder_name

log = logging.getLogger(__name__)

NETWORK = "network.json"  # of a study: its seed network, written by training
POINTS = 40_000  # of lattices that one page shows; of several studies each has its part
EPS = 1e-9
METRICS = ("val_acc", "best_val_acc", "test_acc", "val_loss")


def collect(
    store: Store,
    only: Sequence[str] = (),
    told: Mapping[str, Predictions] = MappingProxyType({}),
) -> dict[str, Any]:
    """Gather all that a page of a store's studies shows.

    Args:
        store: of the records.
        only: the names of the studies; none: all.
        told: predictions of studies, where they are not those that the store has.
    """
    by_study: dict[str, list[Record]] = {}
    for record in store.records():
        by_study.setdefault(record.study, []).append(record)
    known = studies.read_all(store.root)
    joined = answers.studies(store, by_study)
    inside = {name for names in joined.values() for name in names}
    shown = [n for n in by_study if (n in only if only else n not in inside)]
    known_told = {name: told.get(name) or predictions.latest(store, name) for name in shown}
    share = POINTS // max(sum(one is not None for one in known_told.values()), 1)
    found = [
        _study(
            store,
            name,
            _joined(by_study[name], (by_study[final] for final in joined.get(name, ()))),
            known.get(folder_name(name), {}),
            known_told[name],
            points=share,
        )
        for name in shown
    ]
    newest = sorted(found, key=lambda one: (one["has_val"], one["started_at"]), reverse=True)
    return {
        "version": ssr_exp.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "studies": newest,
    }


def _joined(records: Sequence[Record], others: Iterable[Sequence[Record]]) -> list[Record]:
    """Put a study's finalists, of other studies, behind its own records."""
    finals = (record.model_copy(update={"origin": FINALIST}) for some in others for record in some)
    return [*records, *finals]


def _study(
    store: Store,
    name: str,
    records: Sequence[Record],
    fields: dict[str, Any],
    told: Predictions | None,
    *,
    points: int,
) -> dict[str, Any]:
    own = [record for record in records if record.study == name]
    first = own[0]
    compared = answers.answer(store, name)
    settings = _settings(records, told)
    return {
        "name": name,
        "model": first.model,
        "dataset": first.dataset,
        "baseline": {axis: getattr(first, f"baseline_{axis}") for axis in predictions.AXES},
        "segments": _segments(store, name, first, told),
        "settings": settings,
        "networks": [_network(rows, settings) for rows in _grouped(records)],
        "runs": [_run(record, settings) for record in records],
        "predictions": None if told is None else _told(told, points),
        "answer": None if compared is None else compared.model_dump(),
        "about": _about(records, fields),
        "has_val": any(record.val_acc is not None for record in own),
        "started_at": max(record.started_at for record in records),
    }


def _grouped(records: Iterable[Record]) -> list[list[Record]]:
    """Put a network's trainings together; those of finalists saw other images, and stand apart."""
    groups: dict[tuple[str, str, bool], list[Record]] = {}
    for record in records:
        key = (record.study, record.network, record.kind is Kind.finalist)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _network(records: Sequence[Record], settings: Sequence[str]) -> dict[str, Any]:
    """Say what one network costs and scores, on average over its finished trainings."""
    finished = [record for record in records if record.status is Status.finished]
    first = (finished or records)[0]
    return {
        "code": first.network,
        "model": first.model,
        "kind": first.kind.value,
        "round": first.round,
        "blocks": first.blocks,
        "widths": first.widths,
        "params": first.params,
        "macs": first.macs,
        "gemms": first.gemms,
        "latency": [_mean(_latency(r, setting) for r in records) for setting in settings],
        "seeds": [record.seed for record in finished],
        "wall_s": round(sum(record.wall_s for record in records), 2),
        "status": first.status.value,
        **{metric: _spread(getattr(r, metric) for r in finished) for metric in METRICS},
    }


def _spread(values: Iterable[float | None]) -> list[float | None] | None:
    """Return mean and standard deviation; the latter is None of a single value."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return [round(mean(known), 4), round(stdev(known), 4) if len(known) > 1 else None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(mean(known), 6) if known else None


def _latency(record: Record, setting: str) -> float | None:
    known = record.latencies or {}
    if setting in known:
        return known[setting]
    return record.latency_ms if record.latency_device == setting else None


def _settings(records: Sequence[Record], told: Predictions | None) -> list[str]:
    """List the devices and runtimes that latencies are of, the one with most networks first."""
    counted: Counter[str] = Counter()
    for record in records:
        counted.update((record.latencies or {}).keys())
        if record.latency_device is not None and record.latency_device not in (
            record.latencies or {}
        ):
            counted[record.latency_device] += 1
    found = [setting for setting, _ in counted.most_common()]
    own = None if told is None else told.latency
    return found if own is None or own in found else [own, *found]


def _run(record: Record, settings: Sequence[str]) -> dict[str, Any]:
    """Keep of a run what a table for download holds, and what went wrong."""
    fields = "network study seed epochs val_acc best_val_acc val_loss test_acc device started_at"
    own: dict[str, Any] = {name: getattr(record, name) for name in fields.split()}
    own["wall_s"] = round(record.wall_s, 2)
    return own | {
        "status": record.status.value,
        "kind": record.kind.value,
        "round": record.round,
        "latency": [_latency(record, setting) for setting in settings],
        "latency_ms": record.latency_ms,
        "latency_device": record.latency_device,
        **({"error": without_paths(record.error)} if record.error else {}),
    }


def _segments(
    store: Store, study: str, first: Record, told: Predictions | None
) -> list[dict[str, Any]]:
    """Name the segments with their full sizes; unnamed ones where no file says more."""
    try:
        about = json.loads((store.study_folder(study) / NETWORK).read_bytes())
        found = [
            {"name": str(s["name"]), "blocks": int(s["blocks"]), "channels": int(s["channels"])}
            for s in about["segments"]
        ]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        found = []
    if len(found) == len(first.blocks):
        return found
    named = [] if told is None else list(dict.fromkeys(s.segment for s in told.sensitivities))
    if len(named) != len(first.blocks):
        named = [f"segment {number}" for number in range(1, len(first.blocks) + 1)]
    shares = zip(first.modifiers.depth, first.modifiers.width, strict=False)
    sizes = zip(first.blocks, first.widths, shares, strict=False)  # a record may be damaged
    return [
        {
            "name": name,
            "blocks": round(blocks / max(depth, EPS)),
            "channels": round(channels / max(width, EPS)),
        }
        for name, (blocks, channels, (depth, width)) in zip(named, sizes, strict=False)
    ]


def _told(told: Predictions, points: int) -> dict[str, Any]:
    """Thin the lattice's sample out where many studies share a page; its front stays."""
    fields = told.model_dump(mode="json")
    lattice = fields["lattice"]
    step = -(-len(lattice["network"]) // max(points, 1))
    if step > 1:
        kept = sorted(_front(told.lattice) | set(range(0, len(lattice["network"]), step)))
        columns = {key: value for key, value in lattice.items() if isinstance(value, list)}
        lattice |= {key: [value[at] for at in kept] for key, value in columns.items()}
    return fields


def _front(sample: Sample) -> set[int]:
    """Find the points that no cheaper one is predicted to match, for each cost."""
    columns = [*(getattr(sample, axis) for axis in predictions.AXES), sample.latency_ms or ()]
    return {
        at
        for costs in columns
        for at in pareto.front(
            range(len(costs)), cost=costs.__getitem__, score=sample.mean.__getitem__
        )
    }


def _about(records: Sequence[Record], fields: dict[str, Any]) -> dict[str, Any]:
    """Say what a study took: recipe, seeds, versions, devices, hours, and what failed."""
    versions: dict[str, list[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    return {
        "fields": _finite(studies.compared(fields)),
        "reading": _read(fields),
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


def _read(fields: Mapping[str, Any]) -> list[str]:
    """Take the lines that say what was read of the data set, where a study's file has them."""
    reading = fields.get(studies.READING)
    lines = reading.get("text") if isinstance(reading, dict) else None
    return [str(line) for line in lines] if isinstance(lines, list) else []


def _finite(value: Any) -> Any:
    """Write what JSON has no number for, such as infinity, as text."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
