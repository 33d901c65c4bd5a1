"""The loop with trainings that take no time: every acquisition, every kind of interruption.

Laws that hold for rounds and for an asynchronous search are tested of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from ssr_exp import messages
from ssr_exp.config import Acquisition, CostAxis, Objective
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import planning
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import FINALIST, Status
from ssr_exp.search import answer, diagnostics, ending, space
from ssr_exp.search.asynchronous import Run, Trainings
from ssr_exp.search.belief import Belief
from ssr_exp.search.loop import Search
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space
from tests.search.conftest import Begin, First, Tell, World

pytestmark = pytest.mark.usefixtures("unfitted")
Go = Callable[..., tuple[Belief, str]]
FULL = "cannot write to /runs/a: the disk is full; free some space there, or choose another."


def in_rounds(search: Search, train: Callable[..., dict[str, object]]) -> tuple[Belief, str]:
    return search.run(train)


def one_by_one(search: Search, train: Callable[..., dict[str, object]]) -> tuple[Belief, str]:
    return Run(search, Trainings(train, 1)).carry_out()


both = pytest.mark.parametrize("go", [in_rounds, pytest.param(one_by_one, marks=pytest.mark.slow)])


def again(world: World, *broken: str, status: Status = Status.failed) -> World:
    """Begin the same world anew, where these networks cannot be trained."""
    clean = World(world.space, world.tell)
    clean.broken = dict.fromkeys(broken, status)
    return clean


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        *((kind, Objective.tradeoff) for kind in Acquisition),
        *((kind, Objective.smallest) for kind in (Acquisition.auto, Acquisition.thompson)),
    ],
)
def test_a_search_trains_the_first_networks_and_then_its_batches_each_once(
    begin: Begin, world: World, first: First, kind: Acquisition, objective: Objective
) -> None:
    belief, reason = begin(acquisition__kind=kind, objective__kind=objective).run(world.train)
    assert reason == "all 2 rounds are done"
    assert len(world.trained) == len(set(world.trained)) == len(first) + 6
    assert len(belief.networks) == len(first) + 6


@both
def test_a_killed_search_ends_where_an_undisturbed_one_does_and_trains_nothing_twice(
    begin: Begin, world: World, go: Go
) -> None:
    alone = again(world)
    go(begin(at="alone", trains=alone), alone.train)
    for stop in (0, 5, 21, 22, 23, 24, 25, 27):
        world.stop_after = stop
        with pytest.raises(KeyboardInterrupt):
            go(begin(), world.train)
    world.stop_after = None
    go(begin(), world.train)
    assert len(world.trained) == len(set(world.trained)) == 28
    assert world.trained == alone.trained


@both
def test_a_search_that_goes_on_says_how_far_it_is(
    begin: Begin, world: World, go: Go, caplog: pytest.LogCaptureFixture
) -> None:
    world.stop_after = 5
    with pytest.raises(KeyboardInterrupt):
        go(begin(rounds=1), world.train)
    world.stop_after = None
    with caplog.at_level("INFO", logger="ssr_exp"):
        go(begin(rounds=1), world.train)
    assert "first networks: 5 of 22 are done, 17 to train" in caplog.text


def test_more_rounds_go_on_from_where_fewer_ended_in_either_mode(
    begin: Begin, world: World
) -> None:
    for rounds, mode, trained in (
        (1, in_rounds, 25),
        (1, in_rounds, 25),
        (2, one_by_one, 28),
        (3, in_rounds, 31),
    ):
        mode(begin(rounds=rounds), world.train)
        assert len(world.trained) == len(set(world.trained)) == trained


@pytest.mark.parametrize("status", [Status.failed, Status.diverged])
@both
def test_a_failed_network_is_tried_once_more_a_diverged_one_is_not_and_none_proposed_again(
    begin: Begin, world: World, go: Go, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    go(begin(rounds=1), world.train)
    broken = world.trained[-1]
    clean = again(world, broken, status=status)
    go(begin(rounds=3, at="clean", trains=clean), clean.train)
    assert clean.trained.count(broken) == (2 if status is Status.failed else 1)
    assert all(clean.trained.count(network) == 1 for network in set(clean.trained) - {broken})
    assert (f"{broken} failed again and is left out" in caplog.text) == (status is Status.failed)


@both
def test_a_round_that_fails_whole_stops_the_search_and_says_why(
    begin: Begin, world: World, go: Go
) -> None:
    def breaking(networks: Sequence[str], origin: str) -> dict[str, object]:
        clean.broken |= dict.fromkeys(networks if origin == "round1" else (), Status.failed)
        return clean.train(networks, origin)

    clean = again(world)
    with pytest.raises(SsrError, match=r"all 3 trainings of round 1 failed .*it broke.*repeat"):
        go(begin(rounds=3, trains=clean), breaking)
    clean.broken = {}
    go(begin(rounds=1, trains=clean), clean.train)
    go(begin(rounds=1, at="undisturbed"), world.train)
    assert len(set(clean.trained)) == len(world.trained)


@both
def test_a_round_of_one_network_that_fails_is_left_out_but_not_two_in_turn(
    begin: Begin, world: World, go: Go
) -> None:
    def breaking(rounds: set[str], networks: Sequence[str], origin: str) -> dict[str, object]:
        clean.broken |= dict.fromkeys(networks if origin in rounds else (), Status.failed)
        return clean.train(networks, origin)

    clean = again(world)
    search = begin(rounds=3, batch=1, trains=clean)
    go(search, partial(breaking, {"round1"}))
    assert [len(plan.planned) for plan in search.book.read()] == [22, 1, 1, 1]
    clean = again(world)
    search = begin(rounds=3, batch=1, at="other", trains=clean)
    with pytest.raises(SsrError, match="all 1 trainings of round 2 failed"):
        go(search, partial(breaking, {"round1", "round2"}))


def test_fewer_rounds_train_nothing_of_later_ones(begin: Begin, world: World) -> None:
    world.stop_after = 26  # of round 2
    with pytest.raises(KeyboardInterrupt):
        in_rounds(begin(rounds=2), world.train)
    world.stop_after = None
    in_rounds(begin(rounds=1), world.train)
    assert len(world.trained) == 26
    in_rounds(begin(rounds=2), world.train)
    assert len(world.trained) == 28


@pytest.mark.parametrize(
    "modes",
    [
        pytest.param((in_rounds,) * 3, marks=pytest.mark.slow),
        pytest.param((one_by_one,) * 3, marks=pytest.mark.slow),
        (one_by_one, in_rounds),
    ],
)
def test_a_repeated_command_tries_once_more_what_failed(
    begin: Begin, world: World, modes: Sequence[Go]
) -> None:
    modes[0](begin(rounds=1), world.train)
    broken = world.trained[-1]
    clean = again(world, broken)
    search = begin(rounds=1, at="clean", trains=clean)
    for tried, mode in enumerate(modes, start=2):
        mode(search, clean.train)
        assert clean.trained.count(broken) == tried
    clean.broken = {}
    for _ in range(2):
        modes[0](search, clean.train)
    assert clean.trained.count(broken) == len(modes) + 2


@both
def test_a_full_disk_stops_the_search_at_once_and_costs_no_attempt(
    begin: Begin, world: World, go: Go
) -> None:
    def full(room: int, networks: Sequence[str], origin: str) -> dict[str, object]:
        fit = networks[: max(0, min(5, room - len(world.trained)))]
        world.train(fit, origin)
        return dict.fromkeys(networks[len(fit) :], FULL)

    for room in (3, 23, 23, 23):  # trainings
        with pytest.raises(SsrError, match=r"disk is full; .* Then repeat the command"):
            go(begin(), partial(full, room))
    go(begin(), world.train)
    assert len(world.trained) == len(set(world.trained)) == 28


def test_what_others_train_is_not_proposed(begin: Begin, world: World) -> None:
    begin(rounds=1).run(world.train)
    busy = world.trained[-3:]
    world.trained.clear()
    world.all = [r for r in world.all if r.network not in busy]
    world.busy = set(busy)
    begin(rounds=1, at="other").run(world.train)
    assert not set(world.trained) & set(busy)


def test_runs_made_by_hand_stand_in_for_the_first_networks(
    begin: Begin, world: World, small: Space, tell: Tell
) -> None:
    world.all = [tell(a) for a in small.architectures(range(0, 500, 40))]
    begin(rounds=1).run(world.train)
    assert world.trained[0] == small.code(small.plan.baseline)
    assert len(world.trained) == 1 + 3


@pytest.mark.parametrize(
    ("limit", "trained"),
    [
        ({"budget__runs": 22}, 22),
        ({"budget__runs": 27}, 27),
        ({"budget__epochs": 8 * 26 + 7}, 26),  # each made-up training took 8 epochs
        ({"budget__hours": 12.25 * 26.5 / 3600}, 26),  # and 12.25 s
    ],
)
@both
def test_a_search_ends_with_its_budget(
    begin: Begin, world: World, go: Go, limit: dict[str, float], trained: int
) -> None:
    _, reason = go(begin(rounds=9, trainer__max_epochs=8, **limit), world.train)
    assert (reason, len(world.trained)) == ("the budget is used up", trained)


@pytest.mark.parametrize(
    "limit", [{"budget__epochs": 8 * 22 + 40}, {"budget__hours": 12.25 * (22 + 5.01) / 3600}]
)
@pytest.mark.parametrize(("epochs", "allowed"), [(None, 5), (4, 10), (16, 2), (48, 0)])
def test_a_finalist_is_priced_at_its_own_epochs(
    begin: Begin, world: World, limit: dict[str, float], epochs: int | None, allowed: int
) -> None:
    search = begin(trainer__max_epochs=8, finalists__epochs=epochs, **limit)
    (plan,) = search.begin()
    world.train(plan.networks, "sentinel_all")  # 22 trainings of 8 epochs and 12.25 s
    assert search.affordable_finalists(99) == allowed
    assert search.affordable(99) == 5


def test_a_budget_below_the_first_networks_is_refused_before_they_are_trained(
    begin: Begin, world: World
) -> None:
    with pytest.raises(SsrError, match=r"budget.runs=10 does not cover the 22 first networks"):
        begin(budget__runs=10).run(world.train)
    with pytest.raises(SsrError, match=r"budget.epochs=100 .* \(4400 epochs\)"):
        begin(budget__epochs=100).run(world.train)
    assert world.trained == []


def test_what_is_trained_again_counts_for_the_budget_and_what_was_there_does_not(
    begin: Begin, world: World, tell: Tell, first: First
) -> None:
    begin(rounds=1).run(world.train)
    clean = again(world, *world.trained[-3:-1])
    begin(rounds=9, at="clean", trains=clean, budget__runs=26).run(clean.train)
    assert len(clean.trained) <= 27  # one retry of a batch that the budget allowed
    there = again(world)
    there.all = [tell(a) for a in first[:7]]
    begin(rounds=1, at="there", trains=there, budget__runs=18).run(there.train)
    assert len(there.trained) == 15 + 3


def test_a_search_ends_when_nothing_promises_enough(begin: Begin, world: World) -> None:
    _, reason = begin(rounds=9, min_gain=0.9).run(world.train)
    assert reason.startswith("no network promises a gain of 0.9")
    assert len(world.trained) == 22


@both
def test_a_search_that_had_ended_trains_nothing_more_for_what_its_finalists_teach_it(
    begin: Begin, world: World, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reason = go(begin(rounds=2, min_gain=0.9), world.train)
    monkeypatch.setattr(ending, "no_gain", lambda *_: None)  # they promise a gain by now
    assert go(begin(rounds=2, min_gain=0.9), world.train)[1] == reason
    assert len(world.trained) == 22
    assert go(begin(rounds=3, min_gain=0.9), world.train)[1] == "all 3 rounds are done"
    assert len(world.trained) == 22 + 9
    end = begin().book.read_end()
    assert end is not None and (end.reason, end.number, end.runs) == (reason, 1, 22)


@pytest.mark.slow
def test_a_search_that_had_ended_goes_on_for_another_confidence(
    begin: Begin, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "no_gain", lambda *_: "nothing is promised")
    begin(rounds=2).run(world.train)
    monkeypatch.setattr(ending, "no_gain", lambda *_: None)
    again = begin(rounds=2, objective__confidence=0.95)
    belief, number = again.look(), again.next_number()
    picks = again.next_batch(belief, number, count=2)
    assert again.ends(belief, picks, number) is None
    same = begin(rounds=2)
    assert same.ends(belief, picks, number) == same.over == "nothing is promised"


def test_a_lattice_can_be_searched_to_its_end(begin: Begin, world: World) -> None:
    """With a batch as large as the lattice, everything is trained and the search says so."""
    _, reason = begin(rounds=3, batch=600, acquisition__kind=Acquisition.random).run(world.train)
    assert reason == "no network that is left promises a gain"
    assert len(world.trained) == len(set(world.trained))
    everything = world.space.architectures(range(512))
    assert set(world.trained) >= {world.space.code(a) for a in everything}


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, r"0 networks with a finished run \(21 runs failed or diverged\)"),
        (1, r"1 network with a finished run \(21 runs"),
        (3, "3 networks"),
    ],
)
def test_too_few_records_are_told_when_nothing_is_to_be_trained(
    begin: Begin, world: World, tell: Tell, first: First, count: int, words: str
) -> None:
    failed = [tell(a, status=Status.failed, val_acc=None) for a in first[max(count, 1) :]]
    world.all = [tell(a) for a in first[:count]] + failed
    told = f"the study has {words}.*modifiers=random modifiers.*draw_seed=1"
    with pytest.raises(SsrError, match=told):
        begin(rounds=0).look()


def test_of_diverged_first_networks_a_lower_learning_rate_is_named(
    begin: Begin, world: World, tell: Tell, first: First
) -> None:
    diverged = [tell(a, status=Status.diverged, val_acc=None) for a in first[1:]]
    world.all = [tell(first[0]), *diverged]
    with pytest.raises(SsrError, match=r"modifiers\.count=8.*, or repeat .* a lower learning rate"):
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
    with pytest.raises(SsrError, match="to begin with, and these are 2:"):
        replace(begin(rounds=1), first=first[:2]).run(world.train)
    assert world.trained == []


def test_what_gives_more_first_networks_is_named(begin: Begin, first: First) -> None:
    for kind, other in (("sentinel_all", "random"), ("random", "sentinel_all")):
        few = replace(begin(rounds=1, modifiers__kind=kind), first=first[:3])
        with pytest.raises(SsrError, match=rf"these are 3: type modifiers={other}\.$"):
            few.begin()


def test_a_lattice_that_is_too_small_is_named_with_what_makes_it_larger(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planning.trace(CifarResNet(8), (3, 8, 8), multiple=32)
    tiny, search = space.from_plan(plan, width_steps=8), begin(rounds=1)
    monkeypatch.setattr(search.evidence, "space", tiny)
    tiny_search = replace(search, space=tiny, first=(plan.baseline,))
    with pytest.raises(SsrError, match=r"too small, it has 2: type segment.width_steps=16 or"):
        tiny_search.begin()


@pytest.mark.parametrize(
    "change", [{"cap__latency_ms": "5"}, {"objective__cost": CostAxis.latency_ms}]
)
def test_latency_that_nobody_measured_is_told_before_anything_is_trained(
    begin: Begin, world: World, change: dict[str, object]
) -> None:
    with pytest.raises(SsrError, match="0 records have a latency"):
        begin(rounds=1, **change).run(world.train)
    assert world.trained == []


def test_what_failed_for_others_gets_one_more_try(
    begin: Begin, world: World, small: Space, tell: Tell, first: First
) -> None:
    rest = [a for a in small.architectures(range(512)) if a not in first]
    failed = [tell(a, status=Status.failed, val_acc=None) for a in rest]
    world.all = [*map(tell, first), *failed]
    begin(rounds=1).run(world.train)
    assert len(world.trained) == 3


def test_a_launchers_error_is_told_where_there_is_no_record(begin: Begin) -> None:
    def lost(networks: Sequence[str], origin: str) -> dict[str, object]:
        return dict.fromkeys(networks, "the node went away")

    with pytest.raises(SsrError, match="the node went away"):
        begin().run(lost)


def test_equal_accuracies_can_be_searched(
    begin: Begin, world: World, tell: Tell, first: First, capsys: pytest.CaptureFixture[str]
) -> None:
    world.all = [tell(a, val_acc=90.0, val_loss=0.3) for a in first]
    begin(rounds=1).run(world.train)
    assert "the surrogate is flat" in capsys.readouterr().out


@both
def test_each_warning_is_printed_once_during_the_search_and_once_beside_the_answer(
    begin: Begin,
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    go: Go,
) -> None:
    monkeypatch.setattr(diagnostics, "warnings", lambda look, **_: (f"it errs by {look.rmse:.9f}",))
    val = ValSet({"cat 1": 99, "dog": 1})
    search = replace(begin(rounds=3, batch=1, acquisition__kind=Acquisition.random), val=val)
    looks: list[Predictions] = []
    search = replace(search, watch=looks.append)

    def printed() -> list[str]:
        lines = " ".join(capsys.readouterr().out.split()).split("warning: ")
        return sorted(line.partition("surrogate: ")[0].strip() for line in lines[1:])

    def first(lines: Sequence[str]) -> list[str]:
        return sorted(line[:11] for line in lines)

    with messages.command():
        belief, _ = go(search, world.train)
        during = printed()
        search.conclude()
    said = printed()
    assert len(during) == len(set(first(during))) == 3 and first(said) == first(during)
    assert looks[-1].val_warnings == tuple(search.val_warnings.of_belief(belief)) != ()
    on_page = [*looks[-1].val_warnings, *looks[-1].looks[-1].warnings]
    assert said == sorted(" ".join(one.split()) for one in on_page)  # one figure, on the page, too
    with messages.command():
        go(search, world.train)  # repeated, when nothing is left to train
        assert printed() == []
        search.conclude()
    assert printed() == said


def test_val_is_warned_of_once_as_soon_as_the_baseline_is_trained(
    begin: Begin, world: World, tell: Tell, small: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    """A baseline of 55 % needs more images than the 95 % that are assumed before it is trained."""
    search = replace(begin(rounds=1, objective__max_drop="3"), val=ValSet({"cat": 200, "dog": 15}))
    baseline = tell(small.plan.baseline)
    another = tell(next(a for a in search.first if a != small.plan.baseline))
    with messages.command():
        search.prepare()
        assert "val images" not in capsys.readouterr().out
        assert search.remarks_on(another) == []
        said = search.remarks_on(baseline.model_copy(update={"score": 55.0}))
        assert said[0].startswith("warning: 215 val images") and "gets 55 % right" in said[0]
        assert search.remarks_on(baseline.model_copy(update={"score": 56.0})) == []
        search.run(world.train)
    assert "val images" not in capsys.readouterr().out


def test_records_are_read_anew_after_each_launch_and_only_then(begin: Begin, world: World) -> None:
    begin(rounds=2).run(world.train)
    assert world.forgotten == 1 + 3


def test_short_runs_of_another_study_inform_the_search(
    begin: Begin, world: World, small: Space, tell: Tell
) -> None:
    world.short = [tell(a, epochs=2, study="short") for a in small.architectures(range(0, 500, 9))]
    belief, _ = begin(rounds=1, surrogate__fidelity=True).run(world.train)
    assert len(belief.surrogate.y) == len(belief.history) + len(world.short)
    assert belief.surrogate.X.shape[1] == belief.history.X.shape[1] + 1


def test_what_is_only_compared_with_the_answer_does_not_change_it(
    begin: Begin, world: World
) -> None:
    search = begin(rounds=1)
    search.run(world.train)
    before, networks = search.judge(), {r.network for r in world.all}
    unseen = [
        a for a in search.space.architectures(range(40)) if search.space.code(a) not in networks
    ]
    arms = [world.tell(a, seed=1, origin=FINALIST) for a in (*before.networks[:3], *unseen[:2])]
    world.all += arms
    after = search.judge()
    assert after.networks == before.networks
    assert answer.good_enough(after) == answer.good_enough(before)
    assert after.promises == before.promises
