"""How long a network takes to be traced and planned, beside one plain forward pass of it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial

import torch
import torchvision
from torch import nn

from benchmarks import measure
from benchmarks.measure import Figure
from ssr_exp.config import ModelConf, Source
from ssr_exp.rescaling import planning, seeds

PART = "tracing"
NETWORKS = {"resnet56": (32, 10), "resnet50": (224, 1000)}  # image side in pixels, classes
TRANSFORMERS = ("vit_", "swin_", "maxvit_")
LARGEST = 100_000_000  # parameters, of torchvision's networks that must be planned in time


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    others: int | None = None  # of torchvision's; None: all
    rounds: int = 5
    cold_rounds: int = 3


SMOKE = Size(networks=("resnet56",), others=1, rounds=1, cold_rounds=1)


def measured(size: Size) -> list[Figure]:
    """Trace each network in this process, and as the first thing of a fresh one; then many."""
    return [figure for name in size.networks for figure in _of(name, size)] + _others(size)


def _others(size: Size) -> list[Figure]:
    """Plan torchvision's ConvNets, each once: the slowest of them, and the middle."""
    names = torchvision.models.list_models(module=torchvision.models)
    seconds: dict[str, float] = {}
    for name in [name for name in names if not name.startswith(TRANSFORMERS)][: size.others]:
        conf, shape = ModelConf(name, source=Source.torchvision), (3, 224, 224)
        network = seeds.build(conf, num_classes=1000, input_shape=shape)
        if sum(parameter.numel() for parameter in network.parameters()) < LARGEST:
            seconds[name] = measure.timed(partial(find, conf, network, shape))()
    slowest = max(seconds, key=lambda name: seconds[name])
    label = f"torchvision's {len(seconds)} ConvNets at 224"
    times = list(seconds.values())
    return [
        measure.duration(PART, f"{label}: {slowest}, the slowest", [max(times)], at_most=5),
        measure.duration(PART, f"{label}: the middle one", times),
    ]


def _of(name: str, size: Size) -> list[Figure]:
    network, shape = built(name)
    images = torch.zeros(1, *shape)
    network.eval()

    def forward() -> None:
        with torch.no_grad():
            network(images)

    seconds = measure.interleaved(
        {
            "find": measure.timed(lambda: find(ModelConf(name), network, shape)),
            "forward": measure.timed(forward),
        },
        rounds=size.rounds,
    )
    cold = [in_own_process(name) for _ in range(size.cold_rounds)]
    label = f"{name} at {shape[-1]}"
    return [
        measure.duration(PART, f"{label}: segments.find", seconds["find"], at_most=1.5),
        measure.duration(PART, f"{label}: first in its process", cold, at_most=1.5),
        measure.duration(PART, f"{label}: forward pass, 1 image", seconds["forward"]),
        measure.ratio(
            PART, f"{label}: find over forward pass", seconds["find"], seconds["forward"]
        ),
    ]


def built(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """Construct a network of `NETWORKS` and say for which images."""
    side, classes = NETWORKS[name]
    shape = (3, side, side)
    return seeds.build(ModelConf(name), num_classes=classes, input_shape=shape), shape


def find(conf: ModelConf, network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Trace and plan, to the lists of widths that are made on demand; returns the segments."""
    plan = planning.trace(network, shape, multiple=seeds.multiple(conf))
    return len(plan.widths)


def in_own_process(name: str) -> float:
    """Measure a fresh process's first `find`, imports not counted."""
    return float(measure.in_own_process("benchmarks.tracing", name))


def _first(name: str) -> float:
    network, shape = built(name)
    start = time.perf_counter()
    find(ModelConf(name), network, shape)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(_first(sys.argv[1]))
