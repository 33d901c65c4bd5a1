"""Whole commands on a table of images: a score that is minimised, and several labels."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import killing
import numpy as np
import pytest
from PIL import Image

from ssr_exp.runs.store import Store
from tests.conftest import Command

pytestmark = [pytest.mark.usefixtures("repeatable"), pytest.mark.slow]

COUNT = 120
FIRST = "modifiers=sentinel_width"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write images of a bright square on noise; the table says its side and its colours."""
    draw, rows = np.random.default_rng(0), []
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        side, channel = int(draw.integers(1, 8)), int(draw.integers(3))
        pixels = draw.integers(0, 60, (8, 8, 3), dtype=np.uint8)
        pixels[:side, :side, channel] = 255
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        part = ("train", "train", "val", "train", "test")[number % 5]
        red, large = channel == 0, side > 4
        words = "|".join(w for w, held in (("red", red), ("large", large)) if held)
        rows.append([f"{number}.png", side / 2, int(red), int(large), words, part])
    with (tmp_path / "sides.csv").open("w", newline="") as file:
        names = ["image", "side", "red", "large", "words", "part"]
        csv.writer(file).writerows([names, *rows])
    return tmp_path / "sides.csv"


def words(table: Path, task: str, targets: str) -> list[str]:
    return [
        f"task={task}",
        "dataset=csv",
        f"dataset.file={table}",
        f"dataset.root={table.parent / 'images'}",
        f"dataset.targets=[{targets}]",
        "dataset.crop_padding=0",
        "dataset.flip=false",
        "recipe.lr=0.02",
        "recipe.batch_size=16",
        "trainer.max_epochs=6",
    ]


@pytest.mark.more
def test_a_search_of_the_least_error_ends_with_an_answer_and_repeats_nothing(
    table: Path, command: Command, tmp_path: Path
) -> None:
    line = [*words(table, "regression", "side"), FIRST, "task.unit=cm", "rounds=1", "batch=1"]
    line += ["objective=smallest", "objective.max_drop=100%", "finalists.seeds=1"]
    ended = command(*line, script="search.py")
    assert (ended.code, ended.err) == (0, "")
    assert "120 images with 1 number: side 0.5 to 3.5" in ended.out
    (answer,) = ended.lines("answer: ")
    match = re.search(r"^drop: +(none: )?(\S+) cm", ended.out, flags=re.MULTILINE)
    assert match and ended.lines("round 1 of 1: ", "val rmse ", " cm expected")
    assert ended.lines("test rmse: ", " cm and the baseline's ")
    store = Store(f"{tmp_path}/runs")
    records = [r for some in store.records_by_study().values() for r in some]
    searched = [r for r in records if r.score is not None]
    assert {(r.score_key, r.direction.value, r.unit, r.bounds) for r in records} == {
        ("val/rmse", "min", "cm", (0.0, None))
    }
    for record in searched:
        assert len(record.scores) == record.epochs and record.scores[-1] == record.score
        assert record.best_score == pytest.approx(min(s for s in record.scores if s is not None))
        assert {"val/mae", "val/r2", "val/loss", "train/rmse"} <= set(record.metrics)
        assert record.val_acc is None
    (code,) = re.findall(r"^answer: +resnet8 ([^ ,]+)", answer)
    tested = {r.network: r.test_score for r in records if r.test_score is not None}
    (full,) = {r.network for r in searched if r.params == r.baseline_params}
    drop = float(match[2]) * (-1 if match[1] else 1)
    assert drop == pytest.approx((tested[code] or 0) - (tested[full] or 0), abs=1e-3)
    page = json.loads(
        re.findall(r'id="data">(.*?)</script>', (tmp_path / "runs/report.html").read_text())[0]
    )
    assert page["studies"][0]["score"]["heading"] == "val rmse cm"

    written = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/seed*/record.json")
    }
    again = command(*line, script="search.py")
    assert again.code == 0 and again.lines("answer: ") == [answer]
    assert written == {path: path.stat().st_mtime_ns for path in written}
    loaded = (store.study_folder(searched[0].study) / "best/load.py").read_text()
    assert "# predictions: (" in loaded


