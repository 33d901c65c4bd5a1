"""A Lightning project goes through all commands, its files unchanged, whatever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import Store
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PROJECTS = ROOT / "tests" / "projects"
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
    "logger=disabled",
]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a command as the project's owner does, from its folder."""

    def command(script: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / script), *words, f"paths.runs={tmp_path}/runs"],
            cwd=PROJECTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    return command


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0 and "Traceback" not in err, err
    return out


def records(tmp_path: Path) -> list[Record]:
    return [r for some in Store(f"{tmp_path}/runs").records_by_study().values() for r in some]


def kill_after(process: subprocess.Popen[str], tmp_path: Path, count: int) -> dict[str, Record]:
    """Kill a command with -9 once so many networks are done; returns those."""
    until = time.monotonic() + 300
    while len(records(tmp_path)) < count:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    return {r.network: r for r in records(tmp_path)}


def test_a_segmentation_project_is_searched_and_what_is_killed_is_not_repeated(
    start: Start, tmp_path: Path
) -> None:
    files = {path: path.read_bytes() for path in sorted(PROJECTS.rglob("*.py"))}
    train = ["train.py", *CELLS, "trainer.max_epochs=4"]
    before = kill_after(start(*train), tmp_path, 2)
    out = ended(start(*train))
    assert "CellsData: data of cells.data.CellsData" in out and "val iou" in out
    trained = {r.network: r for r in records(tmp_path)}
    assert len(trained) == 6  # five segments, and all of them
    assert all(trained[code] == record for code, record in before.items())
    search = ["search.py", *train[1:], "rounds=2", "batch=1", "objective=smallest"]
    search += ["objective.max_drop=0.2", "finalists.seeds=1"]
    before = kill_after(start(*search), tmp_path, 8)
    out = ended(start(*search))
    searched = {r.network: r for r in records(tmp_path)}
    for code, record in before.items():
        unsaid = {"test_score": None, "metrics": {}}
        assert searched[code].model_copy(update=unsaid) == record.model_copy(update=unsaid)
    assert all(r.status is Status.finished and len(r.scores) == 4 for r in searched.values())
    (answer,) = [line for line in out.splitlines() if line.startswith("answer: ")]
    assert "iou drop" in answer and "finalists: trained on train, tested once" in out
    (best,) = (tmp_path / "runs").glob("*/best")
    tested = json.loads((best / "record.json").read_text())
    assert 0 < tested["test_score"] <= 1 and tested["score_key"] == "val/iou"
    exported = ended(start("export.py", "format=onnx"))
    (row,) = [line for line in exported.splitlines() if "model.onnx" in line and "ONNX" in line]
    assert Score(key="val/iou", unit="").number(tested["score"]) in row  # by the project's own code
    assert "val iou" in ended(start("report.py")) or (tmp_path / "runs" / "report.html").exists()
    assert {path: path.read_bytes() for path in sorted(PROJECTS.rglob("*.py"))} == files
