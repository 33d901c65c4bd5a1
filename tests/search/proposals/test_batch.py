"""A batch is what scoring the whole lattice again for each member would choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssr_exp.config import Acquisition, Objective, SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import belief as views
from ssr_exp.search import history, surrogate
from ssr_exp.search.belief import View
from ssr_exp.search.history import History
from ssr_exp.search.proposals import batch, propose
from ssr_exp.search.space import Space
from tests.search.conftest import Tell

SCORES = {"hypervolume": batch.hypervolume_scores, "saving": batch.saving_scores}


def plain(view: View, scores: batch.Scores, count: int) -> list[int]:
    """Choose greedily, and score everything anew each time."""
    found, state, surrogate = view.candidates, view.state, view.surrogate
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


QUICK = (Acquisition.auto, Acquisition.ehvi, Acquisition.thompson)
KINDS = [
    pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in Acquisition
]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("top", [4, 64, 4096])
def test_a_lazy_choice_is_that_of_scoring_all_again(
    known: History, name: str, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "TOP", top)
    view = views.of(known, SearchConfig())
    chosen, promised = batch.choose(view.candidates, view.state, SCORES[name], count=5)
    assert chosen.tolist() == plain(view, SCORES[name], 5)
    assert len(promised) == len(chosen)


@pytest.mark.parametrize("name", SCORES)
def test_of_many_trainings_a_batch_is_chosen_and_told_as_of_few(
    known: History, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deviations that are only bounded first decide nothing."""
    monkeypatch.setattr(surrogate, "MOST", 12)
    monkeypatch.setattr(surrogate, "WITNESSES", 6)
    view = views.of(known, SearchConfig())
    X = view.candidates.features(np.arange(len(view.candidates.mean)))
    mean, sigma = view.surrogate.predict(X)
    assert float((view.candidates.sigma / sigma).mean()) > 1.1
    chosen, promised = batch.choose(view.candidates, view.state, SCORES[name], count=5)
    assert chosen.tolist() == plain(view, SCORES[name], 5)
    assert len(promised) == len(chosen)
    torch.testing.assert_close(view.candidates.sigmas(chosen), sigma[chosen])
    for pick in propose.propose(view, SearchConfig(), count=3, seed=0):
        (at,) = view.history.space.numbers([pick.architecture])
        spread = propose.WITHIN_80 * (sigma[at] ** 2 + view.surrogate.noise**2).sqrt()
        assert pick.high == pytest.approx(float(view.accuracy(mean[at] + spread)), abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_a_bound_is_never_exceeded_after_believing(known: History, name: str) -> None:
    view = views.of(known, SearchConfig())
    found, state = view.candidates, view.state
    bound = SCORES[name](state)[1](found.mean, found.sigma, found.log_cost)
    X = found.features(np.arange(len(found.mean)))
    for number in (3, 77, 300):
        state = state.believe(found.mean[number], found.log_cost[number])
        believed = view.surrogate.believe(X[[3, 77, 300]])
        value = SCORES[name](state)[0](found.mean, believed.predict(X)[1], found.log_cost)
        assert bool((value <= bound + 1e-9).all())


def conf(kind: Acquisition, objective: Objective = Objective.tradeoff) -> SearchConfig:
    asked = SearchConfig()
    asked.acquisition.kind, asked.objective.kind = kind, objective
    asked.acquisition.prefilter, asked.acquisition.samples = 30, 16
    return asked


def codes(view: View, asked: SearchConfig, count: int = 4, seed: int = 0) -> list[str]:
    picks = propose.propose(view, asked, count=count, seed=seed)
    return [view.history.space.code(pick.architecture) for pick in picks]


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_proposes_the_same_batch_of_new_networks(
    known: History, kind: Acquisition, objective: Objective
) -> None:
    asked = conf(kind, objective)
    first, second = (codes(views.of(known, asked), asked) for _ in range(2))
    assert first == second
    assert len(set(first)) == 4
    assert not set(first) & {known.space.code(a) for a in known.networks}


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_records_does_not_matter(
    small: Space, known: History, kind: Acquisition
) -> None:
    asked = conf(kind)
    shuffled = history.from_records(small, [*known.records[5:], *known.records[:5]][::-1])
    assert codes(views.of(known, asked), asked) == codes(views.of(shuffled, asked), asked)


@pytest.mark.parametrize("kind", [Acquisition.thompson, Acquisition.random])
def test_another_seed_draws_another_batch(known: History, kind: Acquisition) -> None:
    asked = conf(kind)
    view = views.of(known, asked)
    assert codes(view, asked, seed=0) != codes(view, asked, seed=1)


@pytest.mark.parametrize("kind", Acquisition)
def test_what_is_taken_or_beyond_a_cap_is_never_proposed(
    known: History, small: Space, kind: Acquisition
) -> None:
    asked = conf(kind)
    asked.cap.params = "30%"
    free = codes(views.of(known, asked), asked)
    taken = [small.parse(code) for code in free]
    again = views.of(known, asked, taken=taken)
    assert not set(codes(again, asked)) & set(free)
    full = small.baseline.params
    for code in free:
        number = int(small.numbers([small.parse(code)])[0])
        assert again.candidates.log_cost[number].exp() <= 0.3 * full * (1 + 1e-9)


def test_a_batch_of_more_than_is_left_is_what_is_left(known: History, small: Space) -> None:
    everything = small.architectures(range(len(small.lattice)))
    asked = conf(Acquisition.random)
    view = views.of(known, asked, taken=everything[:-3])
    assert set(codes(view, asked, count=9)) <= {small.code(a) for a in everything[-3:]}
    none = views.of(known, asked, taken=everything)
    assert propose.propose(none, asked, count=3, seed=0) == []


def test_the_smallest_objective_asks_for_cheaper_networks_than_the_incumbent(
    known: History,
) -> None:
    asked = conf(Acquisition.auto, Objective.smallest)
    view = views.of(known, asked)
    for pick in propose.propose(view, asked, count=4, seed=0):
        (number,) = view.history.space.numbers([pick.architecture])
        assert float(view.candidates.log_cost[number]) < view.state.incumbent
        assert pick.low < pick.mean < pick.high


def test_an_accuracy_cap_moves_the_reference(known: History) -> None:
    asked = conf(Acquisition.ehvi)
    loose = views.of(known, asked)
    asked.cap.drop = "2"
    tight = views.of(known, asked)
    assert tight.state.reference[0] > loose.state.reference[0]
    assert tight.state.front.hypervolume < loose.state.front.hypervolume


def test_any_cost_can_be_traded(small: Space, tell: Tell, first: tuple[Architecture, ...]) -> None:
    from ssr_exp.config import CostAxis

    for axis in CostAxis:
        asked = conf(Acquisition.ehvi)
        asked.objective.cost = axis
        records = [
            tell(a, latency_ms=0.5 + sum(a.blocks) / 4, latency_device="a phone") for a in first
        ]
        view = views.of(history.from_records(small, records), asked)
        assert len(codes(view, asked)) == 4


@pytest.mark.parametrize("kind", Acquisition)
def test_pending_networks_are_believed_and_not_proposed(known: History, kind: Acquisition) -> None:
    """Proposing two and then two more, with the first two pending, is proposing four."""
    asked = conf(kind)
    whole = views.of(known, asked)
    four = codes(whole, asked, count=4)
    pending = [known.space.parse(code) for code in four[:2]]
    view = views.of(known, asked, pending=pending)
    rest = codes(view, asked, count=2)
    assert not set(rest) & set(four[:2])
    if kind in (Acquisition.ehvi, Acquisition.smallest):
        assert rest == four[2:]
    assert len(view.networks) == len(whole.networks)
