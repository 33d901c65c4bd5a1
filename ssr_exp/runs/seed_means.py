"""What networks score on val: the mean over their seeds, one number wherever it is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ssr_exp.runs.record import Record


@dataclass(frozen=True)
class SeedMean:
    """What a network scores on val.

    Attributes:
        records: of its trainings that were measured, in the order of their seeds.
        mean: over them.
        deviation: their standard deviation; None of a single one.
    """

    records: tuple[Record, ...]
    mean: float
    deviation: float | None

    @property
    def seeds(self) -> list[int]:
        """The seeds that it is the mean of."""
        return [record.seed for record in self.records]

    def figure(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {"mean": self.mean, "std": self.deviation, "seeds": len(self.records)}


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of several seeds; of a single one there is none."""
    return stdev(values) if len(values) > 1 else None


def on_val(records: Iterable[Record]) -> dict[str, SeedMean]:
    """Average the scores of each network over its trainings, finalists among them.

    Trainings that learned from val have no score on it, so they do not count.

    Args:
        records: of one study.

    Returns:
        The means by the networks' codes, in the order of the records.
    """
    measured: dict[str, list[Record]] = {}
    for record in records:
        if record.is_measured:
            measured.setdefault(record.network, []).append(record)
    return {network: _averaged(some) for network, some in measured.items()}


def _averaged(records: Iterable[Record]) -> SeedMean:
    ordered = tuple(sorted(records, key=lambda record: record.seed))
    values = [record.score for record in ordered if record.score is not None]
    return SeedMean(ordered, mean(values), deviation(values))
