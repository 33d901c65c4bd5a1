"""What a network costs, as a logarithm: exact where it can be counted, else predicted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from statistics import mean
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.config import CostAxis, SearchConfig, SurrogateConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import surrogate
from ssr_exp.search.history import History
from ssr_exp.search.space import Space
from ssr_exp.search.surrogate import Surrogate

log = logging.getLogger(__name__)

ENOUGH = 5  # networks with a measured latency
UNNAMED = "a device without a name"

Price = Callable[[Points], Tensor]
"""The natural logarithm of the cost of `m x S` points, `m`."""


@runtime_checkable
class Latencies(Protocol):
    """What networks take on a device; its string says on which. See `edge.latency.table`."""

    @property
    def batch(self) -> int:
        """How many samples each is given at once."""

    def measured(self) -> Mapping[Architecture, float]:
        """List the measured networks with their latency in ms."""

    def ms(self, points: Points) -> NDArray[np.float64]:
        """Tell the latency of `m x S` points in ms, `m`: measured if it was, else predicted."""

    def measure(self, architectures: Iterable[Architecture]) -> bool:
        """Measure networks that were not yet; returns whether all are measured now."""


class RecordLatencies:
    """What networks take on the device that the records have latencies of.

    Args:
        history: with those records; a surrogate of their latencies predicts the others.

    Raises:
        SsrError: if too few records have a latency, or they are of different devices.
    """

    batch = 1

    def __init__(self, history: History) -> None:
        self._history, self._measured = history, measured(history, None)
        if len(self._measured) < ENOUGH:
            raise SsrError(
                f"{len(history.with_latency())} records have a latency, and predicting it takes "
                f"{ENOUGH} networks: type latency=onnxruntime, and the search measures by itself, "
                "or measure them with ssr latency STUDY --write."
            )

    def __str__(self) -> str:
        """Name the device."""
        devices = (r.latency_device for r in self._history.records if r.latency_ms is not None)
        return next(devices) or UNNAMED

    def measured(self) -> Mapping[Architecture, float]:
        """List the measured networks with their latency in ms."""
        return self._measured

    def ms(self, points: Points) -> NDArray[np.float64]:
        """Tell the latency of `m x S` points in ms, `m`: measured if it was, else predicted."""
        space = self._history.space
        times: NDArray[np.float64] = self._fitted.predict(space.features(points))[0].exp().numpy()
        keys, known = space.keys(points), space.keys(cost.encode(space.plan, [*self._measured]))
        own = dict(zip(known.tolist(), self._measured.values(), strict=True))
        where = np.flatnonzero(np.isin(keys, known))
        times[where] = [own[key] for key in keys[where].tolist()]
        return times

    def measure(self, architectures: Iterable[Architecture]) -> bool:
        """Say whether all networks were measured; nothing is here."""
        return self._measured.keys() >= set(architectures)

    @cached_property
    def _fitted(self) -> Surrogate:
        architectures, values = zip(*self._history.with_latency(), strict=True)
        times = torch.tensor(values, dtype=torch.float64).log()
        return surrogate.fit(self._history.features(architectures), times, SurrogateConf())


def of_search(
    conf: SearchConfig, history: History, latencies: Latencies | None
) -> Latencies | None:
    """Return a device's latencies, or those of the records; None if latency does not count.

    Raises:
        SsrError: if too few records have a latency, or they are of different devices.
    """
    counts = conf.objective.cost is CostAxis.latency_ms or conf.cap.latency_ms is not None
    return RecordLatencies(history) if counts and latencies is None else latencies


def price(axis: CostAxis, history: History, latencies: Latencies | None = None) -> Price:
    """Count parameters, MACs or GeMMs, or tell the latency.

    Without those of a device, latencies are those that the records have.

    Raises:
        SsrError: if too few records have a latency, or they are of different devices.
    """
    if axis is not CostAxis.latency_ms:
        return lambda points: _counted(history.space, axis.value, points)
    times = RecordLatencies(history) if latencies is None else latencies
    return lambda points: torch.from_numpy(np.log(times.ms(points)))


def measured(history: History, latencies: Latencies | None) -> dict[Architecture, float]:
    """List the measured networks with their latency in ms; several measurements are averaged."""
    if latencies is not None:
        return dict(latencies.measured())
    times: dict[Architecture, list[float]] = {}
    for architecture, time in history.with_latency():
        times.setdefault(architecture, []).append(time)
    return {architecture: mean(some) for architecture, some in times.items()}


def measure_new(latencies: Latencies | None, architectures: Iterable[Architecture]) -> bool:
    """Measure latencies that are not known; returns whether any became known by it.

    What cannot be measured, because the machine is too noisy, stays predicted.
    """
    if latencies is None:
        return False
    times = latencies.measured()
    if not (new := [a for a in architectures if a not in times]):
        return False
    try:
        return latencies.measure(new)
    except SsrError as error:
        log.warning("latencies stay predicted: %s", error)
        return False


def _counted(space: Space, metric: str, points: Points) -> Tensor:
    counts = getattr(cost.count(space.plan, points), metric)
    return torch.from_numpy(np.log(counts.astype(np.float64)))
