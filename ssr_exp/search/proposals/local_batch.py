"""Choose a batch of a lattice that is too large to score all of it.

As in `ssr_exp.search.proposals.batch`, each network is the best beside those that were chosen
before it, which are believed to come out as predicted; here local search looks for it, from the
best points that are known so far.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ssr_exp.rescaling.cost import Points
from ssr_exp.search import lattice_sample
from ssr_exp.search.candidates import BatchState, Candidates
from ssr_exp.search.local_search import LocalSearch
from ssr_exp.search.proposals import batch
from ssr_exp.search.proposals.batch import Scores

BINS = 10  # of the log cost: climbs begin at the best point of each
BEST = 6  # and at the best points of all


def choose(
    candidates: Candidates, state: BatchState, scores: Scores, *, count: int, seed: int
) -> tuple[Points, list[float]]:
    """Choose up to `count` networks that promise something.

    Returns:
        The chosen points, and what each of them promised when it was chosen.
    """
    rng = np.random.default_rng(seed)
    chosen: list[Points] = [candidates.points(np.empty(0, dtype=np.int64))]
    promised: list[float] = []
    for _ in range(count):
        candidates = explored(candidates, state, scores, rng)
        bounds = _scored(candidates, scores(state)[1])
        best, promise = batch.best_of(candidates, bounds, candidates.surrogate, scores(state))
        if promise <= 0:
            break
        chosen.append(candidates.points(np.array([best])))
        promised.append(promise)
        state = state.believe(candidates.mean[best], candidates.log_cost[best])
        candidates = _believing(candidates, chosen[-1])
    return np.concatenate(chosen), promised


def explored(
    candidates: Candidates, state: BatchState, scores: Scores, draw: np.random.Generator
) -> Candidates:
    """Add to a sample the best points that local search finds by a score."""
    score = scores(state)[0]
    values = torch.where(candidates.within, batch.score_all(candidates, score), -torch.inf)

    def rank(_: Tensor, columns: Tensor) -> Tensor:
        return score(*columns.T)

    predict = lattice_sample.predictor(candidates, proposed=True)
    starts = candidates.points(_starts(values, candidates.log_cost).numpy())
    starts = candidates.space.once(np.concatenate([candidates.space.ends[:1], starts]))
    return candidates.joined(LocalSearch(candidates.space, predict, rank, draw).climb(starts))


def _scored(candidates: Candidates, score: batch.Score) -> Tensor:
    """Score the open points of a sample."""
    return torch.where(candidates.open, batch.score_all(candidates, score), -torch.inf)


def _starts(values: Tensor, log_cost: Tensor) -> Tensor:
    """Choose points to begin at, trained or not: the best ones of all, and at each cost."""
    low, high = float(log_cost.min()), float(log_cost.max())
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)[1:-1]
    bins = torch.bucketize(log_cost, edges)
    of_bins = torch.where(bins == torch.arange(BINS)[:, None], values, -torch.inf).max(dim=1)
    starts = torch.cat([values.topk(min(BEST, len(values))).indices, of_bins.indices])
    return starts[values[starts] > 0].unique()


def _believing(candidates: Candidates, chosen: Points) -> Candidates:
    """Believe that a chosen point comes out as predicted."""
    assert candidates.sample is not None
    surrogate = candidates.surrogate.believe(candidates.space.features(chosen))
    taken = np.concatenate([candidates.taken, chosen])
    return replace(candidates, surrogate=surrogate, taken=taken).judge(candidates.sample)
