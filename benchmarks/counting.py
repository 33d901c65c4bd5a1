"""How fast costs are counted in closed form, in how much memory, and against one by one."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure
from benchmarks.measure import Figure
from ssr_exp.config import ModelConf
from ssr_exp.rescaling import cost, lattice, planning, rescale, seeds
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import CLOSE, Architecture, Plan

PART = "counting"
OTHERS = {  # networks a second that are required, at 224 pixels
    "resnet50": 5e6,
    "torchvision/efficientnet_b0": 5e6,
    "torchvision/densenet121": 1e5,
}
CHUNK = 1 << 20  # networks drawn and counted at a time for the memory figure


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    networks: int = 1_000_000
    in_chunks: int = 10_000_000
    one_by_one: int = 4  # networks in a round
    rounds: int = 5


SMOKE = Size(networks=1000, in_chunks=1000, one_by_one=1, rounds=1)


def measured(size: Size) -> list[Figure]:
    """Count ResNet-56's rescaled networks on one core."""
    network, plan = resnet56()
    grid = lattice.from_plan(plan)
    rng = np.random.default_rng(0)
    points = drawn(grid, size.networks, rng)
    depth, width = fractions(plan, size.networks, rng)
    sample = iter(grid.sample(2 * size.one_by_one * (size.rounds + 1), seed=0))
    rivals = {
        f"one by one, {device}": lambda device=device: one_by_one(
            network, plan, sample, size.one_by_one, device
        )
        for device in ("cpu", "meta")
    }
    with one_thread():
        seconds = measure.interleaved(
            {
                "points": measure.timed(lambda: cost.count(plan, points)),
                "modifiers": measure.timed(lambda: cost.count(plan, rounded(plan, depth, width))),
                "lattice": measure.timed(grid.cost),
                **rivals,
            },
            rounds=size.rounds,
        )
    figures = _figures(seconds, size, len(grid), in_own_process(size.in_chunks))
    return [*figures, *_others(size)]


def _others(size: Size) -> Iterator[Figure]:
    """Count networks of other architectures on one core."""
    for word, required in OTHERS.items():
        conf = seeds.parse(word)
        with torch.device("meta"):
            network = seeds.build(conf, num_classes=1000, input_shape=(3, 224, 224))
        plan = planning.trace(network, (3, 224, 224), multiple=seeds.multiple(conf))
        points = drawn(lattice.from_plan(plan), size.networks, np.random.default_rng(0))
        work = measure.timed(partial(cost.count, plan, points))
        with one_thread():
            seconds = measure.interleaved({word: work}, rounds=size.rounds)[word]
        name = f"networks of {word} from points"
        yield measure.rate(PART, name, seconds, size.networks, at_least=required)


def _figures(
    seconds: measure.Seconds, size: Size, n_lattice: int, memory: dict[str, float]
) -> list[Figure]:
    """Turn times into rates; the rival's time for one network is extrapolated to as many."""
    n = size.networks
    rival = min(("one by one, cpu", "one by one, meta"), key=lambda name: np.median(seconds[name]))
    same_number = [each * n / size.one_by_one for each in seconds[rival]]
    millions = size.in_chunks / 1e6
    return [
        measure.rate(PART, "networks from points", seconds["points"], n, at_least=5e6),
        measure.rate(PART, "networks from float modifiers", seconds["modifiers"], n),
        measure.rate(PART, f"networks of the whole lattice ({n_lattice:,})", seconds["lattice"],
                     n_lattice),
        measure.duration(PART, f"the whole lattice ({n_lattice:,})", seconds["lattice"]),
        Figure(PART, f"{millions:g} million in chunks", memory["seconds"], "s"),
        Figure(PART, f"{millions:g} million in chunks: memory", memory["mb"], "MB", at_most=1024),
        measure.rate(PART, f"networks built and counted {rival}", seconds[rival], size.one_by_one),
        measure.ratio(PART, "formula over flop_counter", same_number, seconds["points"]),
    ]  # fmt: skip


