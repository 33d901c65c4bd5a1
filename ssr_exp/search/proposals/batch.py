"""Choose a batch: the networks that promise most together, not each on its own.

The first one is the best of the whole lattice. It is then believed to come out as predicted
(Ginsbourger et al. 2010), which moves the front and narrows the uncertainty around it, and the next
one is the best of what is left. Believing can only lower what a network promises, so an old score
bounds the new one: only the networks at the top are scored again, and the choice is still that
of the whole lattice (Minoux 1978, "accelerated greedy").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ssr_exp.search.candidates import BatchState, Candidates
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.space import Numbers
from ssr_exp.search.surrogate import Surrogate

TOP = 4096  # networks that are scored again for each further member of a batch
PART = 4096  # networks of the lattice that are scored at once: what they take stays in the cache

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Score networks by predicted means, standard deviations and log costs, `n` each."""

Scores = Callable[[BatchState], tuple[Score, Score]]
"""Return how networks are scored beside what is trained, and a bound on what that can become."""


def hypervolume_scores(state: BatchState) -> tuple[Score, Score]:
    """Return the expected hypervolume improvement, twice: it bounds itself."""
    front = state.front

    def score(mean: Tensor, sigma: Tensor, log_cost: Tensor) -> Tensor:
        return acquisition.expected_hypervolume_improvement(mean, sigma, log_cost, front=front)

    return score, score


def saving_scores(state: BatchState) -> tuple[Score, Score]:
    """Return the expected saving, and a bound on what it can become.

    It counts what will be measured, noise and all, because that is what the answer is chosen by;
    the threshold is what a network must be expected to reach to be promised with confidence.
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


def choose(
    candidates: Candidates, state: BatchState, scores: Scores, *, count: int
) -> tuple[Numbers, list[float]]:
    """Choose up to `count` networks that promise something, by one of the scores above.

    Returns:
        The numbers of the chosen points, and what each of them promised when it was chosen.
    """
    bounds = torch.where(candidates.open, score_all(candidates, scores(state)[1]), -torch.inf)
    chosen: list[int] = []
    promised: list[float] = []
    surrogate = candidates.surrogate
    for _ in range(min(count, int(candidates.open.sum()))):
        best, promise = best_of(candidates, bounds, surrogate, scores(state))
        if promise <= 0:
            break
        chosen.append(best)
        promised.append(promise)
        bounds[best] = -torch.inf
        state = state.believe(candidates.mean[best], candidates.log_cost[best])
        surrogate = surrogate.believe(candidates.features(np.array([best])))
    return np.array(chosen, dtype=np.int64), promised


def best_of(
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
    scores = torch.empty_like(candidates.mean)
    mean, sigma, log_cost = candidates.mean, candidates.sigma, candidates.log_cost
    for at in range(0, len(scores), PART):
        part = slice(at, at + PART)
        scores[part] = score(mean[part], sigma[part], log_cost[part])
    return scores
