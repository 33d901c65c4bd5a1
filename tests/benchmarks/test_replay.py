from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import optuna_arms, replay, replay_answers
from benchmarks.optuna_arms import Grid
from benchmarks.replay import ARMS, Outcome, Size
from benchmarks.replay_arms import Known
from benchmarks.table_of_networks import Table
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.space import Space

REFERENCE = Outcome(40.0, 10.0)
MANY_IMAGES = {"counts": {"images": {"val": 10_000}}}  # of ten, nothing can be promised


def drawn(count: int, seed: int) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    return [
        Outcome(*pair)
        for pair in zip(rng.uniform(35, 60, count), rng.uniform(5, 11, count), strict=True)
    ]


def brute_force(outcomes: Sequence[Outcome], reference: Outcome) -> float:
    """Add the cells of the grid that all outcomes span, where one of them dominates the cell."""
    heights = sorted({reference.accuracy, *(o.accuracy for o in outcomes)})
    costs = sorted({reference.log_params, *(o.log_params for o in outcomes)})
    area = 0.0
    for (low, high), (left, right) in itertools.product(
        itertools.pairwise(heights), itertools.pairwise(costs)
    ):
        counts = low >= reference.accuracy and right <= reference.log_params
        if counts and any(o.accuracy >= high and o.log_params <= left for o in outcomes):
            area += (high - low) * (right - left)
    return area


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30])
def test_hypervolume_agrees_with_brute_force(count: int) -> None:
    outcomes = drawn(count, seed=count)
    found = replay.hypervolume(outcomes, REFERENCE)
    assert found == pytest.approx(brute_force(outcomes, REFERENCE))
    assert replay.hypervolume([*reversed(outcomes), *outcomes], REFERENCE) == pytest.approx(found)


def test_the_smallest_network_is_the_cheapest_that_reaches_the_accuracy() -> None:
    outcomes = [Outcome(50.0, 3.0), Outcome(49.9, 1.0), Outcome(60.0, 4.0), Outcome(55.0, 3.5)]
    assert replay.smallest(outcomes, least=50.0) == 3.0
    assert replay.smallest(outcomes, least=52.0) == 3.5
    assert replay.smallest(outcomes, least=61.0) == float("inf")


def test_who_knows_the_whole_pool_has_all_of_it_and_regrets_nothing(table: Table) -> None:
    networks = replay.pool(table, 0)
    rounds = [networks[:22], networks[:30], networks]
    found = replay.measures(table, networks, rounds)
    assert found["hypervolume"][-1] == pytest.approx(1)
    assert found["regret"][-1] == 0
    assert found["hypervolume"] == sorted(found["hypervolume"])
    assert found["regret"] == sorted(found["regret"], reverse=True)


@pytest.mark.slow
def test_answers_are_held_against_what_no_search_saw(table: Table) -> None:
    known = replay.pool(table, 0)
    worse = {a: table.accuracies[a] - 2 for a in table.accuracies} | {
        table.baseline: table.accuracies[table.baseline]
    }
    assert replay_answers.measures(table, [known]) == {}
    for unseen, kept in ((table.accuracies, 1), (worse, 0)):
        told = replace(table, unseen=unseen, about=MANY_IMAGES)
        found = replay_answers.measures(told, [known[:22], known])
        assert found["measured_kept"] == found["promised_kept"] == [kept, kept]
        assert max(found["measured_params"]) <= 100
        assert found["measured_params"][0] >= found["measured_params"][1]
        assert (np.array(found["promised_drop"]) <= (1 if kept else 3)).all()


def test_what_is_kept_is_not_done_again(table: Table, tmp_path: Path) -> None:
    one = replay.Replayed("ehvi", 0, {"hypervolume": [0.5]}, 22, 1.0)
    keep = tmp_path / "keep.jsonl"
    keep.write_text(json.dumps(asdict(one)) + "\n")
    found = replay.run(tmp_path / "none.csv", Size(repeats=1, jobs=1), ["ehvi"], keep=keep)
    assert found == [one]


def test_no_more_is_trained_than_was_asked_for(table: Table) -> None:
    size = Size(rounds=3, batch=4, trainings=len(table.sentinels) + 6)
    found = replay.once(table, ARMS["random"], "random", 0, size)
    assert found.evaluated == size.trainings
    assert len(found.measures["regret"]) == 3


