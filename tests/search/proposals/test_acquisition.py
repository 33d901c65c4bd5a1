"""Closed forms against Monte Carlo, and the laws of the front."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_exp.config import SurrogateConf
from ssr_exp.search import surrogate
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.surrogate import Surrogate

points = st.lists(
    st.tuples(st.floats(-3, 3, width=32), st.floats(0, 9, width=32)), min_size=1, max_size=12
)


def front(pairs: list[tuple[float, float]], reference: tuple[float, float] = (-4.0, 10.0)) -> Front:
    outcomes, costs = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(1)
    return Front.from_networks(outcomes, costs, reference)


def doubles(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def area(pairs: list[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area that points dominate, on a grid of their own coordinates."""
    level, end = reference
    costs = sorted({c for _, c in pairs if c < end} | {end})
    total = 0.0
    for left, right in itertools.pairwise(costs):
        best = max((y for y, c in pairs if c <= left), default=level)
        total += (right - left) * max(best - level, 0.0)
    return total


@given(points)
def test_the_hypervolume_is_the_area_that_the_points_dominate(
    pairs: list[tuple[float, float]],
) -> None:
    assert front(pairs).hypervolume == pytest.approx(area(pairs, (-4.0, 10.0)), abs=1e-9)


@given(points)
def test_a_front_rises_with_its_cost(pairs: list[tuple[float, float]]) -> None:
    found = front(pairs)
    assert bool((found.levels.diff() > 0).all())
    assert bool((found.edges.diff() >= 0).all())
    assert found.edges[0] == -math.inf


@given(points)
def test_the_order_of_points_does_not_change_a_front(pairs: list[tuple[float, float]]) -> None:
    assert torch.equal(front(pairs).levels, front(pairs[::-1]).levels)


def test_what_is_worse_than_the_reference_is_not_on_the_front() -> None:
    found = front([(-5.0, 1.0), (1.0, 11.0)])
    assert found.levels.tolist() == [-4.0]
    assert found.hypervolume == 0


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(points, st.floats(-3, 3), st.floats(0.05, 2), st.floats(0, 9.5))
def test_the_closed_form_equals_monte_carlo_within_its_error(
    pairs: list[tuple[float, float]], mean: float, sigma: float, log_cost: float
) -> None:
    one = doubles(mean, sigma, log_cost)
    exact = acquisition.expected_hypervolume_improvement(*one, front=front(pairs))
    before = area(pairs, (-4.0, 10.0))
    uniform = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000  # a stratified sample
    draws = mean + sigma * math.sqrt(2) * torch.erfinv(2 * uniform - 1)
    gains = torch.tensor(
        [area([*pairs, (y, log_cost)], (-4.0, 10.0)) - before for y in draws.tolist()]
    )
    assert float(exact) == pytest.approx(float(gains.mean()), rel=0.02, abs=1e-3)


def test_a_certain_network_gains_just_the_area_that_it_adds() -> None:
    found = front([(0.0, 5.0)])
    one = doubles(1.0, 1e-9, 4.0)
    gain = acquisition.expected_hypervolume_improvement(*one, front=found)
    whole = area([(0.0, 5.0), (1.0, 4.0)], (-4.0, 10.0))
    assert float(gain) == pytest.approx(whole - found.hypervolume, abs=1e-6)


def test_a_network_that_costs_more_than_the_reference_gains_nothing() -> None:
    one = doubles(3.0, 1.0, 10.5)
    gain = acquisition.expected_hypervolume_improvement(*one, front=front([]))
    assert float(gain) == 0


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(0.05, 2), st.floats(0, 9), st.floats(-2, 2), st.floats(0, 9))
def test_the_expected_saving_equals_its_integral(
    mean: float, sigma: float, log_cost: float, threshold: float, incumbent: float
) -> None:
    one = doubles(mean, sigma, log_cost)
    exact = acquisition.expected_saving(*one, threshold=threshold, incumbent=incumbent)
    normal = torch.distributions.Normal(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64)
    )
    feasible = 1 - float(normal.cdf(torch.tensor(threshold, dtype=torch.float64)))
    assert float(exact) == pytest.approx(feasible * max(incumbent - log_cost, 0), abs=1e-9)


@pytest.fixture(scope="module")
def fitted() -> Surrogate:
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(12, 3, generator=generator, dtype=torch.float64)
    return surrogate.fit(X, (3 * X).sin().sum(1), SurrogateConf())


def rows(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    X = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    return torch.cat([X[:, :3], 8 * X[:, 3:]], dim=1)


def test_a_believed_network_gains_nothing_more(fitted: Surrogate) -> None:
    trained, candidates = rows(6), rows(40)

    def gains(believed: torch.Tensor) -> torch.Tensor:
        known = torch.cat([trained, believed])
        front = Front.from_networks(fitted.predict(known[:, :3])[0], known[:, 3], (0.0, 10.0))
        mean, sigma = fitted.believe(believed[:, :3]).predict(candidates[:, :3])
        return acquisition.expected_hypervolume_improvement(
            mean, sigma, candidates[:, 3], front=front
        )

    before, after = gains(candidates[:0]), gains(candidates[:1])
    assert bool((after <= before + 1e-9).all())
    assert float(after[0]) < 0.25 * float(before[0]) + 1e-9
