"""What a network costs, as a logarithm: exact where it can be counted, else predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ssr_exp.config import CostAxis, SurrogateConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import surrogate
from ssr_exp.search.history import History
from ssr_exp.search.space import Space

ENOUGH = 5  # networks with a measured latency

Price = Callable[[Points], Tensor]
"""The natural logarithm of the cost of `m x S` points, `m`."""


def of(axis: CostAxis, history: History) -> Price:
    """Price networks by the cost that is traded for accuracy.

    Raises:
        SsrError: if it is latency, and too few records have one.
    """
    if axis is CostAxis.latency_ms:
        return latency(history)
    return exact(history.space, axis.value)


def exact(space: Space, metric: str) -> Price:
    """Count parameters, MACs or GeMMs."""

    def price(points: Points) -> Tensor:
        counts = getattr(cost.count(space.plan, points), metric)
        return torch.from_numpy(np.log(counts.astype(np.float64)))

    return price


def latency(history: History) -> Price:
    """Predict the latency from the records that have one, by a surrogate of its logarithm.

    Raises:
        SsrError: if too few have, or they are of different devices.
    """
    measured = history.with_latency()
    if len({architecture for architecture, _ in measured}) < ENOUGH:
        raise SsrError(
            f"{len(measured)} records have a latency, and predicting it takes {ENOUGH} networks: "
            "measure more, or trade another cost with objective.cost=macs and no cap.latency_ms."
        )
    architectures, values = zip(*measured, strict=True)
    times = torch.tensor(values, dtype=torch.float64).log()
    fitted = surrogate.fit(history.features(architectures), times, SurrogateConf())
    return lambda points: fitted.predict(history.space.features(points))[0]


def of_architectures(price: Price, space: Space, architectures: Sequence[Architecture]) -> Tensor:
    """Price architectures, `m`."""
    return price(cost.encode(space.plan, architectures))
