"""A Lightning project goes through all commands, its files unchanged, whatever is killed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import killing
import pytest

from ssr_exp.runs.record import Status
from ssr_exp.runs.score import Score

pytestmark = pytest.mark.slow

PROJECTS = Path(__file__).parent / "projects"
CELLS = [
    "task=module",
    "task.target=cells.lit.LitCells",
    "task.network=net",
    "task.score.key=val/iou",
    "task.score.direction=max",
    "task.score.bounds=[0,1]",
    "dataset=module",
    "dataset.target=cells.data.CellsData",
    "modifiers=sentinel_width",
    "modifiers.together=1",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "logger=disabled",
]
SEARCH = "rounds=1 batch=1 objective=smallest objective.max_drop=0.2 finalists.seeds=1".split()


@pytest.mark.more
def test_a_segmentation_project_is_searched_and_what_is_killed_is_not_repeated(
    tmp_path: Path,
) -> None:
    files = {path: path.read_bytes() for path in sorted(PROJECTS.rglob("*.py"))}
    runs = tmp_path / "runs"
    out = killing.repeated(runs, PROJECTS, 2, "train.py", *CELLS)
    assert "CellsData: data of cells.data.CellsData" in out and "val iou" in out
    assert len(killing.records(runs)) == 6  # five segments, and all of them
    out = killing.repeated(runs, PROJECTS, 7, "search.py", *CELLS, *SEARCH)
    searched = killing.records(runs).values()
    assert all(r.status is Status.finished and len(r.scores) == 2 for r in searched)
    assert [line for line in out.splitlines() if line.startswith("answer: ")]
    (tested,) = [line for line in out.splitlines() if line.startswith("test iou: ")]
    assert " and the baseline's " in tested and tested.endswith("trained on train)")
    (best,) = runs.glob("*/best")
    tested = json.loads((best / "record.json").read_text())
    assert 0 < tested["test_score"] <= 1 and tested["score_key"] == "val/iou"
    ended = partial(killing.start, runs, PROJECTS)
    exported = killing.ended(ended("export.py", "format=onnx"))
    (row,) = [line for line in exported.splitlines() if "model.onnx" in line and "ONNX" in line]
    assert Score(key="val/iou", unit="").number(tested["score"]) in row  # by the project's own code
    killing.ended(ended("report.py"))
    assert "val iou" in (runs / "report.html").read_text()
    assert {path: path.read_bytes() for path in sorted(PROJECTS.rglob("*.py"))} == files
