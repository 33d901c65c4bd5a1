"""A batch is what scoring the whole lattice again for each member would choose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ssr_exp.config import Acquisition, CostAxis, Objective, SearchConfig
from ssr_exp.search import history, surrogate
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.promise import WITHIN_80
from ssr_exp.search.proposals import batch, propose, sampling
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell, asked

pytestmark = pytest.mark.usefixtures("unfitted")

SCORES = {"hypervolume": batch.hypervolume_scores, "saving": batch.saving_scores}


@pytest.fixture(scope="module")
def believed(known: History) -> Belief:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "fit_gpytorch_mll", lambda likelihood: likelihood)
        return Belief.from_history(known, SearchConfig())


def plain(belief: Belief, scores: batch.Scores, count: int) -> list[int]:
    """Choose greedily, and score everything anew each time."""
    found, state, surrogate = belief.candidates, belief.state, belief.surrogate
    chosen: list[int] = []
    X = found.features(np.arange(len(found.mean)))
    for _ in range(count):
        _, sigma = surrogate.predict(X)
        values = scores(state)[0](found.mean, sigma, found.log_cost)
        values[~found.open] = -torch.inf
        values[chosen] = -torch.inf
        best = int(values.argmax())
        if float(values[best]) <= 0:
            break
        chosen.append(best)
        state = state.believe(found.mean[best], found.log_cost[best])
        surrogate = surrogate.believe(X[[best]])
    return chosen


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("top", [4, 64, 4096])
def test_a_lazy_choice_is_that_of_scoring_all_again(
    believed: Belief, name: str, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "TOP", top)
    chosen, promised = batch.choose(believed.candidates, believed.state, SCORES[name], count=5)
    assert chosen.tolist() == plain(believed, SCORES[name], 5)
    assert len(promised) == len(chosen)


@pytest.mark.parametrize("name", SCORES)
def test_of_many_trainings_a_batch_is_chosen_and_told_as_of_few(
    known: History, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deviations that are only bounded first decide nothing."""
    monkeypatch.setattr(surrogate, "MOST", 12)
    monkeypatch.setattr(surrogate, "WITNESSES", 6)
    belief = Belief.from_history(known, SearchConfig())
    X = belief.candidates.features(np.arange(len(belief.candidates.mean)))
    mean, sigma = belief.surrogate.predict(X)
    assert float((belief.candidates.sigma / sigma).mean()) > 1.1
    chosen, promised = batch.choose(belief.candidates, belief.state, SCORES[name], count=5)
    assert chosen.tolist() == plain(belief, SCORES[name], 5)
    assert len(promised) == len(chosen)
    torch.testing.assert_close(belief.candidates.sigmas(chosen), sigma[chosen])
    for pick in propose.propose(belief, SearchConfig(), count=3, seed=0):
        (at,) = known.space.numbers([known.space.parse(pick.network)])
        spread = WITHIN_80 * (sigma[at] ** 2 + belief.surrogate.noise**2).sqrt()
        assert pick.high == pytest.approx(float(belief.scale.back(mean[at] + spread)), abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_a_bound_is_never_exceeded_after_believing(believed: Belief, name: str) -> None:
    belief = believed
    found, state = belief.candidates, belief.state
    bound = SCORES[name](state)[1](found.mean, found.sigma, found.log_cost)
    X = found.features(np.arange(len(found.mean)))
    for number in (3, 77, 300):
        state = state.believe(found.mean[number], found.log_cost[number])
        believed = belief.surrogate.believe(X[[3, 77, 300]])
        value = SCORES[name](state)[0](found.mean, believed.predict(X)[1], found.log_cost)
        assert bool((value <= bound + 1e-9).all())


def conf(kind: Acquisition, objective: Objective = Objective.tradeoff) -> SearchConfig:
    return asked(
        acquisition__kind=kind,
        objective__kind=objective,
        acquisition__prefilter=30,
        acquisition__samples=16,
    )


def codes(belief: Belief, conf: SearchConfig, count: int = 4, seed: int = 0) -> list[str]:
    return [pick.network for pick in propose.propose(belief, conf, count=count, seed=seed)]


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("kind", Acquisition)
def test_the_same_seed_proposes_the_same_batch_of_new_networks_in_any_order_of_records(
    small: Space, known: History, believed: Belief, kind: Acquisition, objective: Objective
) -> None:
    shuffled = history.from_records(small, [*known.records[5:], *known.records[:5]][::-1])
    asked_for = conf(kind, objective)
    one = codes(Belief.from_history(shuffled, asked_for), asked_for)
    assert one == codes(believed, asked_for)  # which differs in nothing that is proposed from
    assert len(set(one)) == 4
    assert not set(one) & {small.code(a) for a in known.networks}


@pytest.mark.parametrize("kind", [Acquisition.thompson, Acquisition.random])
def test_another_seed_draws_another_batch(believed: Belief, kind: Acquisition) -> None:
    assert codes(believed, conf(kind), seed=0) != codes(believed, conf(kind), seed=1)


@pytest.mark.parametrize("kind", Acquisition)
def test_what_is_taken_or_beyond_a_cap_is_never_proposed(
    known: History, small: Space, kind: Acquisition
) -> None:
    capped = conf(kind)
    capped.cap.params = "30%"
    free = codes(Belief.from_history(known, capped), capped)
    taken = [small.parse(code) for code in free]
    again = Belief.from_history(known, capped, excluded=taken)
    assert not set(codes(again, capped)) & set(free)
    for number in small.numbers(taken):
        assert again.candidates.log_cost[number].exp() <= 0.3 * small.baseline.params * (1 + 1e-9)


def test_what_breaks_a_cap_is_no_rival_to_qlognehvi(
    known: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    capped = conf(Acquisition.qlognehvi)
    capped.cap.params = "30%"
    belief = Belief.from_history(known, capped)
    none = replace(belief.state, within=torch.zeros_like(belief.state.within))
    seen: list[torch.Tensor] = []
    choose = sampling.qlognehvi

    def watched(*given: Any, **options: Any) -> Any:
        seen.append(given[2][:, -1] < options["reference"][1])
        return choose(*given, **options)

    monkeypatch.setattr(sampling, "qlognehvi", watched)
    assert bool(belief.state.within.any()) and not bool(belief.state.within.all())
    for state in (belief.state, none):
        assert codes(replace(belief, state=state), capped)
        assert seen.pop().tolist() == state.within.tolist()


def test_a_batch_of_more_than_is_left_is_what_is_left(known: History, small: Space) -> None:
    everything = small.architectures(range(len(small.lattice)))
    any_one = conf(Acquisition.random)
    belief = Belief.from_history(known, any_one, excluded=everything[:-3])
    assert set(codes(belief, any_one, count=9)) <= {small.code(a) for a in everything[-3:]}
    assert codes(Belief.from_history(known, any_one, excluded=everything), any_one) == []


def test_the_smallest_objective_asks_for_cheaper_networks_than_the_incumbent(
    believed: Belief,
) -> None:
    space = believed.history.space
    smallest = conf(Acquisition.auto, Objective.smallest)
    for pick in propose.propose(believed, smallest, count=4, seed=0):
        (number,) = space.numbers([space.parse(pick.network)])
        assert float(believed.candidates.log_cost[number]) < believed.state.incumbent
        assert pick.low < pick.mean < pick.high


def test_an_accuracy_cap_moves_the_reference(known: History, believed: Belief) -> None:
    tight = Belief.from_history(known, asked(cap__drop="2"))
    assert tight.state.reference[0] > believed.state.reference[0]
    assert tight.state.front.hypervolume < believed.state.front.hypervolume


@pytest.mark.parametrize("axis", CostAxis)
def test_any_cost_can_be_traded(small: Space, tell: Tell, first: First, axis: CostAxis) -> None:
    traded = asked(objective__cost=axis)
    measured = [
        tell(a, latency_ms=0.5 + sum(a.blocks) / 4, latency_device="a phone") for a in first
    ]
    belief = Belief.from_history(history.from_records(small, measured), traded)
    assert len(codes(belief, traded)) == 4


@pytest.mark.parametrize("kind", Acquisition)
def test_pending_networks_are_believed_and_not_proposed(
    known: History, believed: Belief, kind: Acquisition
) -> None:
    """Proposing two and then two more, with the first two pending, is proposing four."""
    four = codes(believed, conf(kind))
    pending = [known.space.parse(code) for code in four[:2]]
    belief = Belief.from_history(known, conf(kind), pending=pending)
    rest = codes(belief, conf(kind), count=2)
    assert not set(rest) & set(four[:2])
    if kind in (Acquisition.ehvi, Acquisition.smallest):
        assert rest == four[2:]
    assert len(belief.networks) == len(believed.networks)
