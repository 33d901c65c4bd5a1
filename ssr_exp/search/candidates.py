"""What a batch is chosen from: points as they are predicted, and what is trained already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.space import Numbers, Space
from ssr_exp.search.surrogate import Surrogate

Price = Callable[[Points], tuple[Tensor, Tensor]]
"""The natural logarithm of the cost of `m x S` points, `m`, and whether they keep to the caps."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Points, predicted and priced: what an acquisition chooses from.

    They are the lattice's `n` points, or a sample of one that is too large for that.

    Args:
        space: the lattice.
        surrogate: fitted; pending networks came out as predicted.
        mean: predicted outcomes, on the surrogate's scale.
        sigma: their standard deviations, or what these do not exceed: see `Surrogate.screen`.
        log_cost: of the cost that is traded, natural logarithm.
        within: whether a point keeps to the caps.
        open: whether it may be proposed: within the caps, and not yet trained.
        price: what tells `log_cost` and `within` of any points.
        taken: what may not be proposed.
        sample: the points, `n x S`; None: they are those of the lattice, in order.
    """

    space: Space
    surrogate: Surrogate
    mean: Float[Tensor, " n"]
    sigma: Float[Tensor, " n"]
    log_cost: Float[Tensor, " n"]
    within: Tensor
    open: Tensor
    price: Price
    taken: Points
    sample: Points | None = None

    @classmethod
    def from_lattice(
        cls,
        space: Space,
        surrogate: Surrogate,
        price: Price,
        *,
        taken: Sequence[Architecture],
    ) -> Candidates:
        """Predict all points; of those within the caps all are open but the `taken` ones."""
        log_cost, within = space.evaluate(price)
        mean, sigma = space.evaluate(lambda points: surrogate.screen(space.features(points)))
        is_open = within.clone()
        is_open[torch.from_numpy(space.numbers(taken))] = False
        others = cost.encode(space.plan, taken)
        return cls(space, surrogate, mean, sigma, log_cost, within, is_open, price, others)

    @classmethod
    def from_points(
        cls,
        space: Space,
        surrogate: Surrogate,
        price: Price,
        *,
        points: Points,
        taken: Points,
    ) -> Candidates:
        """Predict a sample, as `from_lattice` does with all points."""
        mean, sigma = surrogate.screen(space.features(points))
        log_cost, within = price(points)
        is_taken = torch.from_numpy(np.isin(space.keys(points), space.keys(taken)))
        is_open = within & ~is_taken
        return cls(space, surrogate, mean, sigma, log_cost, within, is_open, price, taken, points)

    def judge(self, points: Points) -> Candidates:
        """Predict other points in the same way."""
        return self.from_points(
            self.space, self.surrogate, self.price, points=points, taken=self.taken
        )

    def joined(self, points: Points) -> Candidates:
        """Add points to a sample; those that it holds are left out."""
        assert self.sample is not None
        points = self.space.once(np.concatenate([self.sample, points]))[len(self.sample) :]
        if not len(points):
            return self
        more = self.judge(points)
        names = ("mean", "sigma", "log_cost", "within", "open")
        columns: dict[str, Any] = {
            name: torch.cat([getattr(self, name), getattr(more, name)]) for name in names
        }
        return replace(self, sample=np.concatenate([self.sample, points]), **columns)

    def chunks(self) -> Iterable[tuple[slice, Points]]:
        """Yield all points in order, with their numbers as a slice."""
        if self.sample is None:
            return self.space.chunks()
        return [(slice(0, len(self.sample)), self.sample)]

    def points(self, numbers: Numbers) -> Points:
        """Look up points, `m x S`."""
        return self.space.lattice.points(numbers) if self.sample is None else self.sample[numbers]

    def numbers(self, architectures: Sequence[Architecture]) -> Numbers:
        """Find the numbers of architectures; those that are none of the points are left out."""
        if self.sample is None:
            return self.space.numbers(architectures)
        keys = self.space.keys(cost.encode(self.space.plan, architectures))
        return np.flatnonzero(np.isin(self.space.keys(self.sample), keys))

    def architectures(self, numbers: Sequence[int] | Numbers) -> list[Architecture]:
        """Look up points as architectures."""
        return cost.decode(self.space.plan, self.points(np.asarray(numbers, dtype=np.int64)))

    def features(self, numbers: Numbers) -> Float[Tensor, "m d"]:
        """Place points in the unit cube."""
        return self.space.features(self.points(numbers))

    def sigmas(self, numbers: Numbers) -> Float[Tensor, " m"]:
        """Return the standard deviations of points."""
        if self.surrogate.screens:
            return self.surrogate.predict(self.features(numbers))[1]
        return self.sigma[torch.from_numpy(np.asarray(numbers))]


@dataclass(frozen=True, eq=False)
class BatchState:
    """What is trained, or believed to be.

    Args:
        outcomes: `t` predicted means of trained networks, on the surrogate's scale.
        log_costs: `t`.
        within: whether each of the `t` keeps to the caps; the others are no rivals.
        accurate: whether each of the `t` is accurate enough.
        reference: the outcome and the log cost that a network must beat to count.
        threshold: the least outcome that is accurate enough.
        noise: the standard deviation of one training's outcome.
    """

    outcomes: Tensor
    log_costs: Tensor
    within: Tensor
    accurate: Tensor
    reference: tuple[float, float]
    threshold: float
    noise: float

    @property
    def front(self) -> Front:
        """The staircase of the best outcome at each cost."""
        kept = self.within
        return Front.from_networks(self.outcomes[kept], self.log_costs[kept], self.reference)

    @property
    def incumbent(self) -> float:
        """The log cost of the cheapest network that is accurate enough; else the reference."""
        accurate = self.log_costs[self.accurate & self.within]
        return float(accurate.min()) if len(accurate) else self.reference[1]

    def believe(self, outcome: Tensor, log_cost: Tensor) -> BatchState:
        """Add one network, as predicted."""
        return replace(
            self,
            outcomes=torch.cat([self.outcomes, outcome.reshape(1)]),
            log_costs=torch.cat([self.log_costs, log_cost.reshape(1)]),
            within=torch.cat([self.within, torch.ones(1, dtype=torch.bool)]),
            accurate=torch.cat([self.accurate, (outcome >= self.threshold).reshape(1)]),
        )
