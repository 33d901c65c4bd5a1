"""What a page shows of networks and of their trainings, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from ssr_exp import terminal
from ssr_exp.errors import without_paths
from ssr_exp.runs import seed_means
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Kind, Record, Status

SIZES = "round blocks widths params macs gemms".split()
METRICS = ("score", "best_score", "val_loss")  # on val
TEST = "test_score"
RUN = "network study seed score best_score val_loss test_score device started_at".split()


def collect(
    records: Sequence[Record], settings: Sequence[str], predicted: Predictions | None = None
) -> list[dict[str, Any]]:
    """List the networks of records, each with what it costs and scores.

    What a network scores on val is the mean over all of its trainings that were measured there,
    be they of finalists or not: it is one number, wherever the page says it. Finalists stand apart
    for what they score on test, and where they learned from val.

    Args:
        records: of a study, and of its finalists.
        settings: of latencies.
        predicted: says what the study's networks take where a search measured them, and no record.
    """
    told = (predicted and predicted.latency and {predicted.latency: predicted.latencies}) or {}
    guessed = _guessed(predicted)
    groups: dict[tuple[str, str, bool], list[Record]] = {}
    measured: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        key = (record.study, record.network)
        groups.setdefault((*key, record.kind is Kind.finalist), []).append(record)
        if record.is_measured:
            measured.setdefault(key, []).append(record)
    return [
        _network(
            trainings,
            measured.get((study, network), []),
            settings,
            told if trainings[0].model == records[0].model else {},
            guessed,
        )
        for (study, network, _), trainings in groups.items()
    ]


def _network(
    records: Sequence[Record],
    measured: Sequence[Record],
    settings: Sequence[str],
    told: Mapping[str, Mapping[str, float]],
    guessed: Collection[str],
) -> dict[str, Any]:
    """Say what one network costs and scores: on val of all measured trainings, on test of these."""
    finished = [record for record in records if record.status is Status.finished]
    first = (finished or records)[0]
    times = [_mean(_latencies(r).get(setting) for r in records) for setting in settings]
    known = [told.get(setting, {}).get(first.network) for setting in settings]
    return {
        "code": first.network,
        "short": terminal.shortened(first.network),
        "model": first.model,
        "kind": first.kind.value,
        **{name: getattr(first, name) for name in SIZES},
        "latency": [b if a is None else a for a, b in zip(times, known, strict=True)],
        "latency_predicted": [
            a is None and b is not None and first.network in guessed
            for a, b in zip(times, known, strict=True)
        ],
        "seeds": [record.seed for record in finished],
        "val_seeds": sorted(record.seed for record in measured),
        "wall_s": round(sum(record.wall_s for record in records), 2),
        "status": first.status.value,
        **{metric: spread(getattr(r, metric) for r in measured) for metric in METRICS},
        TEST: spread(getattr(r, TEST) for r in finished),
    }


def _guessed(predicted: Predictions | None) -> set[str]:
    """List the networks whose latency on the search's device is predicted alone."""
    if predicted is None or predicted.timed is None:
        return set()
    return predicted.latencies.keys() - set(predicted.timed)


def spread(measured: Iterable[float | None]) -> list[float | None] | None:
    """Return mean and standard deviation; the latter is None of a single value."""
    values = [value for value in measured if value is not None]
    if not values:
        return None
    deviation = seed_means.deviation(values)
    return [_rounded(mean(values)), None if deviation is None else _rounded(deviation)]


def _rounded(value: float) -> float:
    """Keep the six digits that records have: fewer make networks equal that are not."""
    return float(f"{value:.6g}")


def _mean(measured: Iterable[float | None]) -> float | None:
    values = [value for value in measured if value is not None]
    return round(mean(values), 6) if values else None


def _latencies(record: Record) -> dict[str, float]:
    """List what was measured, in ms, by setting: a device, or a runtime on it."""
    measured = dict(record.latencies or {})
    if record.latency_device is not None and record.latency_ms is not None:
        measured.setdefault(record.latency_device, record.latency_ms)
    return measured


def latency_settings(records: Sequence[Record], predicted: Predictions | None) -> list[str]:
    """List the settings of latencies, the one with most networks first."""
    counted = Counter(setting for record in records for setting in _latencies(record))
    settings = [setting for setting, _ in counted.most_common()]
    asked = None if predicted is None else predicted.latency
    return settings if asked is None or asked in settings else [asked, *settings]


def run(record: Record, settings: Sequence[str]) -> dict[str, Any]:
    """Keep of a run what a table for download holds, and what went wrong."""
    return {
        **{name: getattr(record, name) for name in RUN},
        "epochs": record.epochs or None,  # a loop may not tell them
        "wall_s": round(record.wall_s, 2),
        "status": record.status.value,
        "kind": record.kind.value,
        "round": record.round,
        "latency": [_latencies(record).get(setting) for setting in settings],
        "latency_ms": record.latency_ms,
        "latency_device": record.latency_device,
        **({"error": without_paths(record.error)} if record.error else {}),
    }
