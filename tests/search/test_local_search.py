"""Local search finds what looking at all points finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.search import local_search
from ssr_exp.search.local_search import LocalSearch
from ssr_exp.search.space import Space


def searching(own: Space, weights: Tensor, *, seed: int = 0) -> LocalSearch:
    """Prefer what a rough function of the features says, within a cost."""
    limit = float(cost.count(own.plan, own.ends).params.mean()) / 2

    def predict(points: Points) -> tuple[Tensor, Tensor]:
        params = torch.from_numpy(cost.count(own.plan, points).params)
        X = own.features(points)
        value = X @ weights + torch.sin(9 * X @ weights.flip(0))
        return torch.stack([value, value, params.log()], dim=1), params <= limit

    draw = np.random.default_rng(seed)
    return LocalSearch(own, predict, lambda goals, columns: columns[:, 0] * (1 - 2 * goals), draw)


def best(search: LocalSearch, points: Points) -> float:
    columns, allowed = search.predict(points)
    return float(columns[allowed, 0].max())


@pytest.mark.parametrize("seed", range(5))
def test_the_best_point_of_a_small_lattice_is_found(small: Space, seed: int) -> None:
    weights = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    search = searching(small, weights)
    (everything,) = small.lattice.enumerate()
    starts = np.concatenate([small.ends, small.spread(6, np.random.default_rng(seed))])
    found = search.climb(starts)
    assert len(small.once(found)) == len(found) < 512
    assert best(search, found) == pytest.approx(best(search, everything))


def test_climbs_with_goals_of_their_own_all_go_on(small: Space) -> None:
    weights = torch.tensor([0.02, -0.03, 0.04, -0.01, 0.03, -0.02, 0.01, 0.02])
    search = searching(small, weights.double())
    (everything,) = small.lattice.enumerate()
    columns, allowed = search.predict(everything)
    found = search.climb(small.lattice.points([0, 0]), torch.tensor([0, 1]))
    reached, _ = search.predict(found)
    assert float(reached[:, 0].min()) == pytest.approx(float(columns[allowed, 0].min()))
    assert best(search, found) == pytest.approx(best(search, everything))


def test_what_is_returned_is_allowed_and_the_same_for_a_seed(
    small: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_search, "MOVES", 9)
    weights = torch.ones(8, dtype=torch.float64)
    starts = small.lattice.points([0])
    found, again = (searching(small, weights, seed=3).climb(starts) for _ in range(2))
    assert np.array_equal(found, again)
    assert searching(small, weights).predict(found)[1].all()
    assert small.places(found)[1].all()


def test_where_nothing_is_allowed_no_climb_goes_on(small: Space) -> None:
    def predict(points: Points) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(points), 3), torch.zeros(len(points), dtype=torch.bool)

    rank = LocalSearch(small, predict, lambda _, columns: columns[:, 0], np.random.default_rng(0))
    assert np.array_equal(rank.climb(small.ends), small.ends)
