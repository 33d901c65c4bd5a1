"""Every kind of fault once or twice, and three faults of our own that must be found.

`python -m tests.faults` tries each at 50 moments; `results/faults.json` is what it found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults import faults
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


def test_no_fault_loses_repeats_or_leaves_anything_incomplete(tmp_path: Path) -> None:
    names = "kill-job kill-sweep term-sweep int-sweep checkpoint wandb-killed divergence".split()
    if os.geteuid() == 0 and faults.can_mount(tmp_path):
        names += ["full-sweep", "read-only"]
    code, rows, printed = driven(tmp_path / "out.json", "--only", *names)
    assert [row["fault"] for row in rows] == [catalogue(tmp_path)[name].name for name in names]
    assert [row for row in rows if row["lost"] or row["repeated"] or row["incomplete"]] == []
    assert code == 0
    assert printed.strip() == table(rows)


@pytest.mark.parametrize(
    ("mutation", "fault", "kind"),
    [
        ("torn", "kill-job", "incomplete"),
        ("forgetful", "kill-sweep", "repeated"),
        ("careless", "kill-sweep", "lost"),
    ],
)
def test_a_fault_of_our_own_is_found(tmp_path: Path, mutation: str, fault: str, kind: str) -> None:
    words = ("--only", fault, "--mutate", mutation)
    code, (row,), _ = driven(tmp_path / "out.json", *words, moments=4)
    assert code == 1
    assert row[kind] > 0 and row["told"][kind]
