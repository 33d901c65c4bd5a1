"""What SCBP gives on a CPU: derived models of about half the size, and how fast they are.

Faster by 20 % means that an image takes at most 80 % of the seed network's time, so the seed takes
1.25 times the derived model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import measure
from benchmarks.measure import Figure
from ssr_exp.config import ModelConf, ModifiersConf
from ssr_exp.edge.latency import runtimes, stopwatch
from ssr_exp.rescaling import codes, cost, planning, rescale, seeds, sets
from ssr_exp.rescaling.cost import Cost
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.runs.provenance import torch_threads

PART = "scbp"
SHAPE, CLASSES = (3, 32, 32), 10  # CIFAR-10's; the stem is for small images
HALF = [0.45, 0.55]  # share of the seed network's parameters


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    networks: tuple[str, ...] = ("resnet18", "resnet50")
    derived: int = 3
    repeats: int = 60
    threads: int = 1


SMOKE = Size(networks=("resnet18",), derived=1, repeats=1)


def measured(size: Size) -> list[Figure]:
    """Derive models of each seed network, and time all of them in turn, one image at a time."""
    return [figure for name in size.networks for figure in _of(name, size)]


def _of(name: str, size: Size) -> list[Figure]:
    seed = seeds.build(ModelConf(name), num_classes=CLASSES, input_shape=SHAPE)
    plan = planning.trace(seed, SHAPE, kind="superblock")
    conf = ModifiersConf(kind="scbp", count=size.derived, params=HALF)
    found = sets.expand(plan, conf)
    built = {codes.write(plan, a): rescale.build(seed, plan, a) for a in found}
    eager = runtimes.find("eager")
    with torch_threads(size.threads):
        runners = {
            code: stopwatch.prepare(network, SHAPE, eager, batch=1, threads=size.threads)
            for code, network in built.items()
        }
        times = stopwatch.interleaved(runners, repeats=size.repeats)
    full, *costs = [cost.count_one(plan, a) for a in found]
    seconds = [[ms / 1000 for ms in own.times] for own in times.values()]
    labels = [f"{name}, derived {n}" for n, _ in enumerate(costs, start=1)]
    figures = [measure.duration(PART, f"{name}, seed: one image", seconds[0])]
    for label, architecture, own, spent in zip(labels, found[1:], costs, seconds[1:], strict=True):
        print(f"{label}: channels kept in each superblock, %: {_widths(plan, architecture)}")
        figures += _figures(label, own, full, spent, seconds[0])
    return figures


def _figures(
    label: str, own: Cost, full: Cost, seconds: Sequence[float], seed: Sequence[float]
) -> list[Figure]:
    low, high = HALF
    share = Figure(
        PART, f"{label}: share of parameters", own.params / full.params, at_least=low, at_most=high
    )
    return [
        share,
        Figure(PART, f"{label}: share of MACs", own.macs / full.macs),
        measure.duration(PART, f"{label}: one image", seconds),
        measure.ratio(PART, f"{label}: seed over derived", seed, seconds, at_least=1.25),
    ]


def _widths(plan: Plan, architecture: Architecture) -> str:
    """Write a derived model by the share of channels that each superblock keeps, in percent."""
    shares = (
        round(100 * int(own.sizes[position].max()) / int(own.sizes[-1].max()))
        for own, position in zip(plan.widths, architecture.widths, strict=True)
        if len(own) > 1
    )
    return "-".join(map(str, shares))
