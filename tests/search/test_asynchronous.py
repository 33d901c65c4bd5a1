"""A search that proposes when any training ends: nobody waits; see `test_loop`, too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from ssr_exp.errors import SsrError
from ssr_exp.messages import file_log
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Status
from ssr_exp.search.asynchronous import Run, Trainings
from ssr_exp.search.belief import Belief
from ssr_exp.search.loop import Search
from ssr_exp.search.space import Space
from tests.search.conftest import Begin, First, World

pytestmark = pytest.mark.usefixtures("unfitted")


@dataclass
class Slow:
    """A world some of whose trainings end only when they are told to."""

    world: World
    held: set[str] = field(default_factory=set)
    hold_next: int = 0
    under_way: list[str] = field(default_factory=list)
    most: int = 0
    go: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def train(self, networks: Sequence[str], origin: str) -> dict[str, object]:
        with self.lock:
            self.under_way += networks
            self.most = max(self.most, len(self.under_way))
            holds = origin.startswith("round") and self.hold_next > 0
            self.hold_next -= holds
        if holds:
            self.held.update(networks)
            assert self.go.wait(60)
        with self.lock:
            told = self.world.train(networks, origin)
            self.under_way = [n for n in self.under_way if n not in networks]
        return told


def carry_out(search: Search, train: Callable[..., dict[str, object]], slots: int | None) -> str:
    return Run(search, Trainings(train, slots)).carry_out()[1]


@pytest.mark.parametrize("slots", [1, 2, None])
def test_all_rounds_are_trained_and_no_more_at_once_than_there_are_slots(
    begin: Begin, world: World, first: First, slots: int | None
) -> None:
    slow, told = Slow(world), list[Predictions]()
    search = replace(begin(), watch=told.append)
    assert carry_out(search, slow.train, slots) == "all 2 rounds are done"
    assert len(world.trained) == len(set(world.trained)) == len(first) + 6
    assert [len(plan.planned) for plan in search.book.read()] == [len(first), 3, 3]
    assert slow.most <= (slots or len(first))
    assert len(told) == 3  # it tells what it believes once a round


def test_with_one_slot_everything_runs_in_the_thread_that_asked(begin: Begin, world: World) -> None:
    threads = set()

    def train(networks: Sequence[str], origin: str) -> dict[str, object]:
        threads.add(threading.get_ident())
        return world.train(networks, origin)

    carry_out(begin(rounds=1), train, 1)
    assert threads == {threading.get_ident()}


def test_a_straggler_holds_nobody_up_and_is_a_pending_point(
    begin: Begin, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, looks, look = Slow(world, hold_next=1), list[set[str]](), Search.look

    def train(networks: Sequence[str], origin: str) -> dict[str, object]:
        told = slow.train(networks, origin)
        if len(world.trained) == 30:  # all the others of three rounds
            slow.go.set()
        return told

    def watched(self: Search, running: Collection[str] = ()) -> Belief:
        looks.append(set(running))
        return look(self, running)

    monkeypatch.setattr(Search, "look", watched)
    carry_out(begin(rounds=3), train, 3)
    (straggler,) = slow.held
    assert world.trained[-1] == straggler  # it was of round 1, and ended last
    assert len(world.trained) == len(set(world.trained)) == 31
    assert any(straggler in running for running in looks)


def test_pending_networks_are_believed_to_come_out_as_predicted(
    begin: Begin, world: World, first: First, small: Space
) -> None:
    world.train([small.code(network) for network in first], "sentinel_all")
    waiting = small.code(small.architectures(np.array([100]))[0])
    belief = begin().look({waiting})
    assert [small.code(network) for network in belief.pending] == [waiting]
    assert not belief.candidates.open[100]


def test_the_first_networks_failing_is_said(begin: Begin, world: World) -> None:
    def breaking(networks: Sequence[str], origin: str) -> dict[str, object]:
        world.broken |= dict.fromkeys(networks, Status.failed)
        return slow.train(networks, origin)

    slow = Slow(world)
    with pytest.raises(SsrError, match="all 22 trainings of round 0 failed"):
        carry_out(begin(), breaking, 4)


@pytest.mark.parametrize(("runs", "trained"), [(22, 22), (24, 24), (100, 28)])
def test_a_budget_counts_what_is_under_way(
    begin: Begin, world: World, runs: int, trained: int
) -> None:
    reason = carry_out(begin(budget__runs=runs), Slow(world).train, 3)
    assert len(world.trained) == trained
    assert (reason == "the budget is used up") == (runs < 28)


def test_a_round_whose_plan_is_gone_is_proposed_anew_in_full(begin: Begin, world: World) -> None:
    search = begin()
    carry_out(search, world.train, 1)
    (search.book.folder / "round1.json").unlink()
    carry_out(search, world.train, 1)
    assert [len(plan.planned) for plan in search.book.read()] == [22, 3, 3]


def test_a_round_that_was_begun_one_by_one_is_filled_whoever_goes_on(
    begin: Begin, world: World
) -> None:
    def stops(networks: Sequence[str], origin: str) -> dict[str, object]:
        if len(world.trained) == 26:  # one of the second round
            raise KeyboardInterrupt
        return world.train(networks, origin)

    with pytest.raises(KeyboardInterrupt):
        carry_out(begin(), stops, 1)
    assert [len(plan.planned) for plan in begin().book.read()] == [22, 3, 2]
    begin().run(world.train)
    assert [len(plan.planned) for plan in begin().book.read()] == [22, 3, 3]
    assert len(world.trained) == 28


def test_what_is_added_to_a_begun_round_is_tried_as_often_as_any(
    begin: Begin, world: World
) -> None:
    def stops(networks: Sequence[str], origin: str) -> dict[str, object]:
        if len(world.trained) == 26:
            raise KeyboardInterrupt
        return world.train(networks, origin)

    with pytest.raises(KeyboardInterrupt):
        carry_out(begin(), stops, 1)
    *_, pending = begin().book.read()[-1].networks
    world.broken[pending] = Status.failed  # both times
    begin().run(world.train)
    third = begin().book.read()[-1].networks[2]
    assert third in world.trained


def test_a_begun_round_whose_only_network_fails_is_filled_and_that_is_not_tried_thrice(
    begin: Begin, world: World
) -> None:
    def stops(networks: Sequence[str], origin: str) -> dict[str, object]:
        if len(world.trained) == 25:  # the first of the second round
            raise KeyboardInterrupt
        return world.train(networks, origin)

    with pytest.raises(KeyboardInterrupt):
        carry_out(begin(), stops, 1)
    (pending,) = begin().book.read()[-1].networks
    world.broken[pending] = Status.failed
    begin().run(world.train)
    assert [len(plan.planned) for plan in begin().book.read()] == [22, 3, 3]
    assert world.trained.count(pending) == 2


def test_an_error_of_a_launcher_reaches_the_search(begin: Begin) -> None:
    def refuses(networks: Sequence[str], origin: str) -> dict[str, object]:
        raise SsrError("the launcher ended before any training began.")

    with pytest.raises(SsrError, match="before any training began"):
        carry_out(begin(), refuses, 3)


def test_it_says_how_many_are_under_way(
    begin: Begin, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=file_log.name):  # no second line a network
        carry_out(begin(rounds=1), Slow(world).train, 2)
    assert "1 are under way" in caplog.text


def test_both_ways_keep_one_notebook(begin: Begin) -> None:
    assert begin(asynchronous=True).book.folder == begin().book.folder
