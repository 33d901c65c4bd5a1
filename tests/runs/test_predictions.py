"""What a surrogate predicted last, as a file: read as data, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.errors import SsrError
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import Look, Predictions
from ssr_exp.runs.record import Fractions, Record, Status
from ssr_exp.runs.store import Store

MakeRecord = Callable[..., Record]
Made = Callable[..., Predictions]
STUDY = "resnet20-digits-0a1b2c3d"


def look(number: int, runs: int, **fields: Any) -> Look:
    known: dict[str, Any] = {
        "round": number,
        "runs": runs,
        "rmse": 0.5,
        "spread": 1.5,
        "spearman": 0.9,
        "coverage": (0.5, 0.75, 1.0),
        "noise": 0.25,
        "hypervolume": 3.5,
    }
    return Look(**(known | fields))


def lattice(**columns: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "size": 512,
        "network": ["d1_w4", "d1_w8"],
        "params": [10, 20],
        "macs": [100, 200],
        "gemms": [5, 5],
        "latency_ms": None,
        "mean": [90.0, 91.0],
        "low": [89.0, 90.0],
        "high": [91.0, 92.0],
    }
    return known | columns


def made(*looks: Look, **fields: Any) -> Predictions:
    known: dict[str, Any] = {
        "study": STUDY,
        "search": "tradeoff-00000000",
        "outcome": "val_acc",
        "levels": (0.5, 0.8, 0.95),
        "created_at": "2026-01-01T00:00:00+00:00",
        "looks": looks or (look(0, 8),),
        "rounds": [{"number": 0, "planned": [{"network": "d1_w4"}]}],
        "left_out": [
            {
                "network": "d1_w4",
                "seed": 0,
                "measured": 90.0,
                "predicted": 90.5,
                "low": 89.0,
                "high": 92.0,
                "z": -0.5,
            }
        ],
        "sensitivities": [{"segment": "stage1", "kind": "depth", "effect": 1.5}],
        "lattice": lattice(),
        "latency": None,
        "max_drop": 1.0,
        "seen": looks[-1].runs if looks else 8,
    }
    return Predictions.model_validate(known | fields)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def own(store: Store, search: str = "") -> Path:
    """Name the folder of a search, or the one of a study without any."""
    return store.study_folder(STUDY) / predictions.FOLDER / search


def put(store: Store, found: Predictions) -> Path:
    """Write predictions, and say where."""
    predictions.write(store, own(store), found)
    return own(store) / predictions.FILE


# Round trips


def test_what_is_written_is_read_back(store: Store) -> None:
    one = made(latency="a phone", lattice=lattice(latency_ms=[0.5, 1.5]))
    assert predictions.write(store, own(store, "tradeoff-1"), one) == one
    assert (own(store, "tradeoff-1") / "predictions.json").is_file()
    assert predictions.latest(store, STUDY) == one


def test_no_study_no_search_and_no_file_have_no_predictions(store: Store) -> None:
    assert predictions.latest(store, STUDY) is None
    own(store, "tradeoff-1").mkdir(parents=True)
    assert predictions.latest(store, STUDY) is None


def test_predictions_of_another_study_are_none_of_this_one(store: Store) -> None:
    predictions.write(store, own(store), made(study="another"))
    assert predictions.latest(store, STUDY) is None
    predictions.write(store, own(store), made())  # and are replaced, not continued
    found = predictions.latest(store, STUDY)
    assert found is not None and found.looks == (look(0, 8),)


# Looks


def test_earlier_looks_are_kept(store: Store) -> None:
    for number in range(3):
        predictions.write(store, own(store), made(look(number, 8 + number)))
    found = predictions.latest(store, STUDY)
    assert found is not None
    assert [(one.round, one.runs) for one in found.looks] == [(0, 8), (1, 9), (2, 10)]


def test_what_is_written_is_returned_with_the_earlier_looks(store: Store) -> None:
    predictions.write(store, own(store), made(look(0, 8)))
    told = predictions.write(store, own(store), made(look(1, 9)))
    assert told.looks == (look(0, 8), look(1, 9))
    assert told == predictions.latest(store, STUDY)


def test_a_look_after_the_same_round_replaces_the_one_before(store: Store) -> None:
    for one in (look(0, 8), look(1, 10), look(1, 11), look(1, 12)):
        predictions.write(store, own(store), made(one))
    found = predictions.latest(store, STUDY)
    assert found is not None
    assert found.looks == (look(0, 8), look(1, 12))


def test_a_search_that_was_begun_anew_keeps_no_look_of_later_rounds(store: Store) -> None:
    predictions.write(store, own(store), made(look(5, 30)))
    predictions.write(store, own(store), made(look(0, 8)))
    found = predictions.latest(store, STUDY)
    assert found is not None and found.looks == (look(0, 8),)


def test_looks_that_are_given_again_are_not_repeated(store: Store) -> None:
    """What `refit` continues holds all looks already."""
    looks = (look(0, 8), look(1, 10))
    predictions.write(store, own(store), made(*looks, look(2, 12)))
    predictions.write(store, own(store), made(*looks, look(2, 13)))
    found = predictions.latest(store, STUDY)
    assert found is not None and found.looks == (*looks, look(2, 13))


def test_a_damaged_file_is_replaced_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(store, made())
    path.write_text("{")
    predictions.write(store, own(store), made(look(1, 9)))
    assert len(caplog.messages) == 1
    found = predictions.latest(store, STUDY)
    assert found is not None and found.looks == (look(1, 9),)


# Which of many


def test_those_from_most_runs_win_then_the_newest(store: Store) -> None:
    few = made(look(5, 9), created_at="2026-12-31T00:00:00+00:00", search="few")
    old = made(look(1, 10), created_at="2026-01-01T00:00:00+00:00", search="old")
    new = made(look(0, 10), created_at="2026-02-01T00:00:00+00:00", search="")
    predictions.write(store, own(store, "a"), few)
    assert predictions.latest(store, STUDY) == few
    predictions.write(store, own(store, "b"), old)
    assert predictions.latest(store, STUDY) == old
    predictions.write(store, own(store), new)
    assert predictions.latest(store, STUDY) == new


def test_it_is_the_last_looks_runs_that_count(store: Store) -> None:
    grown = made(look(0, 30), look(1, 9))  # records were removed
    predictions.write(store, own(store, "a"), grown)
    predictions.write(store, own(store, "b"), made(look(0, 10)))
    found = predictions.latest(store, STUDY)
    assert found is not None and found.looks[-1].runs == 10


# What cannot be read


def changed(**fields: Any) -> str:
    return json.dumps(made().model_dump(mode="json") | fields)


def without(key: str) -> str:
    fields = made().model_dump(mode="json")
    del fields[key]
    return json.dumps(fields)


WRONG: dict[str, str | bytes] = {
    "empty": "",
    "binary": b"\xff\xfe\x00\x01",
    "null": "null",
    "list": "[]",
    "deep": "[" * 100_000,
    "foreign": '{"looks": "good"}',
    "future": changed(schema_version=predictions.SCHEMA + 1),
    "no looks": changed(looks=[]),
    "no lattice": without("lattice"),
    "no study": without("study"),
    "unequal columns": changed(lattice=lattice(mean=[90.0])),
    "unequal latencies": changed(lattice=lattice(latency_ms=[1.0])),
    "text for a number": changed(lattice=lattice(mean=["90", "91"])),
    "negative cost": changed(lattice=lattice(params=[-1, 2])),
    "huge cost": changed(lattice=lattice(params=[2**63, 2])),
    "infinite": changed(max_drop=1).replace('"max_drop": 1', '"max_drop": Infinity'),
    "overflow": changed(max_drop=1).replace('"max_drop": 1', '"max_drop": 1e999'),
    "nan": changed(max_drop=1).replace('"max_drop": 1', '"max_drop": NaN'),
    "empty code": changed(lattice=lattice(network=["", "d1_w8"])),
    "long code": changed(lattice=lattice(network=["d" * 1001, "d1_w8"])),
    "surrogate": changed(outcome="here").replace("here", "\\ud800"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_used_is_skipped_with_one_warning(
    store: Store, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    content = WRONG[name]
    folder = own(store, "a")
    folder.mkdir(parents=True)
    path = folder / predictions.FILE
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert predictions.latest(store, STUDY) is None
    (message,) = caplog.messages
    assert message.startswith(f"skipped {path}: ") and "\n" not in message
    predictions.write(store, own(store, "b"), made())
    assert predictions.latest(store, STUDY) == made()


def test_a_file_cut_short_anywhere_is_skipped(store: Store) -> None:
    path = put(store, made())
    whole = path.read_bytes().strip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert predictions.latest(store, STUDY) is None


def test_a_folder_in_the_files_place_is_skipped(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    (own(store) / predictions.FILE).mkdir(parents=True)
    assert predictions.latest(store, STUDY) is None
    assert len(caplog.messages) == 1


def test_a_key_that_a_later_writer_added_does_no_harm(store: Store) -> None:
    path = put(store, made())
    path.write_text(changed(energy_j=12.0))
    assert predictions.latest(store, STUDY) == made()


# Whole or not at all


def test_a_disk_that_fails_leaves_the_predictions_of_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(store, made())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SsrError, match="the disk is full"):
        predictions.write(store, own(store), made(look(1, 99)))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [predictions.FILE]


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SsrError, match="cannot write to"):
        predictions.write(Store(tmp_path), tmp_path / "file" / "below", made())
    assert (tmp_path / "file").read_text() == "kept"


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


def test_without_the_baseline_nothing_is_predicted(make_record: MakeRecord) -> None:
    runs = [make_record(network=f"n{n}") for n in range(9)]
    assert not predictions.are_due(runs, None)
    full = Fractions(depth=(1.0,), width=(1.0,))
    failed = make_record(modifiers=full, status=Status.failed, val_acc=None)
    assert not predictions.are_due([*runs, failed], None)


def test_repeats_of_a_network_are_no_further_networks(make_record: MakeRecord) -> None:
    repeats = [make_record(network=f"n{seed % 3}", seed=seed) for seed in range(12)]
    assert not predictions.are_due(repeats, None)


def test_what_failed_or_has_no_accuracy_counts_for_nothing(make_record: MakeRecord) -> None:
    runs = [make_record(network=f"n{n}") for n in range(3)]
    useless = [
        make_record(network="f", status=Status.failed, val_acc=None),
        make_record(network="d", status=Status.diverged, val_acc=10.0),
        make_record(network="t", val_acc=None),
    ]
    assert not predictions.are_due(runs + useless, None)
