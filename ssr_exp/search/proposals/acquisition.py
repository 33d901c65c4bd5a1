"""Acquisition: what a network promises, given what is predicted of it and what it costs.

Outcomes (accuracy, on the surrogate's scale) are maximised, costs are logarithms and minimised.
Cost is exact and known beforehand, so every score here has a closed form. Shapes: `n` networks,
`f` steps of the front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ssr_exp.config import Acquisition, Objective, SearchConfig
from ssr_exp.runs import pareto

CHUNK = 1 << 16  # networks that are scored at once


def kind(conf: SearchConfig) -> Acquisition:
    """Say which acquisition `auto` stands for."""
    if conf.acquisition.kind is not Acquisition.auto:
        return conf.acquisition.kind
    smallest = conf.objective.kind is Objective.smallest
    return Acquisition.smallest if smallest else Acquisition.ehvi


@dataclass(frozen=True, eq=False)
class Front:
    """The staircase of the best outcome at each cost.

    Args:
        edges: `f` log costs, ascending, at which a step begins; the first is minus infinity.
        levels: `f` outcomes, ascending; the first is the reference, below which nothing counts.
        end: the log cost at which the last step ends: the reference, above which nothing counts.
    """

    edges: Float[Tensor, " f"]
    levels: Float[Tensor, " f"]
    end: float

    @classmethod
    def from_networks(
        cls,
        outcomes: Float[Tensor, " n"],
        log_costs: Float[Tensor, " n"],
        reference: tuple[float, float],
    ) -> Front:
        """Find the staircase of networks.

        `reference` is the outcome and the log cost that a network must beat to count.
        """
        level, end = reference
        kept = (log_costs < end) & (outcomes > level)
        log_costs, outcomes = log_costs[kept], outcomes[kept]
        at = torch.from_numpy(pareto.front(log_costs.numpy(), outcomes.numpy()))
        edges, levels = _tensor([-math.inf]), _tensor([level])
        return cls(torch.cat([edges, log_costs[at]]), torch.cat([levels, outcomes[at]]), end)

    @property
    def hypervolume(self) -> float:
        """The area between the staircase, the reference outcome and the reference cost."""
        starts = self.edges[1:].tolist()
        heights = (self.levels[1:] - self.levels[0]).tolist()
        ends = [*starts, self.end][1:]
        return sum(h * (e - s) for h, s, e in zip(heights, starts, ends, strict=True))


def expected_hypervolume_improvement(
    mean: Float[Tensor, " n"],
    sigma: Float[Tensor, " n"],
    log_cost: Float[Tensor, " n"],
    *,
    front: Front,
) -> Float[Tensor, " n"]:
    """Score by how much each network is expected to raise the front's hypervolume.

    A network of cost `c` and outcome `y` adds, on each step of the front at or above `c`, a
    rectangle as long as the step's part above `c` and as high as `y` rises over it. The expected
    height is the expected improvement over that step (Jones et al. 1998), so the whole is a sum
    of `f` of them: the two-objective EHVI (Emmerich et al. 2011) where one objective is known.
    """
    ends = torch.cat([front.edges[1:], _tensor([front.end])])
    starts = torch.maximum(front.edges, log_cost[:, None])
    lengths = (ends - starts).clamp_min(0)
    return (lengths * expected_improvement(mean, sigma, front.levels)).sum(1)


def expected_improvement(
    mean: Float[Tensor, " n"], sigma: Float[Tensor, " n"], levels: Float[Tensor, " f"]
) -> Float[Tensor, "n f"]:
    """Score how far each network is expected to rise above each level (Jones et al. 1998)."""
    z = (mean[:, None] - levels) / sigma[:, None]
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return sigma[:, None] * (density + z * torch.special.ndtr(z))


def expected_saving(
    mean: Float[Tensor, " n"],
    sigma: Float[Tensor, " n"],
    log_cost: Float[Tensor, " n"],
    *,
    threshold: float,
    incumbent: float,
) -> Float[Tensor, " n"]:
    """Score the expected fall of the log cost of the cheapest network that is accurate enough.

    The constrained expected improvement (Schonlau et al. 1998; Gardner et al. 2014) of a known
    cost: the probability that the outcome reaches `threshold`, times how much cheaper the network
    is than the incumbent.

    Args:
        mean: predicted outcomes.
        sigma: standard deviations of what will be measured, with the noise of a training.
        log_cost: exact.
        threshold: the least outcome that is accurate enough.
        incumbent: the log cost of the cheapest accurate network so far.
    """
    probability = torch.special.ndtr((mean - threshold) / sigma)
    return probability * (incumbent - log_cost).clamp_min(0)


def _tensor(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
