"""What tests say of networks that were not tested: within one that lost too much nothing is enough.

A network lies within another one that has no fewer blocks and channels in any segment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import verdict
from ssr_exp.search.belief import Belief

Drops = Mapping[Architecture, float]
"""What networks lost on test; infinite where all trainings of one failed."""


def lost_too_much(belief: Belief, drops: Drops, network: Architecture) -> bool:
    """Say whether a network lost more on test than it may; failed trainings say nothing."""
    drop = drops.get(network, 0.0)
    return math.isfinite(drop) and not verdict.is_kept(drop, belief.drop)


def left(belief: Belief, drops: Drops, networks: Sequence[Architecture]) -> list[Architecture]:
    """Keep the networks that no test has refuted."""
    kept = keeps(belief, drops)(cost.encode(belief.history.space.plan, networks))
    return [network for network, is_left in zip(networks, kept.tolist(), strict=True) if is_left]


def keeps(belief: Belief, drops: Drops) -> Callable[[Points], Tensor]:
    """Return what tells of `m x S` points whether no test has refuted them."""
    plan = belief.history.space.plan
    failed = cost.encode(plan, [a for a in drops if lost_too_much(belief, drops, a)])

    def keeps(points: Points) -> Tensor:
        kept = np.ones(len(points), dtype=bool)
        for larger in failed:
            kept &= ~cost.is_within(plan, points, larger)
        return torch.from_numpy(kept)

    return keeps
