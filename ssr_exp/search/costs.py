"""What a network costs, as a logarithm: exact where it can be counted, else predicted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from statistics import mean
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.config import CostAxis, SurrogateConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import surrogate
from ssr_exp.search.history import History
from ssr_exp.search.space import Space

log = logging.getLogger(__name__)

ENOUGH = 5  # networks with a measured latency

Price = Callable[[Points], Tensor]
"""The natural logarithm of the cost of `m x S` points, `m`."""


@runtime_checkable
class Latencies(Protocol):
    """What networks take on a device; its string says on which. See `edge.latency.table`."""

    def measured(self) -> Mapping[Architecture, float]:
        """List the measured networks with their latency in ms."""

    def ms(self, points: Points) -> NDArray[np.float64]:
        """Tell the latency of `m x S` points in ms, `m`: measured if it was, else predicted."""

    def measure(self, architectures: Iterable[Architecture]) -> bool:
        """Measure networks that were not yet; returns whether all are measured now."""


def price(axis: CostAxis, history: History, latencies: Latencies | None = None) -> Price:
    """Count parameters, MACs or GeMMs, or predict the latency.

    Without those of a device, latencies come from a surrogate of those that the records have.

    Raises:
        SsrError: if too few records have a latency, or they are of different devices.
    """
    if axis is not CostAxis.latency_ms:
        return lambda points: _counted(history.space, axis.value, points)
    if latencies is not None:
        return lambda points: torch.from_numpy(np.log(latencies.ms(points)))
    pairs = history.with_latency()
    if len({architecture for architecture, _ in pairs}) < ENOUGH:
        raise SsrError(
            f"{len(pairs)} records have a latency, and predicting it takes {ENOUGH} networks: "
            "type latency=onnxruntime, and the search measures by itself, or measure them with "
            "ssr latency STUDY --write."
        )
    architectures, values = zip(*pairs, strict=True)
    times = torch.tensor(values, dtype=torch.float64).log()
    fitted = surrogate.fit(history.features(architectures), times, SurrogateConf())
    return lambda points: fitted.predict(history.space.features(points))[0]


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
