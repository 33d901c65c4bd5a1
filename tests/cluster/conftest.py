"""What the tests of all engines share: small commands in processes of their own, and their laws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT, small

SWEEP = ("modifiers=sentinel_width", "modifiers.together=1")  # three low one by one, and all
SEARCH = ("rounds=1", "batch=1", "asynchronous=true", "finalists.seeds=0", *SWEEP)
WIDTHS = {f"d1-1-1_w{widths}" for widths in ("4-32-64", "16-8-64", "16-32-16", "4-8-16")}


@dataclass
class Lab:
    """A folder of runs, and commands that train there through an engine."""

    folder: Path
    words: tuple[str, ...]
    env: dict[str, str]
    traps: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def line(self, *words: str) -> list[str]:
        """Spell the overrides of a small command."""
        given = (
            "model=module",
            "model.target=trapped.Net",
            "trainer.max_epochs=2",
            "segment.multiple=4",
        )
        return small(self.folder, (*given, *words))

    def start(self, *words: str, script: str = "train.py") -> subprocess.Popen[str]:
        return self.begin(sys.executable, str(ROOT / script), *self.line(*self.words, *words))

    def begin(self, *command: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=self.folder if cwd is None else cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.env,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *words: str, script: str = "train.py") -> tuple[int, str]:
        return self.end(self.start(*words, script=script))

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        out, _ = process.communicate(timeout=600)  # beside other tests, on two cores
        print(out)
        return process.returncode, out

    def records(self) -> dict[str, dict[str, object]]:
        found = [json.loads(p.read_text()) for p in self.folder.glob("runs/*/*/seed*/record.json")]
        return {record["network"]: record for record in found}

    def finished(self) -> set[str]:
        return {name for name, one in self.records().items() if one["status"] == "finished"}

    def stamps(self) -> dict[Path, int]:
        """When each record was written: nothing that is done is written again."""
        return {p: p.stat().st_mtime_ns for p in self.folder.glob("runs/*/*/seed*/record.json")}

    def await_(self, what: Callable[[], object], seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.2)

    def begun(self) -> list[Path]:
        return list(self.folder.glob("runs/*/*/seed*/last.ckpt"))

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def environment(folder: Path) -> dict[str, str]:
    """What trainings need of their environment, wherever they are; traps are below `folder`."""
    (folder / "traps").mkdir(exist_ok=True)
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"
    own = {"PYTHONPATH": path, "TRAPS": str(folder / "traps"), "OMP_NUM_THREADS": "1"}
    return os.environ | own | {"WANDB_MODE": "offline"}


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Set a lab up: its words, its environment beside that of all, and where its traps are."""
    made: list[Lab] = []

    def make(words: tuple[str, ...], env: dict[str, str], traps: Path | None = None) -> Lab:
        folder = tmp_path if traps is None else traps.parent
        made.append(Lab(tmp_path, words, environment(folder) | env, folder / "traps"))
        return made[-1]

    yield make
    for one in made:
        one.stop()
