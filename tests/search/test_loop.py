"""The loop with trainings that take no time: every acquisition, every kind of interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ssr_exp import messages
from ssr_exp.config import Acquisition, CostAxis, Objective, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import Store
from ssr_exp.search import diagnostics, rounds
from ssr_exp.search.asynchronous import Run, Trainings
from ssr_exp.search.loop import Search
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space
from tests.search.conftest import Tell, World

First = tuple[Architecture, ...]
Begin = Callable[..., Search]


@pytest.fixture
def begin(tmp_path: Path, small: Space, first: First, world: World) -> Begin:
    """Set up a search of the small lattice: `begin(rounds=2, batch=3)`."""

    def search(*, at: str = "runs", trains: World = world, **changes: object) -> Search:
        conf = SearchConfig()
        conf.rounds, conf.batch = 2, 3
        conf.acquisition.prefilter, conf.acquisition.samples = 30, 16
        for key, value in changes.items():
            group, _, name = key.rpartition("__")
            setattr(getattr(conf, group) if group else conf, name, value)
        book = rounds.notebook(Store(tmp_path / at), "study", conf)
        return Search(small, conf, first, book, trains)

    return search


QUICK = (Acquisition.auto, Acquisition.thompson, Acquisition.random)
KINDS = [
    pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in Acquisition
]
STOPS = [*(pytest.param(stop, marks=pytest.mark.slow) for stop in (5, 21, 23, 25)), 0, 22, 27]


@pytest.mark.parametrize(
    "objective", [Objective.tradeoff, pytest.param(Objective.smallest, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_search_trains_the_first_networks_and_then_its_batches_each_once(
    begin: Begin, world: World, first: First, kind: Acquisition, objective: Objective
) -> None:
    seen, reason = begin(acquisition__kind=kind, objective__kind=objective).run(world.train)
    assert reason == "all 2 rounds are done"
    assert len(world.trained) == len(set(world.trained)) == len(first) + 6
    assert len(seen.networks) == len(first) + 6


def test_the_same_seed_searches_the_same_networks(begin: Begin, world: World) -> None:
    begin().run(world.train)
    again = World(world.space, world.tell)
    begin(at="again", trains=again).run(again.train)
    assert again.trained == world.trained


@pytest.mark.parametrize("stop", STOPS)
def test_a_killed_search_goes_on_and_trains_nothing_twice(
    begin: Begin, world: World, stop: int
) -> None:
    world.stop_after = stop
    with pytest.raises(KeyboardInterrupt):
        begin().run(world.train)
    world.stop_after = None
    begin().run(world.train)
    assert len(world.trained) == len(set(world.trained)) == 28


def test_a_killed_search_ends_where_an_undisturbed_one_does(begin: Begin, world: World) -> None:
    world.stop_after = 24
    with pytest.raises(KeyboardInterrupt):
        begin().run(world.train)
    world.stop_after = None
    begin().run(world.train)
    alone = World(world.space, world.tell)
    begin(at="alone", trains=alone).run(alone.train)
    assert world.trained == alone.trained


def test_more_rounds_go_on_from_where_fewer_ended(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    assert len(world.trained) == 25
    begin(rounds=1).run(world.train)
    assert len(world.trained) == 25
    begin(rounds=3).run(world.train)
    assert len(world.trained) == len(set(world.trained)) == 31


def test_a_failed_network_is_tried_once_more_and_never_proposed_again(
    begin: Begin, world: World
) -> None:
    begin(rounds=1).run(world.train)
    broken = world.trained[-1]
    clean = World(world.space, world.tell)
    clean.broken = {broken: Status.failed}
    begin(rounds=3, at="clean", trains=clean).run(clean.train)
    assert clean.trained.count(broken) == 2
    assert all(clean.trained.count(network) == 1 for network in set(clean.trained) - {broken})


def test_a_diverged_network_is_not_tried_again(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    clean = World(world.space, world.tell)
    clean.broken = {world.trained[-1]: Status.diverged}
    begin(rounds=3, at="clean", trains=clean).run(clean.train)
    assert len(clean.trained) == len(set(clean.trained))


def test_a_round_that_fails_whole_stops_the_search_and_says_why(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    clean = World(world.space, world.tell)
    clean.broken = dict.fromkeys(world.trained[-3:], Status.failed)
    with pytest.raises(SsrError, match=r"all 3 trainings of round 1 failed .*it broke.*repeat"):
        begin(rounds=3, at="clean", trains=clean).run(clean.train)
    clean.broken = {}
    begin(rounds=1, at="clean", trains=clean).run(clean.train)
    assert sorted(set(clean.trained)) == sorted(world.trained)


def test_a_repeated_command_tries_once_more_what_failed(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    broken = world.trained[-1]
    clean = World(world.space, world.tell)
    clean.broken = {broken: Status.failed}
    search = begin(rounds=1, at="clean", trains=clean)
    for tried in (2, 3, 4):
        search.run(clean.train)
        assert clean.trained.count(broken) == tried
    clean.broken = {}
    search.run(clean.train)
    search.run(clean.train)
    assert clean.trained.count(broken) == 5
    assert len(clean.trained) == len(world.trained) + 4


def test_a_full_disk_stops_the_search_at_once_and_costs_no_attempt(
    begin: Begin, world: World
) -> None:
    told = "cannot write to /runs/a: the disk is full; free some space there, or choose another."

    def full(networks: Sequence[str], origin: str) -> dict[str, object]:
        launches.append(world.train(networks[:5], origin))
        return dict.fromkeys(networks[5:], told)

    launches: list[object] = []
    for _ in range(4):
        with pytest.raises(SsrError, match=r"disk is full; .* Then repeat the command"):
            begin(rounds=1).run(full)
    assert len(launches) == 4
    begin(rounds=1).run(world.train)
    assert len(world.trained) == len(set(world.trained)) == 25


def test_what_others_train_is_not_proposed(begin: Begin, world: World) -> None:
    search = begin(rounds=1)
    search.run(world.train)
    own = world.trained[-3:]
    world.trained.clear()
    world.records = [r for r in world.records if r.network not in own]
    world.busy = set(own)
    begin(rounds=1, at="other").run(world.train)
    assert not set(world.trained) & set(own)


def test_runs_made_by_hand_stand_in_for_the_first_networks(
    begin: Begin, world: World, small: Space, tell: Tell
) -> None:
    world.records = [tell(a) for a in small.architectures(range(0, 500, 40))]
    begin(rounds=1).run(world.train)
    assert world.trained[0] == small.code(small.plan.baseline)
    assert len(world.trained) == 1 + 3


def test_a_search_ends_with_its_budget(begin: Begin, world: World) -> None:
    _, reason = begin(rounds=9, budget__runs=27).run(world.train)
    assert reason == "the budget is used up"
    assert len(world.trained) == 27


def test_a_budget_of_epochs_is_kept(begin: Begin, world: World) -> None:
    """Each made-up training took 8 epochs."""
    search = begin(rounds=9, budget__epochs=8 * 26 + 7, trainer__max_epochs=8)
    _, reason = search.run(world.train)
    assert (reason, len(world.trained)) == ("the budget is used up", 26)


def test_a_budget_of_hours_is_kept(begin: Begin, world: World) -> None:
    """Each made-up training took 12.25 s."""
    _, reason = begin(rounds=9, budget__hours=12.25 * 26.5 / 3600).run(world.train)
    assert (reason, len(world.trained)) == ("the budget is used up", 26)


def test_a_budget_below_the_first_networks_is_refused_before_they_are_trained(
    begin: Begin, world: World
) -> None:
    with pytest.raises(SsrError, match=r"budget.runs=10 does not cover the 22 first networks"):
        begin(budget__runs=10).run(world.train)
    with pytest.raises(SsrError, match=r"budget.epochs=100 .* \(4400 epochs\)"):
        begin(budget__epochs=100).run(world.train)
    assert world.trained == []


def test_a_search_ends_when_nothing_promises_enough(begin: Begin, world: World) -> None:
    _, reason = begin(rounds=9, min_gain=0.9).run(world.train)
    assert reason.startswith("no network promises a gain of 0.9")
    assert len(world.trained) == 22


@pytest.mark.slow
def test_a_lattice_can_be_searched_to_its_end(begin: Begin, world: World) -> None:
    """With a batch as large as the lattice, everything is trained and the search says so."""
    _, reason = begin(rounds=3, batch=600, acquisition__kind=Acquisition.random).run(world.train)
    assert reason == "no network that is left promises a gain"
    assert len(world.trained) == len(set(world.trained))
    assert set(world.trained) >= {
        world.space.code(a) for a in world.space.architectures(range(512))
    }


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 networks with a finished run"), (1, "1 network "), (3, "3 networks")],
)
def test_too_few_records_are_told_when_nothing_is_to_be_trained(
    begin: Begin, world: World, tell: Tell, first: First, count: int, words: str
) -> None:
    world.records = [tell(a) for a in first[:count]]
    with pytest.raises(SsrError, match=f"the study has {words}.*modifiers=sentinel_all rounds=1"):
        begin(rounds=0).look()


def test_only_failed_records_are_told(begin: Begin, world: World, tell: Tell, first: First) -> None:
    world.records = [tell(a, status=Status.failed, val_acc=None) for a in first[1:]]
    with pytest.raises(SsrError, match=r"0 networks .*\(21 runs failed or diverged\)"):
        begin(rounds=0).look()


@pytest.mark.parametrize("status", [Status.failed, Status.diverged])
def test_a_baseline_that_does_not_finish_is_named_with_what_to_do(
    begin: Begin, world: World, small: Space, status: Status
) -> None:
    world.broken = {small.code(small.plan.baseline): status}
    for _ in range(2):
        with pytest.raises(SsrError, match=rf"the baseline {status.value} \(it broke\).*repeat"):
            begin(rounds=1).run(world.train)
    tried = 3 if status is Status.failed else 1
    assert world.trained.count(small.code(small.plan.baseline)) == tried


def test_too_few_first_networks_are_refused_before_any_is_trained(
    begin: Begin, world: World, first: First
) -> None:
    search = begin(rounds=1)
    with pytest.raises(SsrError, match="to begin with, and these are 2:"):
        replace(search, first=first[:2]).run(world.train)
    assert world.trained == []


@pytest.mark.parametrize("change", [{"cap__latency_ms": "5"}, {"objective__cost": "latency_ms"}])
def test_latency_that_nobody_measured_is_told_before_anything_is_trained(
    begin: Begin, world: World, change: dict[str, str]
) -> None:
    values = {k: CostAxis(v) if k == "objective__cost" else v for k, v in change.items()}
    with pytest.raises(SsrError, match="0 records have a latency"):
        begin(rounds=1, **values).run(world.train)
    assert world.trained == []


def test_what_is_trained_again_counts_for_the_budget(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    clean = World(world.space, world.tell)
    clean.broken = dict.fromkeys(world.trained[-3:-1], Status.failed)
    begin(rounds=9, at="clean", trains=clean, budget__runs=26).run(clean.train)
    assert len(clean.trained) <= 27  # one retry of a batch that the budget allowed


def test_first_networks_that_are_there_are_not_charged(
    begin: Begin, world: World, tell: Tell, first: First
) -> None:
    world.records = [tell(a) for a in first[:7]]
    begin(rounds=1, budget__runs=18).run(world.train)
    assert len(world.trained) == 15 + 3


def test_what_failed_for_others_gets_one_more_try(
    begin: Begin, world: World, small: Space, tell: Tell, first: First
) -> None:
    everything = small.architectures(range(512))
    rest = [a for a in everything if a not in first]
    world.records = [tell(a) for a in first] + [
        tell(a, status=Status.failed, val_acc=None) for a in rest
    ]
    begin(rounds=1).run(world.train)
    assert len(world.trained) == 3


def test_a_launchers_error_is_told_where_there_is_no_record(begin: Begin, world: World) -> None:
    def lost(networks: Sequence[str], origin: str) -> dict[str, object]:
        return dict.fromkeys(networks, "the node went away")

    with pytest.raises(SsrError, match="the node went away"):
        begin().run(lost)


def test_equal_accuracies_can_be_searched(
    begin: Begin, world: World, tell: Tell, first: First, capsys: pytest.CaptureFixture[str]
) -> None:
    world.records = [tell(a, val_acc=90.0, val_loss=0.3) for a in first]
    begin(rounds=1).run(world.train)
    assert "the surrogate is flat" in capsys.readouterr().out


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_each_warning_is_printed_once_during_the_search_and_once_beside_the_answer(
    begin: Begin,
    world: World,
    tell: Tell,
    first: First,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_asynchronous: bool,
) -> None:
    monkeypatch.setattr(diagnostics.Check, "warnings", lambda self: [f"it errs by {self.rmse:.9f}"])
    world.records = [tell(a) for a in first]
    val = ValSet({"cat 1": 99, "dog": 1})
    search = replace(begin(rounds=3, batch=1, acquisition__kind=Acquisition.random), val=val)

    def printed() -> list[str]:
        lines = capsys.readouterr().out.splitlines()
        return sorted(line[:20] for line in lines if line.startswith("warning: "))

    with messages.command():
        if is_asynchronous:
            seen, _ = Run(search, Trainings(world.train, 1)).carry_out()
        else:
            seen, _ = search.run(world.train)
        during = printed()
        search.conclude(seen)
    assert len(during) == len(set(during)) == 3
    assert printed() == during


def test_sources_are_read_anew_each_round(begin: Begin, world: World) -> None:
    begin(rounds=2).run(world.train)
    assert world.fetched >= 3


def test_short_runs_of_another_study_inform_the_search(
    begin: Begin, world: World, small: Space, tell: Tell
) -> None:
    world.elsewhere_ = [
        tell(a, epochs=2, study="short") for a in small.architectures(range(0, 500, 9))
    ]
    seen, _ = begin(rounds=1, surrogate__fidelity=True).run(world.train)
    assert len(seen.surrogate.y) == len(seen.history) + len(world.elsewhere_)
    assert seen.surrogate.X.shape[1] == seen.history.X.shape[1] + 1
