"""Commands in processes of their own, killed with -9 in the middle; what was done is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600
AFTERWARDS = {"test_score": None, "metrics": {}}  # what a test adds to a finished run


def start(runs: Path, folder: Path, script: str, *words: str) -> subprocess.Popen[str]:
    """Start a command from a folder."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *words, f"paths.runs={runs}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for a command that has to end well; returns what it printed."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "Traceback" not in err, err
    return out


def records(runs: Path) -> dict[tuple[str, int], Record]:
    """Read the record of each network and seed."""
    studies = Store(str(runs)).records_by_study().values()
    return {(r.network, r.seed): r for some in studies for r in some if r.score is not None}


def repeated(runs: Path, folder: Path, count: int, script: str, *words: str) -> str:
    """Kill a command once so many networks are done, and repeat it; none may be trained again."""
    process, until = start(runs, folder, script, *words), time.monotonic() + PATIENCE_S
    while len(records(runs)) < count:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    before = records(runs)
    out = ended(start(runs, folder, script, *words))
    after = records(runs)
    for run, record in before.items():
        assert after[run].model_copy(update=AFTERWARDS) == record.model_copy(update=AFTERWARDS)
    return out
