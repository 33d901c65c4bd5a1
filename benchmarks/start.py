"""How long `python train.py --help` takes, and that it does not import torch; what a job costs.

A job of a sweep costs what lies between two networks that are trained in one process: it is
composed, its study opened, its network built, its record written. A fresh process imports first.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Figure
from ssr_exp.runs.store import CONFIG_FILE, Store

PART = "start"
SWEEP = (
    *("train.py", "model=resnet8", "dataset=digits", "trainer.max_epochs=1", "trainer.threads=1"),
    *("recipe.warmup_epochs=0", "logger=disabled", "modifiers=sentinel_all"),
)
ROOT = Path(__file__).parents[1]
HELP = ("train.py", "--help")
HEAVY = ("torch", "torchvision", "lightning", "botorch", "wandb", "sklearn", "scipy")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 7
    sweeps: int = 3


SMOKE = Size(rounds=1, sweeps=1)


def measured(size: Size) -> list[Figure]:
    """Time whole processes."""
    seconds = measure.interleaved(
        {
            "help": measure.timed(lambda: python(*HELP)),
            "torch": measure.timed(lambda: python("-c", "import torch")),
        },
        rounds=size.rounds,
    )
    loaded = sorted(imported(*HELP) & set(HEAVY))
    name = f"heavy packages that it imports ({', '.join(loaded) or 'none'})"
    return [
        measure.duration(PART, "python train.py --help", seconds["help"], at_most=2),
        measure.duration(PART, "python -c 'import torch'", seconds["torch"]),
        measure.ratio(PART, "help over import torch", seconds["help"], seconds["torch"]),
        Figure(PART, name, len(loaded), at_most=0),
        *_jobs(size.sweeps),
    ]


def _jobs(count: int) -> list[Figure]:
    """Time sweeps of small networks in one process each."""
    starts, jobs = zip(*(_sweep() for _ in range(count)), strict=True)
    return [
        measure.duration(PART, "a fresh process begins its first training", starts, at_most=4),
        measure.duration(PART, "a job of a sweep, beyond its training", jobs, at_most=0.25),
    ]


def _sweep() -> tuple[float, float]:
    """Return when the first training began, and what each further job took beside its own."""
    with tempfile.TemporaryDirectory() as name:
        start = time.time()
        python(*SWEEP, f"paths.runs={name}")
        begun = sorted(file.stat().st_mtime for file in Path(name).rglob(CONFIG_FILE))
        trained = statistics.mean(record.wall_s for record in Store(name).records())
        return begun[0] - start, (begun[-1] - begun[0]) / (len(begun) - 1) - trained


def imported(*arguments: str) -> set[str]:
    """List the top-level packages that a Python process imports."""
    lines = python("-X", "importtime", *arguments).splitlines()
    modules = (line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:"))
    return {module.partition(".")[0] for module in modules}


def python(*arguments: str) -> str:
    """Run Python in the project's folder; returns what it wrote to the error stream."""
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return ended.stderr