@pytest.mark.more
@pytest.mark.parametrize(
    ("task", "targets", "key"),
    [("regression", "side", "val/rmse"), ("multilabel", "red,large", "val/mAP")],
)
def test_what_is_killed_is_not_repeated_and_the_answer_is_exported(
    table: Path, tmp_path: Path, task: str, targets: str, key: str
) -> None:
    runs, further = tmp_path / "runs", ["model=resnet8", "modifiers.together=1", "logger=disabled"]
    further += [f"paths.data={tmp_path}/data", "recipe=sgd_cosine", "trainer=cpu", FIRST]
    line = [*further, *words(table, task, targets)]
    search = "rounds=1 batch=1 objective=smallest objective.max_drop=90% finalists.seeds=1".split()
    line += [*search, "trainer.max_epochs=1"]
    out = killing.repeated(runs, tmp_path, 2, "search.py", *line)
    assert [line for line in out.splitlines() if line.startswith("answer: ")]
    exported = killing.ended(killing.start(runs, tmp_path, "export.py", "format=onnx"))
    score = next(iter(killing.records(runs).values())).scored_by
    assert score.key == key and score.heading in exported and "model.onnx" in exported


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_several_labels_are_learnt(
    table: Path, command: Command, tmp_path: Path, balance: str
) -> None:
    line = words(table, "multilabel", "red,large")
    ended = command(*line, f"task.balance={balance}", "trainer.test=true", "trainer.max_epochs=10")
    assert ended.code == 0, ended.text
    assert "any of 2 labels: red" in ended.out and "val mAP %" in ended.out
    (record,) = Store(f"{tmp_path}/runs").records_by_study().popitem()[1]
    assert record.score_key == "val/mAP" and (record.score or 0) > 60
    assert record.test_score is not None and record.metrics["val/f1"] is not None


def test_classes_of_a_table_are_classified_and_may_be_balanced(
    table: Path, command: Command, tmp_path: Path
) -> None:
    ended = command(*words(table, "classification", "red"), "task.balance=sampling")
    assert ended.code == 0, ended.text
    (record,) = Store(f"{tmp_path}/runs").records_by_study().popitem()[1]
    assert record.score == record.val_acc is not None
    assert len(record.tables["confusion"]) == 2
    assert {"val/balanced_acc", "val/f1"} <= set(record.metrics)


@pytest.mark.parametrize(
    ("task", "targets", "more"),
    [
        ("regression", "side", "task.unit=cm"),
        ("multilabel", "red,large", ""),
        pytest.param("multilabel", "words", "dataset.resize=12", marks=pytest.mark.more),
        pytest.param("classification", "red", "", marks=pytest.mark.more),
    ],
)
def test_a_moved_table_verifies_an_export_and_its_script_scores_the_same(
    table: Path, command: Command, tmp_path: Path, task: str, targets: str, more: str
) -> None:
    line = [*words(table, task, targets), *more.split(), "dataset.split=part"]
    ended = command(
        *line, "trainer.max_epochs=2", "modifiers=explicit", "modifiers.network=d1-1-1_w4-8-16"
    )
    assert ended.code == 0, ended.text
    (record,) = Store(f"{tmp_path}/runs").records_by_study().popitem()[1]
    moved = shutil.move(table.parent / "images", tmp_path / "elsewhere")
    new = Path(shutil.move(table, tmp_path / "new.csv"))
    refused = command(f"run={record.network}", script="export.py")
    assert refused.code == 1 and "type file=TABLE.csv, root=DIR" in refused.err
    places = (f"file={new}", f"root={moved}", f"to={tmp_path}/shipped", "repeats=1")
    ended = command(
        f"run={record.network}", "int8=true", "int8_drop=60%", *places, script="export.py"
    )
    assert ended.code == 0, ended.text
    report = json.loads((tmp_path / "shipped/export.json").read_text())
    card = (tmp_path / "shipped/README.md").read_text()
    assert record.scored_by.heading in ended.out and record.scored_by.heading in card
    for row in report["files"]:
        assert row["eager"]["val"] == pytest.approx(record.score, rel=1e-4)
        script = [sys.executable, f"{tmp_path}/shipped/predict.py", "--model", row["file"]]
        rows = ["--score", "--only", "part=val", "--root", str(moved), str(new)]
        ran = subprocess.run([*script, *rows], capture_output=True, text=True, check=True)
        assert f"{record.scored_by.number(row['scores']['val'])} " in ran.stdout


def test_a_data_set_of_classes_has_nothing_for_another_task(command: Command) -> None:
    ended = command("task=regression")
    assert ended.code == 1 and "type dataset=csv with a table that has them" in ended.err
