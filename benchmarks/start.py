"""How long `python train.py --help` takes, and that it does not import torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Figure

PART = "start"
ROOT = Path(__file__).parents[1]
HELP = ("train.py", "--help")
HEAVY = ("torch", "torchvision", "lightning", "botorch", "wandb", "sklearn", "scipy")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 7


SMOKE = Size(rounds=1)


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
    ]


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
