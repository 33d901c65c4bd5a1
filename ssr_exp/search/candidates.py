"""What a batch is chosen from: the lattice as it is predicted, and what is trained already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.space import Numbers, Space
from ssr_exp.search.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Candidates:
    """The lattice's `n` points, predicted and priced: what an acquisition chooses from.

    Args:
        space: the lattice.
        surrogate: fitted; pending networks came out as predicted.
        mean: predicted outcomes, on the surrogate's scale.
        sigma: their standard deviations, or what these do not exceed: see `Surrogate.screen`.
        log_cost: of the cost that is traded, natural logarithm.
        within: whether a point keeps to the caps.
        open: whether it may be proposed: within the caps, and not yet trained.
    """

    space: Space
    surrogate: Surrogate
    mean: Float[Tensor, " n"]
    sigma: Float[Tensor, " n"]
    log_cost: Float[Tensor, " n"]
    within: Tensor
    open: Tensor

    @classmethod
    def from_lattice(
        cls,
        space: Space,
        surrogate: Surrogate,
        log_cost: Tensor,
        within: Tensor,
        *,
        taken: Sequence[Architecture],
    ) -> Candidates:
        """Predict all points; of those within the caps all are open but the `taken` ones."""
        mean, sigma = space.evaluate(lambda points: surrogate.screen(space.features(points)))
        is_open = within.clone()
        is_open[torch.from_numpy(space.numbers(taken))] = False
        return cls(space, surrogate, mean, sigma, log_cost, within, is_open)

    def features(self, numbers: Numbers) -> Float[Tensor, "m d"]:
        """Place points in the unit cube."""
        return self.space.features(self.space.lattice.points(numbers))

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
