"""What is shown of each class is what the table of a record says."""

from __future__ import annotations

import pytest

from ssr_exp.report import class_scores
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from tests.conftest import MakeRecord

STUDY = "resnet20-digits-0a1b2c3d"
FULL = {"depth": (1.0,) * 3, "width": (1.0,) * 3}
CONFUSION = ((6.0, 2.0), (0.0, 0.0))


@pytest.fixture
def baseline(make_record: MakeRecord) -> Record:
    return make_record(network="full", modifiers=FULL, tables={"confusion": CONFUSION})


def test_recall_and_precision_are_those_of_the_confusion(store: Store, baseline: Record) -> None:
    shown = class_scores.collect(store, STUDY, [baseline], ())
    assert shown is not None
    assert (shown["names"], shown["amounts"], shown["of"]) == (["0", "1"], [8, 0], "images")
    (network,) = shown["networks"]
    assert network["values"] == [[75.0, 100.0], [None, 0.0]]


def test_the_answer_stands_beside_the_baseline_and_other_networks_do_not(
    store: Store, baseline: Record, make_record: MakeRecord
) -> None:
    tables = {"tables": {"confusion": CONFUSION}}
    others = [make_record(network=n, seed=s, **tables) for n in ("answer", "other") for s in (1, 0)]
    (store.study_folder(STUDY)).mkdir(parents=True)
    named = store.study_folder(STUDY) / class_scores.NETWORK
    named.write_text('{"classes": ["cat", "<b>"]}')
    shown = class_scores.collect(store, STUDY, [*others, baseline], ["answer"])
    assert shown is not None and shown["names"] == ["cat", "<b>"]
    assert [network["code"] for network in shown["networks"]] == ["full", "answer"]


def test_of_masks_the_iou_of_each_class_is_shown(store: Store, make_record: MakeRecord) -> None:
    tables = {"iou": ((50.125, 900.0), (0.0, 3.0), (None, 0.0))}
    shown = class_scores.collect(store, STUDY, [make_record(modifiers=FULL, tables=tables)], ())
    assert shown is not None
    assert (shown["columns"], shown["amounts"], shown["of"]) == (("IoU",), [900, 3, 0], "pixels")
    assert shown["networks"][0]["values"] == [[50.12], [0.0], [None]]


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"confusion": ((1.0,), (2.0,))},
        {"confusion": ((1.0, 2.0),)},
        {"confusion": ((1.0, None), (0.0, 2.0))},
        {"iou": ((50.0, None),)},
        {"other": ((1.0,),)},
    ],
)
def test_without_a_table_that_is_whole_nothing_is_shown(
    store: Store, make_record: MakeRecord, tables: dict[str, object]
) -> None:
    record = make_record(modifiers=FULL, tables=tables)
    assert class_scores.collect(store, STUDY, [record], ()) is None
