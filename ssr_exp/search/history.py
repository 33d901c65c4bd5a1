"""What the finished records of a study say, in an order that does not depend on how they came."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

import torch
from torch import Tensor

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.search.space import Space

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class History:
    """Trainings that came to an end, sorted, and what each trained; repeats among them."""

    space: Space
    records: tuple[Record, ...]
    architectures: tuple[Architecture, ...]

    def part(self, places: Sequence[int]) -> History:
        """Keep some trainings."""
        records = tuple(self.records[at] for at in places)
        return History(self.space, records, tuple(self.architectures[at] for at in places))

    def __len__(self) -> int:
        """Count the trainings."""
        return len(self.records)

    @cached_property
    def networks(self) -> tuple[Architecture, ...]:
        """The distinct networks, in order."""
        return tuple(dict.fromkeys(self.architectures))

    @cached_property
    def X(self) -> Tensor:
        """The trainings' features, `n x d`."""
        return self.features(self.architectures)

    def features(self, architectures: Sequence[Architecture]) -> Tensor:
        """Place architectures in the unit cube, `m x d`."""
        return self.space.features(cost.encode(self.space.plan, architectures))

    @property
    def score(self) -> Score:
        """How the networks are judged."""
        return self.records[0].scored_by if self.records else ACCURACY

    def values(self, outcome: Score) -> Tensor:
        """List an outcome of the trainings, in its unit, `n`.

        Raises:
            SsrError: if a training lacks it.
        """
        values = [v for r in self.records if (v := r.value(outcome.key)) is not None]
        if len(values) < len(self):
            raise SsrError(f"a record has no {outcome.key}: type surrogate.outcome=score.")
        return torch.tensor(values, dtype=torch.float64)

    def repeats(self, values: Tensor) -> list[Tensor]:
        """Group values of the trainings, `n`, by their networks, in the order of `networks`."""
        groups: dict[Architecture, list[int]] = {}
        for at, architecture in enumerate(self.architectures):
            groups.setdefault(architecture, []).append(at)
        return [values[places] for places in groups.values()]

    def scores(self) -> dict[Architecture, float]:
        """Average each network's score on val over its trainings."""
        scores: dict[Architecture, list[float]] = {}
        for architecture, record in zip(self.architectures, self.records, strict=True):
            scores.setdefault(architecture, []).append(record.score or 0.0)
        return {architecture: mean(values) for architecture, values in scores.items()}

    def with_latency(self) -> list[tuple[Architecture, float]]:
        """List the networks whose latency was measured, in ms.

        Raises:
            SsrError: if it was on different devices.
        """
        pairs = zip(self.architectures, self.records, strict=True)
        measured = [(a, r) for a, r in pairs if r.latency_ms is not None]
        devices = sorted({str(r.latency_device) for _, r in measured})
        if len(devices) > 1:
            raise SsrError(
                f"the records' latencies are of different devices ({', '.join(devices)}), which "
                "cannot be compared: measure all of them on one."
            )
        return [(a, r.latency_ms) for a, r in measured if r.latency_ms is not None]


def from_records(space: Space, records: Iterable[Record]) -> History:
    """Keep what a surrogate can learn from.

    The same training that came from two sources counts once; different results of the same
    network are repeats. A record that names no network of this plan is left out with a warning.
    """
    trainings: dict[tuple[object, ...], tuple[Record, Architecture]] = {}
    left_out: list[str] = []
    for record in records:
        if not record.is_measured:
            continue
        try:
            trainings[_key(record)] = record, space.parse(record.network)
        except SsrError as error:
            left_out.append(f"{record.network}: {error}")
    if left_out:
        log.warning("left out %d records, such as %s", len(left_out), left_out[0])
    ordered = [trainings[key] for key in sorted(trainings, key=repr)]
    return History(space, tuple(r for r, _ in ordered), tuple(a for _, a in ordered))


def unusable(records: Iterable[Record]) -> set[str]:
    """Name the networks that diverged and never finished: the same recipe would diverge again."""
    records = list(records)
    finished = {r.network for r in records if r.status is Status.finished}
    return {r.network for r in records if r.status is Status.diverged} - finished


def unmeasured(records: Iterable[Record]) -> set[str]:
    """Name the networks whose trainings diverged or failed, and none finished."""
    records = list(records)
    finished = {r.network for r in records if r.status is Status.finished}
    return {r.network for r in records} - finished


def _key(r: Record) -> tuple[object, ...]:
    return r.network, r.seed, r.epochs, r.started_at, r.score, r.val_loss
