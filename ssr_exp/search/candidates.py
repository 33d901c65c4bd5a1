"""Every point of the lattice, predicted and priced: what an acquisition chooses from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.space import Numbers, Space
from ssr_exp.search.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Candidates:
    """The lattice's `n` points as the surrogate sees them.

    Args:
        space: the lattice.
        surrogate: fitted.
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

    def features(self, numbers: Numbers) -> Float[Tensor, "m d"]:
        """Place points in the unit cube."""
        return self.space.features(self.space.lattice.points(numbers))

    def rows(self, numbers: Numbers) -> Float[Tensor, "m d1"]:
        """List features and log cost of points, as the BoTorch acquisitions take them."""
        at = torch.from_numpy(np.asarray(numbers))
        return torch.cat([self.features(numbers), self.log_cost[at][:, None]], dim=1)

    def sigmas(self, numbers: Numbers) -> Float[Tensor, " m"]:
        """Return the standard deviations of points."""
        if self.surrogate.screens:
            return self.surrogate.predict(self.features(numbers))[1]
        return self.sigma[torch.from_numpy(np.asarray(numbers))]

    def close(self, numbers: Numbers) -> None:
        """Take points out of what may be proposed."""
        self.open[torch.from_numpy(np.asarray(numbers))] = False


def of(
    space: Space,
    surrogate: Surrogate,
    log_cost: Float[Tensor, " n"],
    *,
    within: Tensor,
    taken: Iterable[Architecture],
) -> Candidates:
    """Predict all points.

    Args:
        space: the lattice.
        surrogate: fitted.
        log_cost: of each point.
        within: whether each point keeps to the caps.
        taken: networks that are not to be proposed again.
    """
    mean, sigma = space.evaluate(lambda points: surrogate.screen(space.features(points)))
    found = Candidates(space, surrogate, mean, sigma, log_cost, within, within.clone())
    found.close(space.numbers(list(taken)))
    return found