def resnet56() -> tuple[nn.Module, Plan]:
    """Trace the seed network of the requirement."""
    network = seeds.build(ModelConf("resnet56"), num_classes=10, input_shape=(3, 32, 32))
    return network, planning.trace(network, (3, 32, 32), multiple=4)


def drawn(grid: Lattice, count: int, rng: np.random.Generator) -> Points:
    """Draw points of a lattice, with repeats."""
    return np.stack([rng.choice(option, count) for option in grid.options], axis=1)


def fractions(
    plan: Plan, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw depths and widths, each `n x S`, that keep at least one block."""
    least = [1 / len(segment.blocks) for segment in plan.segments]
    shape = count, len(least)
    return rng.uniform(least, 1, shape), rng.uniform(0.01, 1, shape)


def rounded(plan: Plan, depth: NDArray[np.float64], width: NDArray[np.float64]) -> Points:
    """Round fractions, `n x S`, to points as `Plan.effective` rounds them one by one."""
    points = np.empty(depth.shape, dtype=np.int32)
    for s, (segment, widths) in enumerate(zip(plan.segments, plan.widths, strict=True)):
        total = len(segment.blocks)
        blocks = np.floor(depth[:, s] * total + (0.5 + CLOSE))
        points[:, s] = widths.positions(width[:, s]) * total + blocks - 1
    return points


def agrees(plan: Plan, depth: NDArray[np.float64], width: NDArray[np.float64]) -> bool:
    """Hold `rounded` against the plan's own rounding."""
    pairs = zip(depth.tolist(), width.tolist(), strict=True)
    expected = [plan.effective(Modifiers(d, w)) for d, w in pairs]
    return cost.decode(plan, rounded(plan, depth, width)) == expected


def one_by_one(
    network: nn.Module, plan: Plan, sample: Iterator[Architecture], count: int, device: str
) -> float:
    """Build each of the next `count` networks and count it by running it; returns seconds.

    Raises:
        RuntimeError: the formula gives another number.
    """
    images = torch.zeros(1, *plan.input_shape, device=device)
    spent = 0.0
    for _ in range(count):
        architecture = next(sample)
        start = time.perf_counter()
        built = rescale.build(network, plan, architecture).to(device).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            built(images)
        found = sum(p.numel() for p in built.parameters()), counter.get_total_flops() // 2
        spent += time.perf_counter() - start
        if found != cost.count_one(plan, architecture)[:2]:
            raise RuntimeError(f"flop_counter finds {found} for {architecture}")
    return spent


def in_own_process(count: int) -> dict[str, float]:
    """Run `count_in_chunks` in a fresh process."""
    found: dict[str, float] = measure.in_own_process("benchmarks.counting", count)
    return found


def count_in_chunks(count: int) -> dict[str, float]:
    """Draw and count networks, keeping all results; returns seconds of counting and peak MB.

    The peak is the process's highest since its start, less what it held just before: it can
    only be too high.
    """
    _, plan = resnet56()
    grid, rng = lattice.from_plan(plan), np.random.default_rng(0)
    cost.count(plan, drawn(grid, 1000, rng))
    before, seconds = _resident_mb(), 0.0
    kept = np.empty((len(cost.Cost._fields), count), dtype=np.int64)
    for start in range(0, count, CHUNK):
        points = drawn(grid, min(CHUNK, count - start), rng)
        begun = time.perf_counter()
        kept[:, start : start + CHUNK] = cost.count(plan, points)
        seconds += time.perf_counter() - begun
    return {"seconds": seconds, "mb": peak_mb() - before}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch, too, on one core; numpy's indexing and sums never use more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def peak_mb() -> float:
    """Return the most memory that this process ever held.

    Linux counts into `ru_maxrss` what the process that started this one held, but not here.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(peak) / 2**10
    except (OSError, ValueError):  # no such file, or no such line
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 2**10)


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no such file outside Linux
        return peak_mb()
    return pages * resource.getpagesize() / 2**20


def _answer(arguments: list[str]) -> dict[str, Any]:
    with one_thread():
        return count_in_chunks(int(arguments[0]))


if __name__ == "__main__":
    print(json.dumps(_answer(sys.argv[1:])))