def test_a_repetition_has_one_pool_and_another_one_a_different_one(table: Table) -> None:
    first = replay.pool(table, 0)
    assert first == replay.pool(table, 0)
    assert set(first) != set(replay.pool(table, 1))
    assert first[: len(table.sentinels)] == table.sentinels
    assert len(set(first)) == len(first)
    assert len(first) - len(table.sentinels) == round(replay.SHARE * len(table.others))


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_stays_in_its_pool_and_asks_for_nothing_twice(table: Table, name: str) -> None:
    networks = replay.pool(table, 0)
    known = {a: table.accuracies[a] for a in table.sentinels}
    ask = ARMS[name](replace(table, about=MANY_IMAGES), networks, 0)
    for _ in range(2):
        chosen = ask(dict(known), 2)
        assert len(set(chosen)) == len(chosen) == 2
        assert set(chosen) <= set(networks) - set(known)
        known |= {a: table.accuracies[a] for a in chosen}


@pytest.mark.parametrize("name", ["ehvi", "thompson", "optuna_tpe", "optuna_nsga2"])
def test_an_arm_repeats_itself(table: Table, name: str) -> None:
    size = Size(rounds=2, batch=2)
    first, second = (replay.once(table, ARMS[name], name, 0, size) for _ in range(2))
    assert first.measures == second.measures


@pytest.mark.parametrize("kind", ["outside", "seen", "twice", "many"])
def test_an_arm_that_cheats_is_stopped(table: Table, kind: str) -> None:
    networks = replay.pool(table, 0)
    allowed = networks[len(table.sentinels) :]
    chosen = {
        "outside": [next(a for a in table.others if a not in networks)],
        "seen": [table.sentinels[0]],
        "twice": [allowed[0], allowed[0]],
        "many": list(allowed[:3]),
    }[kind]

    def ask(known: Known, count: int) -> list[Architecture]:
        return chosen

    with pytest.raises(RuntimeError, match="cheat"):
        replay.once(table, lambda *_: ask, "cheat", 0, Size(rounds=1, batch=2))


def test_numbers_span_the_lattice_and_name_each_network_once(small: Space) -> None:
    grid = Grid(small)
    every = small.architectures(range(len(small.lattice)))
    numbers = grid.numbers(every)
    assert len(np.unique(numbers, axis=0)) == len(every) == np.prod(grid.shape)
    assert (numbers >= 0).all()
    assert (numbers < grid.shape).all()
    for architecture in every[::100]:
        parameters = grid.parameters(architecture)
        assert grid.from_parameters(parameters).tolist() == grid.numbers([architecture])[0].tolist()


def test_the_nearest_network_is_that_of_the_unit_cube() -> None:
    options, shape = np.array([[0, 0], [2, 3], [1, 0]]), np.array([3, 4])
    rng = np.random.default_rng(0)
    assert optuna_arms.nearest(np.array([2, 2]), options, shape, rng) == 1
    assert optuna_arms.nearest(np.array([0, 1]), options, shape, rng) == 0
    # one of three depths is further than one of four widths
    assert optuna_arms.nearest(np.array([0, 1]), np.array([[1, 1], [0, 2]]), shape, rng) == 1


def test_equally_near_networks_are_all_drawn() -> None:
    options, rng = np.array([[0], [2], [2]]), np.random.default_rng(0)
    found = {optuna_arms.nearest(np.array([1]), options, np.array([3]), rng) for _ in range(50)}
    assert found == {0, 1, 2}


@pytest.mark.parametrize("name", ["optuna_tpe", "optuna_nsga2"])
def test_a_sampler_is_told_of_what_was_trained(table: Table, name: str) -> None:
    networks = replay.pool(table, 0)
    known = {a: table.accuracies[a] for a in table.sentinels}
    ask = ARMS[name](table, networks, 0)
    assert isinstance(ask, optuna_arms.Asked)
    for _ in range(3):
        known |= {a: table.accuracies[a] for a in ask(dict(known), 2)}
    ask(dict(known), 0)
    grid = Grid(table.space)
    finished = [t for t in ask.study.trials if t.state.name == "COMPLETE"]
    told = {tuple(sorted(t.params.items())): t.values[0] for t in finished}
    assert told == {tuple(sorted(grid.parameters(a).items())): known[a] for a in known}
    assert len(finished) == len(known)
    if name == "optuna_nsga2":
        generations = [t.system_attrs[optuna_arms.GENERATION] for t in finished]
        assert generations == [0] * len(table.sentinels) + [1] * 6
