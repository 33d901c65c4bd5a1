"""What training on a CPU gains where memory comes in huge pages, glibc's by its tunable.

PyTorch asks for the memory of each activation anew. In pages of 4 KiB that costs a fault for each,
and on a virtual machine a walk through two tables; in pages of 2 MiB hardly any. Results are the
same to the last bit. A process decides when it starts, so each round is a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks import loops, measure
from benchmarks.measure import Contestant, Figure
from ssr_exp.config import TrainerConf
from ssr_exp.training import acceleration

PART = "huge_pages"
TUNABLE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
ROOT = Path(__file__).parents[1]
DEFAULT = TrainerConf(max_epochs=3, accelerator="cpu", progress=False)


@dataclass(frozen=True)
class Size:
    """How much is measured: of each network so many steps with so many images."""

    networks: tuple[tuple[str, int], ...] = (("resnet20", 128), ("resnet18", 32))
    steps: int = 6
    rounds: int = 5
    threads: int = 1


SMOKE = Size((("resnet8", 8),), steps=1, rounds=1)


def measured(size: Size) -> list[Figure]:
    """Train the same networks with and without huge pages, taking turns."""
    figures = []
    for model, batch_size in size.networks:
        words = (model, str(batch_size), str(size.steps), str(size.threads))
        ways = {"plain": _process(words, {}), "huge": _process(words, TUNABLE)}
        seconds = measure.interleaved(ways, rounds=size.rounds, warm_up=0)
        name = f"{model}: speed of training in huge pages over as it is"
        figures.append(measure.ratio(PART, name, seconds["plain"], seconds["huge"]))
    return figures


def _process(words: tuple[str, ...], environment: dict[str, str]) -> Contestant:
    """Make a contestant of a process of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in TUNABLE}
    command = [sys.executable, "-m", "benchmarks.huge_pages", *words]

    def once() -> float:
        ended = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, env=kept | environment
        )
        return float(json.loads(ended.stdout.splitlines()[-1]))

    return once


def _train(model: str, batch_size: str, steps: str, threads: str) -> float:
    """Train in this process; returns the seconds of an epoch."""
    torch.set_num_threads(int(threads))
    network = loops.seed(model)
    precision = acceleration.precision(DEFAULT, network, begun=lambda _: False)
    settled = acceleration.settled(DEFAULT, network, precision)
    prepared = partial(loops.prepared, batch_size=int(batch_size), steps=int(steps))
    with tempfile.TemporaryDirectory() as folder:
        return loops.ours(prepared(network, settled, Path(folder)))()


if __name__ == "__main__":
    print(json.dumps(_train(*sys.argv[1:])))
