"""A sample of a lattice that is too large to predict all of it.

It holds points of all sizes, the networks that are trained, and the predicted front, which local
search climbs to: at each of some levels of the cost, the point that is expected to be best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import pareto
from ssr_exp.search.candidates import Candidates, Price
from ssr_exp.search.local_search import LocalSearch, Predict
from ssr_exp.search.space import Space
from ssr_exp.search.surrogate import Surrogate

DRAWN = 10_000  # points of all sizes
LEVELS = 20  # of the cost, at which the front is climbed to
ROUNDS = 2  # of looking around the front
MEMBERS = 32  # of the front that are looked around
NEAR = 8  # points that a climb for one best point begins at
HOPELESS = 1e6  # below any log cost: what is not expected to reach an outcome


def draw(
    space: Space,
    surrogate: Surrogate,
    price: Price,
    *,
    trained: Sequence[Architecture],
    taken: Sequence[Architecture],
    seed: int,
) -> Candidates:
    """Draw a sample and predict it; its front is that within the caps."""
    rng = np.random.default_rng(seed)
    own = cost.encode(space.plan, trained)
    _, inside = space.places(own)
    points = space.once(np.concatenate([space.ends, own[inside], space.spread(DRAWN, rng)]))
    candidates = Candidates.from_points(
        space, surrogate, price, points=points, taken=cost.encode(space.plan, taken)
    )
    return with_front_within(candidates, rng) if candidates.within.any() else candidates


def with_front_within(candidates: Candidates, draw: np.random.Generator) -> Candidates:
    """Add to a sample the predicted front within the caps: what is best at each cost."""
    within, log_cost, mean = candidates.within, candidates.log_cost, candidates.mean
    low, high = float(log_cost[within].min()), float(log_cost[within].max())
    if high <= low:
        return _completed(candidates, draw)
    levels = torch.linspace(low, high, LEVELS, dtype=torch.float64)[1:]
    below = torch.where(within & (log_cost <= levels[:, None]), mean, -torch.inf)
    starts = candidates.points(below.argmax(dim=1).numpy())

    def rank(goals: Tensor, columns: Tensor) -> Tensor:
        return torch.where(columns[:, 2] <= levels[goals], columns[:, 0], -torch.inf)

    predict = predictor(candidates, proposed=False)
    climbed = LocalSearch(candidates.space, predict, rank, draw).climb(
        starts, torch.arange(len(levels))
    )
    return _completed(candidates.joined(climbed), draw)


def _completed(candidates: Candidates, draw: np.random.Generator) -> Candidates:
    """Add what lies on a sample's front, or beyond it, around points of the front."""
    search = LocalSearch(
        candidates.space,
        predictor(candidates, proposed=False),
        lambda _, columns: columns[:, 0],
        draw,
    )
    for _ in range(ROUNDS):
        best = _front(candidates)
        some = best[np.linspace(0, len(best) - 1, min(MEMBERS, len(best))).round().astype(int)]
        around = candidates.judge(search.neighbours(candidates.points(some)))
        candidates = candidates.joined(around.points(_front(around)))
    return candidates


def _front(candidates: Candidates) -> NDArray[np.int64]:
    """Find the numbers of a sample's front within the caps."""
    numbers = torch.nonzero(candidates.within).flatten().numpy()
    costs, means = candidates.log_cost.numpy()[numbers], candidates.mean.numpy()[numbers]
    return numbers[pareto.front(costs, means)]


def with_front(
    candidates: Candidates, log_cost: Callable[[Points], Tensor], draw: np.random.Generator
) -> Candidates:
    """Add to a sample the predicted front for another cost, whatever the caps."""
    assert candidates.sample is not None

    def price(points: Points) -> tuple[Tensor, Tensor]:
        return log_cost(points), torch.ones(len(points), dtype=torch.bool)

    priced, within = price(candidates.sample)
    others = replace(candidates, price=price, log_cost=priced, within=within)
    grown = with_front_within(others, draw)
    assert grown.sample is not None
    return candidates.joined(grown.sample[len(priced) :])


def with_cheapest(
    candidates: Candidates,
    threshold: float,
    draw: np.random.Generator,
    keeps: Callable[[Points], Tensor],
) -> Candidates:
    """Add to a sample the cheapest point within the caps that is expected to reach an outcome.

    `keeps` tells which of `m x S` points may be that one.
    """

    def rank(_: Tensor, columns: Tensor) -> Tensor:
        mean, _, log_cost = columns.T
        return torch.where(mean >= threshold, -log_cost, mean - threshold - HOPELESS)

    columns = torch.stack([candidates.mean, candidates.sigma, candidates.log_cost], dim=1)
    assert candidates.sample is not None
    allowed = candidates.within & keeps(candidates.sample)
    ranks = torch.where(allowed, rank(columns, columns), -torch.inf)
    starts = candidates.points(ranks.topk(min(NEAR, len(ranks))).indices.numpy())
    predict = predictor(candidates, proposed=False)

    def judge(points: Points) -> tuple[Tensor, Tensor]:
        columns, within = predict(points)
        return columns, within & keeps(points)

    return candidates.joined(LocalSearch(candidates.space, judge, rank, draw).climb(starts))


def with_fastest(
    candidates: Candidates, log_time: Callable[[Points], Tensor], draw: np.random.Generator
) -> Candidates:
    """Add to a sample the points that take least time, and then the front if any keeps the caps."""
    candidates = candidates.joined(fastest(candidates.space, log_time))
    return with_front_within(candidates, draw) if candidates.within.any() else candidates


def fastest(space: Space, log_cost: Callable[[Points], Tensor]) -> Points:
    """Climb to the points of a lattice that cost least, the cheapest first."""

    def predict(points: Points) -> tuple[Tensor, Tensor]:
        columns = torch.zeros(len(points), 3, dtype=torch.float64)
        columns[:, 2] = log_cost(points)
        return columns, torch.ones(len(points), dtype=torch.bool)

    rng = np.random.default_rng(0)
    starts = space.once(np.concatenate([space.ends, space.spread(NEAR, rng)]))
    points = LocalSearch(space, predict, lambda _, columns: -columns[:, 2], rng).climb(starts)
    return points[log_cost(points).argsort().numpy()]


def predictor(candidates: Candidates, *, proposed: bool) -> Predict:
    """Return what local search asks of points; `proposed` ones must be open."""

    def predict(points: Points) -> tuple[Tensor, Tensor]:
        judged = candidates.judge(points)
        columns = torch.stack([judged.mean, judged.sigma, judged.log_cost], dim=1)
        return columns, judged.open if proposed else judged.within

    return predict
