"""A search that proposes when any training ends: nobody waits, nothing is trained twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import Store
from ssr_exp.search import asynchronous, rounds
from ssr_exp.search.asynchronous import Run, Trainings
from ssr_exp.search.belief import View
from ssr_exp.search.loop import Search
from ssr_exp.search.proposals.propose import Pick
from ssr_exp.search.space import Space
from tests.search.conftest import World

First = tuple[Architecture, ...]
Begin = Callable[..., Search]


@pytest.fixture
def begin(tmp_path: Path, small: Space, first: First, world: World) -> Begin:
    def search(*, trains: World = world, at: str = "runs", **changes: object) -> Search:
        conf = SearchConfig()
        conf.rounds, conf.batch = 2, 3
        for key, value in changes.items():
            group, _, name = key.rpartition("__")
            setattr(getattr(conf, group) if group else conf, name, value)
        book = rounds.notebook(Store(tmp_path / at), "study", conf)
        return Search(small, conf, first, book, trains)

    return search


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, small: Space) -> list[set[str]]:
    """Propose without a surrogate, which takes a second each time; lists what was pending."""
    seen: list[set[str]] = []
    points = small.architectures(np.arange(small.lattice.size))

    def look(self: Search, running: Collection[str] = ()) -> View:
        if len(self.sources.read()) < 10:
            raise SsrError("too few")
        seen.append(set(running))
        return View.__new__(View)

    def batch(self: Search, seen: View, number: int, *, count: int, **_: object) -> object:
        taken = self.book.networks()
        left = [point for point in points if self.space.code(point) not in taken]
        return seen, [Pick(point, 1.0, 2.0, 3.0, 1.0) for point in left[:count]]

    for name, function in {"look": look, "measured_batch": batch}.items():
        monkeypatch.setattr(Search, name, function)
    monkeypatch.setattr(Search, "tell", lambda self, _: self.watch(None))
    monkeypatch.setattr(Search, "no_gain", lambda *_: None)
    monkeypatch.setattr(asynchronous.console, "print_batch", lambda *_, **__: None)
    return seen


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


def test_a_real_search_trains_its_rounds_and_each_network_once(
    begin: Begin, world: World, first: First
) -> None:
    search = begin(rounds=1)
    assert carry_out(search, Slow(world).train, 2) == "the round is done"
    assert len(world.trained) == len(set(world.trained)) == len(first) + 3


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize("slots", [1, 2, None])
def test_all_rounds_are_trained_and_no_more_at_once_than_there_are_slots(
    begin: Begin, world: World, first: First, slots: int | None
) -> None:
    slow = Slow(world)
    search = begin()
    assert carry_out(search, slow.train, slots) == "all 2 rounds are done"
    assert len(world.trained) == len(set(world.trained)) == len(first) + 6
    assert [len(plan.planned) for plan in search.book.read()] == [len(first), 3, 3]
    assert slow.most <= (slots or len(first))


@pytest.mark.usefixtures("looks")
def test_with_one_slot_everything_runs_in_the_thread_that_asked(begin: Begin, world: World) -> None:
    threads = set()

    def train(networks: Sequence[str], origin: str) -> dict[str, object]:
        threads.add(threading.get_ident())
        return world.train(networks, origin)

    carry_out(begin(rounds=1), train, 1)
    assert threads == {threading.get_ident()}


def test_a_straggler_holds_nobody_up_and_is_a_pending_point(
    begin: Begin, world: World, looks: list[set[str]]
) -> None:
    slow = Slow(world, hold_next=1)

    def train(networks: Sequence[str], origin: str) -> dict[str, object]:
        told = slow.train(networks, origin)
        if len(world.trained) == 30:  # all the others of three rounds
            slow.go.set()
        return told

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
    view = begin().look({waiting})
    assert [small.code(network) for network in view.pending] == [waiting]
    assert not view.candidates.open[100]


@pytest.mark.usefixtures("looks")
def test_killed_it_goes_on_and_trains_nothing_twice(begin: Begin, world: World) -> None:
    for stop in (7, 23, 26):
        world.stop_after = stop
        with pytest.raises(KeyboardInterrupt):
            carry_out(begin(), world.train, 1)
    world.stop_after = None
    carry_out(begin(), world.train, 1)
    assert len(world.trained) == len(set(world.trained)) == 28


@pytest.mark.usefixtures("looks")
def test_a_search_can_change_between_both_ways(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    carry_out(begin(rounds=2), Slow(world).train, 2)
    begin(rounds=3).run(world.train)
    assert len(world.trained) == len(set(world.trained)) == 22 + 9


@pytest.mark.usefixtures("looks")
def test_a_failure_is_tried_once_more_and_left_out(
    begin: Begin, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    carry_out(begin(rounds=1), world.train, 1)
    broken = world.trained[-1]
    clean = World(world.space, world.tell)
    clean.broken = {broken: Status.failed}
    search = begin(rounds=2, at="clean", trains=clean)
    carry_out(search, clean.train, 1)
    assert clean.trained.count(broken) == 2
    assert all(clean.trained.count(name) == 1 for name in set(clean.trained) - {broken})
    assert f"{broken} failed again and is left out" in caplog.text
    carry_out(search, clean.train, 1)
    assert clean.trained.count(broken) == 3
    clean.broken = {}
    carry_out(search, clean.train, 1)
    carry_out(search, clean.train, 1)
    assert clean.trained.count(broken) == 4


@pytest.mark.usefixtures("looks")
def test_a_round_that_fails_whole_stops_the_search(begin: Begin, world: World) -> None:
    carry_out(begin(rounds=1), world.train, 1)
    clean = World(world.space, world.tell)
    clean.broken = dict.fromkeys(world.trained[-3:], Status.failed)

    def breaking(networks: Sequence[str], origin: str) -> dict[str, object]:
        if origin == "round1":
            clean.broken |= dict.fromkeys(networks, Status.failed)
        return slow.train(networks, origin)

    slow = Slow(clean)
    with pytest.raises(SsrError, match=r"all 3 trainings of round 1 failed .*it broke"):
        carry_out(begin(rounds=3, at="clean", trains=clean), breaking, 2)


@pytest.mark.usefixtures("looks")
def test_the_first_networks_failing_is_said(begin: Begin, world: World) -> None:
    def breaking(networks: Sequence[str], origin: str) -> dict[str, object]:
        world.broken |= dict.fromkeys(networks, Status.failed)
        return slow.train(networks, origin)

    slow = Slow(world)
    with pytest.raises(SsrError, match="all 22 trainings of round 0 failed"):
        carry_out(begin(), breaking, 4)


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize(("runs", "trained"), [(22, 22), (24, 24), (100, 28)])
def test_a_budget_counts_what_is_under_way(
    begin: Begin, world: World, runs: int, trained: int
) -> None:
    reason = carry_out(begin(budget__runs=runs), Slow(world).train, 3)
    assert len(world.trained) == trained
    assert (reason == "the budget is used up") == (runs < 28)


@pytest.mark.usefixtures("looks")
def test_a_full_disk_stops_the_search_and_costs_no_attempt(begin: Begin, world: World) -> None:
    told = "cannot write to /runs/a: the disk is full; free some space there, or choose another."

    def full(networks: Sequence[str], origin: str) -> dict[str, object]:
        if len(world.trained) > room[0]:
            return dict.fromkeys(networks, told)
        return world.train(networks, origin)

    room = [3, 23, 23, 23]
    for _ in tuple(room):
        with pytest.raises(SsrError, match=r"disk is full; .* Then repeat the command"):
            carry_out(begin(), full, 1)
        room.pop(0)
    carry_out(begin(), world.train, 1)
    assert len(world.trained) == len(set(world.trained)) == 28


@pytest.mark.usefixtures("looks")
def test_a_round_whose_plan_is_gone_is_proposed_anew_in_full(begin: Begin, world: World) -> None:
    search = begin()
    carry_out(search, world.train, 1)
    (search.book.folder / "round1.json").unlink()
    carry_out(search, world.train, 1)
    assert [len(plan.planned) for plan in search.book.read()] == [22, 3, 3]


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize("first_mode", ["rounds", "asynchronous"])
def test_in_either_mode_a_repeated_command_tries_once_more(
    begin: Begin, world: World, first_mode: str
) -> None:
    carry_out(begin(rounds=1), world.train, 1)
    broken = world.trained[-1]
    clean = World(world.space, world.tell)
    clean.broken = {broken: Status.failed}
    search = begin(rounds=1, at="clean", trains=clean)
    modes = [lambda: search.run(clean.train), lambda: carry_out(search, clean.train, 1)]
    for tried, mode in zip((2, 3), modes if first_mode == "rounds" else modes[::-1], strict=True):
        mode()
        assert clean.trained.count(broken) == tried


def test_an_error_of_a_launcher_reaches_the_search(begin: Begin) -> None:
    def refuses(networks: Sequence[str], origin: str) -> dict[str, object]:
        raise SsrError("the launcher ended before any training began.")

    with pytest.raises(SsrError, match="before any training began"):
        carry_out(begin(), refuses, 3)


@pytest.mark.usefixtures("looks")
def test_it_tells_what_it_believes_once_a_round(begin: Begin, world: World) -> None:
    told: list[Predictions] = []
    carry_out(replace(begin(), watch=told.append), world.train, 1)
    assert len(told) == 3


@pytest.mark.usefixtures("looks")
def test_it_says_how_many_are_under_way(
    begin: Begin, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=asynchronous.__name__):
        carry_out(begin(rounds=1), Slow(world).train, 2)
    assert "1 are under way" in caplog.text


def test_both_ways_keep_one_notebook(begin: Begin) -> None:
    assert begin(asynchronous=True).book.folder == begin().book.folder
