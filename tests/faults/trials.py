"""What a trial of a fault is: a command in a folder of its own, and the laws."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults import laws, mutations, processes
from tests.faults.laws import Broken, Witness
from tests.faults.processes import Child, Command, Loop

JOB = Command("train.py", ("modifiers=explicit", "modifiers.network=d1-1-1_w4-8-16"), epochs=2)
SWEEP = Command("train.py", ("modifiers=uniform_width",))
SEARCH = Command(
    "search.py",
    ("modifiers=uniform_width", "rounds=1", "batch=2", "finalists.seeds=1", "finalists.arms=[]"),
)
LOOP = Loop("tests/projects/shapes.py", ("1",))
FIRST = Loop("tests/projects/shapes.py", ("0",))  # which trains the first networks alone
TWO = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
AT_ONCE = replace(SWEEP, words=(*SWEEP.words, *TWO))
ASYNCHRONOUS = replace(SEARCH, words=(*SEARCH.words, *TWO, "asynchronous=true"))


class Trial:
    """One command in a folder of its own, and the laws; `mutate` changes our own code there."""

    def __init__(self, folder: Path, mutate: processes.Prepare = lambda: None) -> None:
        self._mutate = mutate
        self.folder, self.runs = folder, folder / "runs"
        self.witness, self.broken = Witness(folder), Broken()
        self.struck = False

    def blame(self, what: str) -> None:
        self.broken.incomplete.append(what)

    def look(self) -> None:
        self.broken.add(self.witness.look())

    def complete(self, command: Command, undisturbed: dict[str, Any] | None = None) -> Child:
        """Repeat the command as a user would; it must end with 0 and all results."""
        child = processes.start(command, self.folder, self._mutate)
        code = child.wait()
        self.look()
        if code:
            self.blame(f"the next command ended with {code}: {child.text[-300:]}")
        if undisturbed is not None:
            for line in laws.compared(laws.results(self.runs), undisturbed):
                self.blame(line)
        return child


@dataclass(frozen=True)
class Undisturbed:  # a command to which nothing happened
    wall_s: float
    results: dict[str, Any]  # of its runs
    size: int  # of the files that it left, in bytes


@dataclass
class Setting:  # what trials share
    draw: random.Random  # draws moments and damage
    mutate: str = ""  # a mutation of our own code, to be found; empty: none

    @staticmethod
    @functools.cache
    def undisturbed(command: Command) -> Undisturbed:
        """Run a command once, and remember what came of it for all faults."""
        with processes.workplace() as folder:
            start = time.monotonic()
            child = processes.start(command, folder)
            if code := child.wait():
                raise RuntimeError(f"{command} ended with {code}: {child.text[-2000:]}")
            wall_s = time.monotonic() - start
            files = [p for p in (folder / "runs").rglob("*") if p.is_file()]
            size = sum(p.stat().st_size for p in files)
            return Undisturbed(wall_s, laws.results(folder / "runs"), size)

    def mutated(self) -> None:
        if self.mutate:
            mutations.ALL[self.mutate]()

    def start(
        self, command: Command, folder: Path, prepare: processes.Prepare = lambda: None
    ) -> Child:
        def both() -> None:
            prepare()
            self.mutated()

        return processes.start(command, folder, both)

    def moment(self, command: Command) -> float:
        """Draw a moment of a command, in seconds after its start."""
        return self.draw.uniform(0, self.undisturbed(command).wall_s)


Fault = Callable[[Setting, Trial], None]
