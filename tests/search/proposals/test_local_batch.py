"""Batches of lattices that are too large to look at all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssr_exp.config import Acquisition, Arm, Objective, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.record import Record
from ssr_exp.search import (
    answer,
    history,
    lattice_sample,
    local_search,
    other_networks,
    space,
    summary,
)
from ssr_exp.search.belief import Belief
from ssr_exp.search.caps import check_latency_cap
from ssr_exp.search.history import History
from ssr_exp.search.proposals import propose
from ssr_exp.search.space import Space
from tests.search.conftest import Tell, asked

pytestmark = pytest.mark.usefixtures("unfitted")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few points of any lattice."""
    monkeypatch.setattr(space, "LIMIT", 100)
    monkeypatch.setattr(lattice_sample, "DRAWN", 60)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look around little."""
    monkeypatch.setattr(lattice_sample, "DRAWN", 300)
    monkeypatch.setattr(lattice_sample, "LEVELS", 4)
    monkeypatch.setattr(lattice_sample, "ROUNDS", 1)
    monkeypatch.setattr(local_search, "MOVES", 60)
    monkeypatch.setattr(local_search, "STEPS", 4)


@functools.cache
def huge() -> Space:
    """4.7e+21 networks: a width for each of 27 blocks."""
    plan = planning.trace(CifarResNet(56), (3, 8, 8), multiple=4, kind="block")
    return space.from_plan(plan, width_steps=8)


def architectures(count: int) -> list[Architecture]:
    points = huge().spread(count, np.random.default_rng(1))
    return cost.decode(huge().plan, np.concatenate([huge().ends, points]))


@pytest.fixture
def trained(make_record: Callable[..., Record]) -> History:
    """Thirty networks of the huge lattice; wide ones are better."""
    own = huge()

    def told(a: Architecture) -> Record:
        counted = cost.count_one(own.plan, a)._asdict()
        share = float(own.features(cost.encode(own.plan, [a])).mean())
        accuracy = 90 - 20 * (1 - share) ** 2
        return make_record(network=own.code(a), val_acc=accuracy, **counted)

    return history.from_records(own, [told(a) for a in architectures(30)])


def codes(belief: Belief, conf: SearchConfig, count: int = 4, seed: int = 0) -> list[str]:
    return [one.network for one in propose.propose(belief, conf, count=count, seed=seed)]


@pytest.mark.parametrize("objective", Objective)
def test_local_search_proposes_what_looking_at_all_points_proposes(
    known: History, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = asked(objective__kind=objective, objective__max_drop="3")
    whole = propose.propose(Belief.from_history(known, conf), conf, count=4, seed=0)
    monkeypatch.setattr(space, "LIMIT", 100)
    monkeypatch.setattr(lattice_sample, "DRAWN", 60)
    belief = Belief.from_history(known, conf)
    assert belief.candidates.sample is not None
    assert len(belief.candidates.sample) < 512
    part = propose.propose(belief, conf, count=4, seed=0)
    assert [one.network for one in part] == [one.network for one in whole]
    for one, other in zip(part, whole, strict=True):
        assert one.promise == pytest.approx(other.promise, rel=1e-6)
        assert (one.low, one.mean, one.high) == pytest.approx((other.low, other.mean, other.high))


class Rugged:
    """A device where one network is fast, and others are the slower the less they are like it."""

    batch = 1

    def __init__(self, own: Space, fast: Architecture) -> None:
        self.own, self.at = own, own.features(cost.encode(own.plan, [fast]))

    def measured(self) -> dict[Architecture, float]:
        return {}

    def ms(self, points: cost.Points) -> NDArray[np.float64]:
        far: NDArray[np.float64] = (self.own.features(points) - self.at).abs().sum(1).numpy()
        return 1 + far

    def measure(self, architectures: Iterable[Architecture]) -> bool:
        return False


def test_a_cap_that_the_fastest_network_alone_keeps_is_kept(
    small: Space, known: History, few: None
) -> None:
    drawn = Belief.from_history(known, SearchConfig()).candidates
    numbers = range(len(small.lattice))
    fast = next(a for a in small.architectures(numbers) if not len(drawn.numbers([a])))
    conf, device = asked(cap__latency_ms="1.01"), Rugged(small, fast)
    found = Belief.from_history(known, conf, latencies=device).candidates
    assert found.architectures(np.flatnonzero(found.within.numpy())) == [fast]
    with pytest.raises(SsrError, match=r"was found that keeps to cap.latency_ms=0.9: the fastest"):
        Belief.from_history(known, asked(cap__latency_ms="0.9"), latencies=device)


def test_the_cheapest_expected_network_is_that_of_all_points(
    known: History, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = asked(objective__max_drop="3", cap__params="60%")
    sampled = other_networks.predicted(Belief.from_history(known, conf))
    monkeypatch.setattr(space, "LIMIT", 512)
    whole = other_networks.predicted(Belief.from_history(known, conf))
    assert sampled is not None and whole is not None
    assert sampled[0] == whole[0] and sampled[1] == pytest.approx(whole[1])


def test_the_front_is_looked_for_though_one_point_of_the_sample_keeps_the_cap(
    small: Space, known: History, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lattice_sample, "DRAWN", 1)
    sizes = sorted(cost.count(small.plan, cost.encode(small.plan, known.networks)).params)
    conf = asked(cap__params=str(sizes[1] - 1))
    sampled = Belief.from_history(known, conf).candidates
    monkeypatch.setattr(space, "LIMIT", 512)
    whole = Belief.from_history(known, conf).candidates
    assert int(whole.within.sum()) > 1
    best = [float(one.mean[one.within].max()) for one in (sampled, whole)]
    assert best[0] == pytest.approx(best[1])


def test_what_was_not_found_is_not_said_not_to_be(small: Space, few: None) -> None:
    def price(points: cost.Points) -> torch.Tensor:
        return torch.from_numpy(points.sum(axis=1).astype(float))

    with pytest.raises(SsrError, match=r"no network was found that keeps .*: the fastest that was"):
        check_latency_cap(small, 0.1, price)


@pytest.mark.parametrize("kind", [k for k in Acquisition if k is not Acquisition.auto])
def test_every_acquisition_proposes_new_networks_within_the_caps_of_a_huge_lattice(
    trained: History, kind: Acquisition, quick: None
) -> None:
    conf = asked(
        acquisition__kind=kind,
        acquisition__prefilter=40,
        acquisition__samples=16,
        cap__params="30%",
    )
    excluded = architectures(40)[-10:]
    belief = Belief.from_history(trained, conf, excluded=excluded)
    picks = codes(belief, conf, 3)
    parsed = [huge().parse(code) for code in picks]
    assert len(set(parsed)) == 3 and not {*parsed} & {*trained.networks, *excluded}
    limit = 0.3 * huge().baseline.params
    assert max(cost.count_one(huge().plan, a).params for a in parsed) <= limit
    assert codes(belief, conf, 3) == picks


def test_a_cap_that_the_smallest_network_alone_keeps_leaves_that_one(
    trained: History, quick: None
) -> None:
    own = huge()
    smallest = int(cost.count(own.plan, own.ends).params[0])
    without = trained.part([at for at, a in enumerate(trained.architectures) if a not in ends()])
    conf = asked(cap__params=str(smallest + 1), acquisition__kind=Acquisition.random)
    base = trained.part([trained.architectures.index(own.plan.baseline)])
    known = history.from_records(own, [*without.records, *base.records])
    belief = Belief.from_history(known, conf)
    (only,) = codes(belief, conf, 50)
    assert cost.count_one(own.plan, own.parse(only)).params == smallest
    assert codes(Belief.from_history(trained, conf), conf) == []
    with pytest.raises(SsrError, match=rf"cap.params={smallest - 1:,}: .* has {smallest:,} para"):
        Belief.from_history(known, asked(cap__params=str(smallest - 1)))


def ends() -> list[Architecture]:
    return cost.decode(huge().plan, huge().ends)


def test_a_batch_that_is_larger_than_what_is_left_is_all_that_is_left(
    small: Space, tell: Tell, known: History, few: None
) -> None:
    limit = sorted(cost.count(small.plan, next(small.lattice.enumerate())).params)[9]
    conf = asked(cap__params=str(limit), acquisition__kind=Acquisition.random)
    assert 0 < len(codes(Belief.from_history(known, conf), conf, 100)) <= 10


def test_records_off_the_lattice_teach_and_are_not_proposed(
    small: Space, tell: Tell, known: History, few: None
) -> None:
    finer = space.from_plan(small.plan, width_steps=16)
    off = [
        a
        for a in finer.architectures(range(0, 4000, 40))
        if not small.places(cost.encode(small.plan, [a]))[1][0]
    ][:5]
    assert off
    trained = history.from_records(small, [*known.records, *map(tell, off)])
    belief = Belief.from_history(trained, SearchConfig())
    assert small.places(belief.candidates.points(np.arange(20)))[1].all()
    assert not {small.parse(c) for c in codes(belief, SearchConfig())} & set(off)


def test_the_page_of_a_huge_lattice_lists_a_sample_with_its_size(
    trained: History, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST", 250)
    belief = Belief.from_history(trained, SearchConfig())
    told = summary.summarise(belief, SearchConfig())
    again = type(told).model_validate_json(told.model_dump_json())
    assert again.lattice.size == huge().lattice.size == 8**18 * 4**9
    assert len(again.lattice.network) == 250
    assert len(told.sensitivities) == 27


def test_a_random_arm_of_a_huge_lattice_costs_what_the_answer_costs(
    trained: History, quick: None
) -> None:
    conf = asked(finalists__arms=[Arm.random])
    belief = Belief.from_history(trained, conf)
    chosen = architectures(30)[15]
    arm = answer.contenders(belief, conf, [chosen])[-1]
    assert arm.role == "random" and arm.network is not None
    counted = [cost.count_one(huge().plan, a).params for a in (chosen, huge().parse(arm.network))]
    assert np.log(counted[1] / counted[0]) == pytest.approx(0, abs=answer.NEAR)


def test_the_fastest_network_of_a_huge_lattice_is_found_for_its_cap(trained: History) -> None:
    from ssr_exp.search import caps

    own = huge()

    def price(points: cost.Points) -> torch.Tensor:
        return torch.from_numpy(np.log(cost.count(own.plan, points).macs / 1e6))

    fastest = float(price(own.ends).exp().min())
    with pytest.raises(SsrError, match=rf"takes about {fastest:.3g} ms; type a larger cap"):
        caps.check_latency_cap(own, fastest / 2, price)
    caps.check_latency_cap(own, fastest * 1.01, price)
