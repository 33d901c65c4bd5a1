"""Whole commands on images with masks: a sweep of a U-Net, a search, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ssr_exp.rescaling import saved
from ssr_exp.runs.store import Store
from tests.conftest import Command
from tests.datasets.test_masks import write

pytestmark = [pytest.mark.usefixtures("repeatable"), pytest.mark.slow]

UNET = "model.arguments={width:4,levels:2,blocks:2}"
FIRST = ["modifiers=sentinel_all", "modifiers.together=1"]


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    root = write(tmp_path / "set", count=40)
    fixed = ["task=segmentation", "model=unet", UNET, "dataset=masks", f"dataset.root={root}"]
    return [*fixed, "dataset.crop_padding=1", "recipe.batch_size=8", "trainer.max_epochs=3"]


def test_a_sweep_and_a_search_of_a_unet_by_its_mean_iou(
    line: list[str], command: Command, tmp_path: Path
) -> None:
    ended = command(*line, *FIRST, "dataset.targets=[ground,cat,dog]")
    assert (ended.code, ended.err) == (0, "")
    assert "40 images with masks of 3 classes: ground 3" in ended.out
    assert "networks: 0 done before" in ended.out and "val mIoU %" in ended.out
    store = Store(f"{tmp_path}/runs")
    ((study, records),) = store.records_by_study().items()
    assert {(r.score_key, r.unit, r.bounds) for r in records} == {("val/mIoU", "%", (0.0, 100.0))}
    for record in records:
        assert len(record.tables["iou"]) == 3 and record.val_acc is None
        ious = [row[0] for row in record.tables["iou"] if row[0] is not None]
        assert record.score == pytest.approx(sum(ious) / len(ious), abs=1e-3)
        assert {"val/pixel_acc", "val/loss", "train/mIoU"} <= set(record.metrics)
    (full,) = (r for r in records if r.params == r.baseline_params)

    searched = command(
        *line,
        *FIRST,
        "dataset.targets=[ground,cat,dog]",
        "rounds=1",
        "batch=1",
        "objective=smallest",
        "objective.max_drop=60",
        "finalists.seeds=1",
        script="search.py",
    )
    assert searched.code == 0, searched.text
    (tested,) = searched.lines("test mIoU:")
    assert " % and the baseline's " in tested and searched.lines("drop: ", " points")
    best = store.study_folder(study) / "best"
    network, about = saved.load(best), saved.read(best)
    assert about.classes == ("ground", "cat", "dog") and about.network != full.network
    assert network.head.out_channels == 3
    assert "argmax(1)" in (best / "load.py").read_text()
    page = json.loads(
        re.findall(r'id="data">(.*?)</script>', (tmp_path / "runs/report.html").read_text())[0]
    )
    assert page["studies"][0]["score"]["heading"] == "val mIoU %"


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_the_loss_has_a_share_of_dice_and_may_weigh_classes(
    balance: str, line: list[str], command: Command, tmp_path: Path
) -> None:
    ended = command(*line, f"task.balance={balance}", "task.dice=0", "trainer.test=true")
    assert ended.code == 0, ended.text
    (record,) = Store(f"{tmp_path}/runs").records_by_study().popitem()[1]
    assert record.test_score is not None and "test/pixel_acc" in record.metrics


def test_what_does_not_fit_a_task_is_refused(line: list[str], command: Command) -> None:
    refused = {
        ("model=resnet8", "model.arguments={}"): "puts out 3 for an image of 12x10, and task=seg",
        ("task=classification",): "has a mask for each image, and this task learns one class",
        ("dataset=digits", "dataset.root=null"): "type dataset=masks dataset.root=DIR",
        ("task.balance=sampling",): "task.balance=sampling is not for task=segmentation",
        ("task.unit=cm",): "task.unit=cm is for task=regression",
        ("task.ignore_index=1", "dataset.targets=[a,b]"): "hold class 2",
    }
    for words, said in refused.items():
        ended = command(*line, *words)
        assert ended.code == 1 and said in ended.err, ended.text
        assert "Traceback" not in ended.text
    for words, said in {
        ("model=unet", UNET): "puts out 10x8x8 for an image of 8x8, a class for each pixel",
        ("task.dice=0.2",): "task.dice=0.2 is for task=segmentation",
        ("task.ignore_index=null",): "task.ignore_index=null is for task=segmentation",
    }.items():
        ended = command(*words)
        assert ended.code == 1 and said in ended.err, ended.text
