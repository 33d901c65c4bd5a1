"""Some trainings that stand for very many."""

from __future__ import annotations

import pytest
import torch

from ssr_exp.search import subset


def cube(count: int, seed: int = 0, d: int = 3) -> torch.Tensor:
    return torch.rand(count, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(X: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row) for row in X.tolist())


def test_few_are_all_kept_in_their_order() -> None:
    assert subset.representative(cube(7), 7).tolist() == list(range(7))


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_as_many_are_chosen_as_are_asked_for_each_once(count: int) -> None:
    chosen = subset.representative(cube(60), count).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count


@pytest.mark.parametrize("choose", [subset.spread, subset.representative])
def test_the_order_of_the_trainings_does_not_matter(choose: subset.Choose) -> None:
    X = torch.cat([cube(50), cube(10)])
    mixed = X[torch.randperm(60, generator=torch.Generator().manual_seed(5))]
    assert rows(X[choose(X, 20)]) == rows(mixed[choose(mixed, 20)])


def test_a_spread_holds_the_corners_and_nothing_twice() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    X = torch.cat([0.25 + 0.5 * cube(40), corners, corners])
    assert rows(X[subset.spread(X, 8)]) == rows(corners)
    assert len(subset.spread(X, 100)) == 48


def test_a_chosen_network_comes_with_its_repeats() -> None:
    X = cube(30).repeat_interleave(3, dim=0)
    chosen = (subset.representative(X, 30) // 3).tolist()
    assert all(chosen.count(network) == 3 for network in chosen)


def test_one_network_does_not_crowd_out_the_others() -> None:
    X = torch.cat([cube(1).expand(200, 3), cube(40, seed=1)])
    chosen = subset.representative(X, 30)
    assert int((chosen < 200).sum()) <= subset.REPEATS
