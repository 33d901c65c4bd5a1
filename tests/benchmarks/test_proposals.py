from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import proposals, replay
from benchmarks.proposals import SMOKE, Size
from benchmarks.replay import Outcome
from ssr_exp.config import SearchConfig
from ssr_exp.search.history import History
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.space import Space


@pytest.fixture(scope="module")
def own() -> Space:
    return proposals.spanned(SMOKE.model, SMOKE.width_steps)


@pytest.fixture(scope="module")
def known(own: Space) -> History:
    return proposals.made(own, 12)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_batch_gains_agrees_with_the_areas_of_both_fronts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes, costs = rng.normal(size=(3, 4)), rng.uniform(0, 3, 4)
    pairs = zip(rng.normal(size=5), rng.uniform(0, 3, 5), strict=True)
    trained = [Outcome(*pair) for pair in pairs]
    reference = Outcome(-0.5, 2.5)
    front = Front.from_networks(
        torch.tensor([o.accuracy for o in trained]).double(),
        torch.tensor([o.log_params for o in trained]).double(),
        reference,
    )
    found = proposals.gains(torch.from_numpy(outcomes), torch.from_numpy(costs), front)
    before = replay.hypervolume(trained, reference)
    for gain, row in zip(found.tolist(), outcomes.tolist(), strict=True):
        both = trained + [Outcome(*pair) for pair in zip(row, costs.tolist(), strict=True)]
        assert gain == pytest.approx(replay.hypervolume(both, reference) - before)


def test_made_up_records_are_the_same_each_time_and_hold_the_baseline(own: Space) -> None:
    first, second = proposals.made(own, 12), proposals.made(own, 12)
    assert first.records == second.records
    assert len(first.networks) == 12
    assert own.plan.baseline in first.networks


def test_one_network_gains_what_its_score_promises(known: History) -> None:
    seen, (best,) = proposals.proposed(known, SearchConfig(), 1)
    (most,) = proposals.promising(seen, 1)
    assert most == best
    found, at = seen.candidates, torch.tensor([best])
    score = acquisition.expected_hypervolume_improvement(
        found.mean[at], found.sigma[at], found.log_cost[at], front=seen.state.front
    )
    gain = proposals.improvement(seen, np.array([best]), 65_536)
    assert gain == pytest.approx(float(score), rel=0.03)


def test_botorch_chooses_a_batch_of_the_pool(known: History) -> None:
    seen, _ = proposals.proposed(known, SearchConfig(), 1)
    pool = proposals.promising(seen, 12)
    chosen = proposals.by_botorch(seen, pool, Size(batch=3, samples=8))
    assert len(set(chosen.tolist())) == 3
    assert set(chosen.tolist()) <= set(pool.tolist())


def test_the_large_lattice_is_just_below_the_limit() -> None:
    size = Size()
    own = proposals.spanned(size.large_model, size.large_width_steps)
    assert 9e6 < len(own.lattice) <= 1e7


def test_the_huge_lattice_has_more_than_ten_to_thirty_points() -> None:
    size = Size()
    own = proposals.spanned(size.huge_model, size.huge_width_steps, "block")
    assert own.lattice.size > 10**30 and len(own.plan.segments) == 54
    assert not own.is_enumerable
