"""What a surrogate predicted last, as a file that is read as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from predicted import STUDY, lattice, look
from predicted import predictions as made

from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Fractions, Record, Status
from ssr_exp.runs.store import Store

MakeRecord = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def folder(store: Store, search: str = "") -> Path:
    """Name the folder of a search, or the one of a study without any."""
    return store.study_folder(STUDY) / predictions.FOLDER / search


def latest(store: Store) -> Predictions:
    told = predictions.latest(store, STUDY)
    assert told is not None
    return told


def changed(**fields: Any) -> str:
    return json.dumps(made().model_dump(mode="json") | fields)


# Round trips


def test_what_is_written_is_read_back_and_whatever_a_later_writer_added(store: Store) -> None:
    assert predictions.latest(store, STUDY) is None
    folder(store, "tradeoff-1").mkdir(parents=True)
    assert predictions.latest(store, STUDY) is None
    one = made(latency="a phone", lattice=lattice(latency_ms=[0.5, 1.5]))
    assert predictions.write(store, folder(store, "tradeoff-1"), one) == one
    path = folder(store, "tradeoff-1") / "predictions.json"
    assert predictions.latest(store, STUDY) == one
    path.write_text(changed(energy_j=12.0))
    assert predictions.latest(store, STUDY) == made()


def test_predictions_of_another_study_are_none_of_this_one(store: Store) -> None:
    predictions.write(store, folder(store), made(study="another"))
    assert predictions.latest(store, STUDY) is None
    predictions.write(store, folder(store), made())  # and are replaced, not continued
    assert latest(store).looks == (look(0, 8),)


# Looks


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ([[(0, 8)], [(1, 9)], [(2, 10)]], [(0, 8), (1, 9), (2, 10)]),  # earlier ones stay
        ([[(0, 8)], [(1, 10)], [(1, 11)], [(1, 12)]], [(0, 8), (1, 12)]),  # one for each round
        ([[(5, 30)], [(0, 8)]], [(0, 8)]),  # a search that was begun anew
        # what `refit` continues holds all looks already
        ([[(0, 8), (1, 10), (2, 12)], [(0, 8), (1, 10), (2, 13)]], [(0, 8), (1, 10), (2, 13)]),
    ],
)
def test_looks_are_kept_one_for_each_round_and_returned(
    store: Store, written: list[list[tuple[int, int]]], kept: list[tuple[int, int]]
) -> None:
    for looks in written:
        told = predictions.write(store, folder(store), made(*(look(*one) for one in looks)))
    assert told == latest(store)
    assert [(one.round, one.runs) for one in told.looks] == kept


# Which of many


def test_those_from_most_runs_of_their_last_look_win_then_the_newest(store: Store) -> None:
    for search, one in {
        "few": made(look(0, 30), look(5, 9), created_at="2026-12-31T00:00:00+00:00"),
        "old": made(look(1, 10), created_at="2026-01-01T00:00:00+00:00"),
        "": made(look(0, 10), created_at="2026-02-01T00:00:00+00:00", search=""),
    }.items():
        predictions.write(store, folder(store, search), one)
        assert latest(store) == one


def test_a_page_is_of_the_drop_that_the_answer_may_lose_and_shows_the_rounds_before_it(
    store: Store,
) -> None:
    """Another drop is asked for of the same trainings: nothing is trained, and no round follows."""
    searched = made(look(0, 8), look(1, 10), max_drop=3.0, val_warnings=["few images for 3"])
    again = made(look(0, 10), max_drop=8.0, rounds=[], search="other", created_at="2026-02-01")
    for name, one in {"first": searched, "other": again, "third": again}.items():
        predictions.write(store, folder(store, name), one.model_copy(update={"search": name}))
    assert latest(store).max_drop == 3.0  # no answer yet
    best = store.study_folder(STUDY) / "best"
    best.mkdir()
    for allowed, search in ((3.0, "first"), (8.0, "third"), (5.0, "first")):
        promise = {"drop": 1, "low": 0, "high": 2, "probability": 0.9, "confidence": 0.8}
        told = {"measured_on": "test", "drop": 1.0, "promise": promise | {"allowed": allowed}}
        (best / "metrics.json").write_text(json.dumps(told))
        found = latest(store)
        assert found.search == search or (search, found.search) == ("third", "other")
        assert found.rounds == searched.rounds
        assert [(one.round, one.runs) for one in found.looks] == [(0, 8), (1, 10)]
        assert bool(found.val_warnings) == (search == "first")


# What cannot be read


@pytest.mark.parametrize(
    "content",
    [
        changed(schema_version=predictions.SCHEMA + 1),
        changed(looks=[]),
        changed(lattice=None),
        changed(lattice=lattice(mean=[90.0])),  # unequal columns
        changed(lattice=lattice(latency_ms=[1.0])),
        changed(lattice=lattice(mean=["90", "91"])),  # text for a number
        changed(lattice=lattice(params=[-1, 2])),
        changed(lattice=lattice(params=[2**63, 2])),
        changed(lattice=lattice(network=["", "d1_w8"])),
        changed(lattice=lattice(network=["d" * 20_001, "d1_w8"])),
        changed(max_drop=1).replace('"max_drop": 1', '"max_drop": 1e999'),
        changed()[:-9],
        None,  # a folder in the file's place
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_skipped_with_one_warning(
    store: Store, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    path = folder(store, "a") / predictions.FILE
    if content is None:
        path.mkdir(parents=True)
    else:
        store.write_text(path, content)
    assert predictions.latest(store, STUDY) is None
    (message,) = caplog.messages
    assert message.startswith(f"skipped {path}: ") and "\n" not in message
    predictions.write(store, folder(store, "b"), made())
    assert predictions.latest(store, STUDY) == made()


def test_a_damaged_file_is_replaced_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.write_text(folder(store) / predictions.FILE, "{")
    predictions.write(store, folder(store), made(look(1, 9)))
    assert len(caplog.messages) == 1
    assert latest(store).looks == (look(1, 9),)


# When they are due


def test_predictions_are_due_where_enough_networks_were_trained_and_more_runs_came(
    make_record: MakeRecord,
) -> None:
    full = {"network": "n0", "modifiers": Fractions(depth=(1.0,), width=(1.0,))}
    runs = [make_record(**full), *(make_record(network=f"n{n}") for n in range(1, 4))]
    assert len(runs) == predictions.FEWEST
    assert not predictions.are_due([], None)
    assert not predictions.are_due(runs[:-1], None)
    assert predictions.are_due(runs, None)
    assert not predictions.are_due(runs, made(look(0, len(runs))))
    assert not predictions.are_due(runs, made(look(0, 2), seen=len(runs)))  # of which some counted
    assert predictions.are_due([*runs, make_record(network="n1", seed=1)], made(look(0, len(runs))))


def test_without_the_baseline_or_enough_measured_networks_nothing_is_predicted(
    make_record: MakeRecord,
) -> None:
    full = Fractions(depth=(1.0,), width=(1.0,))
    failed = make_record(modifiers=full, status=Status.failed, val_acc=None)
    repeats = [make_record(network=f"n{seed % 3}", seed=seed) for seed in range(12)]
    useless = [
        make_record(network="f", status=Status.failed, val_acc=None),
        make_record(network="d", status=Status.diverged, val_acc=10.0),
        make_record(network="t", val_acc=None),
    ]
    assert not predictions.are_due(
        [*(make_record(network=f"n{n}") for n in range(9)), failed], None
    )
    assert not predictions.are_due([make_record(modifiers=full), *repeats[:2], *useless], None)
    assert not predictions.are_due([make_record(modifiers=full, network="n0"), *repeats], None)
