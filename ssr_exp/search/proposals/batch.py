"""Choose a batch: the networks that promise most together, not each on its own.

The first one is the best of the whole lattice. It is then believed to come out as predicted
(Ginsbourger et al. 2010), which moves the front and narrows the uncertainty around it, and the next
one is the best of what is left. Believing can only lower what a network promises, so an old score
bounds the new one: only the networks at the top are scored again, and the choice is still that
of the whole lattice (Minoux 1978, "accelerated greedy").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ssr_exp.search.candidates import Candidates
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.space import Numbers
from ssr_exp.search.surrogate import Surrogate

TOP = 4096  # networks that are scored again for each further member of a batch
PART = 4096  # networks of the lattice that are scored at once: what they take stays in the cache

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Score networks by predicted means, standard deviations and log costs, `n` each."""


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
        return acquisition.front(
            self.outcomes[kept], self.log_costs[kept], reference=self.reference
        )

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


def hypervolume_scores(state: BatchState) -> tuple[Score, Score]:
    """Return the expected hypervolume improvement, twice: it bounds itself."""
    front = state.front

    def score(mean: Tensor, sigma: Tensor, log_cost: Tensor) -> Tensor:
        return acquisition.expected_hypervolume_improvement(mean, sigma, log_cost, front=front)

    return score, score


def saving_scores(state: BatchState) -> tuple[Score, Score]:
    """Return the expected saving, and a bound on what it can become.

    It counts what will be measured, noise and all, because that is what the answer is chosen by.
    The probability of a network that is expected to be accurate enough may still rise, as it
    becomes more certain; that of any other only falls.
    """
    threshold, incumbent, noise = state.threshold, state.incumbent, state.noise

    def score(mean: Tensor, sigma: Tensor, log_cost: Tensor) -> Tensor:
        measured = (sigma.square() + noise**2).sqrt()
        return acquisition.expected_saving(
            mean, measured, log_cost, threshold=threshold, incumbent=incumbent
        )

    def bound(mean: Tensor, sigma: Tensor, log_cost: Tensor) -> Tensor:
        return score(mean, torch.where(mean >= threshold, 0.0, sigma), log_cost)

    return score, bound


Scores = Callable[[BatchState], tuple[Score, Score]]


def choose(
    candidates: Candidates, state: BatchState, scores: Scores, *, count: int
) -> tuple[Numbers, list[float]]:
    """Choose up to `count` networks that promise something.

    Args:
        candidates: the lattice.
        state: what is trained.
        scores: `hypervolume_scores` or `saving_scores`.
        count: networks.

    Returns:
        The numbers of the chosen points, and what each of them promised when it was chosen.
    """
    bounds = _masked(score_all(candidates, scores(state)[1]), candidates)
    chosen: list[int] = []
    promised: list[float] = []
    surrogate = candidates.surrogate
    for _ in range(min(count, int(candidates.open.sum()))):
        best, promise = _best(candidates, bounds, surrogate, scores(state))
        if promise <= 0:
            break
        chosen.append(best)
        promised.append(promise)
        bounds[best] = -torch.inf
        state = state.believe(candidates.mean[best], candidates.log_cost[best])
        surrogate = surrogate.believe(candidates.features(np.array([best])))
    return np.array(chosen, dtype=np.int64), promised


def _best(
    candidates: Candidates, bounds: Tensor, surrogate: Surrogate, scores: tuple[Score, Score]
) -> tuple[int, float]:
    """Find the open point with the highest score.

    `bounds` holds what no score exceeds; where a point is scored, its bound is tightened.
    """
    score, bound = scores
    left = bounds.clone()
    best, promise, size = -1, -torch.inf, TOP
    while float(left.max()) > promise:
        numbers = torch.topk(left, min(size, len(left))).indices
        numbers = numbers[left[numbers].isfinite()]
        _, sigma = surrogate.predict(candidates.features(numbers.numpy()))
        mean, log_cost = candidates.mean[numbers], candidates.log_cost[numbers]
        values = score(mean, sigma, log_cost)
        at = int(values.argmax())
        if float(values[at]) > promise:
            best, promise = int(numbers[at]), float(values[at])
        bounds[numbers] = torch.minimum(bounds[numbers], bound(mean, sigma, log_cost))
        left[numbers] = -torch.inf
        size = min(4 * size, acquisition.CHUNK)
    return best, promise


def score_all(candidates: Candidates, score: Score) -> Tensor:
    """Score the whole lattice, a part at a time."""
    found = torch.empty_like(candidates.mean)
    for at in range(0, len(found), PART):
        part = slice(at, at + PART)
        found[part] = score(
            candidates.mean[part], candidates.sigma[part], candidates.log_cost[part]
        )
    return found


def _masked(values: Tensor, candidates: Candidates) -> Tensor:
    return torch.where(candidates.open, values, -torch.inf)
