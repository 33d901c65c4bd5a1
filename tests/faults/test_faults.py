"""Every kind of fault once, and three faults of our own that must be found.

`python -m tests.faults` tries each at 50 moments; `results/faults.json` is what it found.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import disks, processes
from tests.faults.__main__ import catalogue, table

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="it forks")]


def driven(out: Path, *words: str, moments: int = 2) -> tuple[int, list[dict[str, Any]], str]:
    """Run the driver; returns its code, its rows, and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", f"--moments={moments}", f"--out={out}", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return ended.returncode, json.loads(out.read_text())["faults"], ended.stdout


@pytest.mark.parametrize(
    "some",
    [
        "two-sweeps kill-search checkpoint full-sweep",
        pytest.param(
            "kill-sweep term-sweep int-sweep wandb-killed read-only", marks=pytest.mark.more
        ),
    ],
    ids=["kill", "more"],
)
def test_no_fault_loses_repeats_or_leaves_anything_incomplete(tmp_path: Path, some: str) -> None:
    mounts = os.geteuid() == 0 and disks.can_mount(tmp_path)
    names = [name for name in some.split() if mounts or name not in ("full-sweep", "read-only")]
    code, rows, printed = driven(tmp_path / "out.json", "--only", *names, moments=1)
    assert [row["fault"] for row in rows] == [catalogue(tmp_path)[name].name for name in names]
    assert [row for row in rows if row["lost"] or row["repeated"] or row["incomplete"]] == []
    assert code == 0
    assert printed.strip() == table(rows)


@pytest.mark.more  # as tests/test_study.py holds it of processes that share a folder
def test_a_loop_that_is_killed_loses_and_repeats_nothing(tmp_path: Path) -> None:
    code, rows, _ = driven(tmp_path / "out.json", "--only", "kill-loop")
    assert [row for row in rows if row["lost"] or row["repeated"] or row["incomplete"]] == []
    assert code == 0


@pytest.mark.more
def test_faults_of_our_own_are_found(tmp_path: Path) -> None:
    """With this seed the moments are in the second half of the command."""
    words = "kill-job=torn kill-sweep=forgetful kill-job=careless".split()
    code, rows, _ = driven(tmp_path / "out.json", "--only", *words, "--seed=565")
    for row, kind in zip(rows, ("incomplete", "repeated", "lost"), strict=True):
        assert row[kind] > 0 and row["told"][kind]
    assert code == 1


@pytest.mark.parametrize(
    "mode", ["train.py", pytest.param("search.py asynchronous=true", marks=pytest.mark.more)]
)
def test_a_command_with_jobs_in_processes_stops_and_takes_them_along(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path, mode: str
) -> None:
    script, *more = mode.split()
    words = ("modifiers=uniform_width", "trainer.max_epochs=900", "trainer.threads=1", *more)
    two = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = started(*words, *two, script=script)
    for _ in range(2400):
        if list(tmp_path.glob("runs/*/*/seed0/config.json")):
            break
        assert process.poll() is None
        time.sleep(0.05)
    workers = processes.below(process.pid, "popen_loky")
    assert len(workers) == 2
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    last = err.strip().splitlines()[-1]
    assert re.match(r"stopped; 0 of \d networks are done: repeat the command", last)
    assert "Traceback" not in err
    assert not [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists()]
    assert not list(tmp_path.glob("runs/*/*/seed0/record.json"))
