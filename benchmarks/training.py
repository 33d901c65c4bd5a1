"""Images a second of our loop, of a bare loop, and of the usual torchvision pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import loops, measure
from benchmarks.measure import Contestant, Figure, Seconds
from ssr_exp.config import TrainerConf

PART = "training"
UNIT = "images/s"
WORKERS = 2  # of the usual pipeline: torchvision's transforms of PIL images, by a DataLoader


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    model: str = "resnet20"
    batch_size: int = 128
    steps: int = 10  # in a round
    low_steps: int = 50  # in a round, of the sentinel
    pipeline_steps: int = 50  # batches that are served in a round, and not trained on
    rounds: int = 5
    threads: int | None = None  # of torch; None: as many as it chooses


SMOKE = Size(model="resnet8", batch_size=8, steps=2, low_steps=2, pipeline_steps=2, rounds=1)

PLAIN = TrainerConf(max_epochs=1, accelerator="cpu", progress=False)
FAST = replace(PLAIN, precision="bf16-mixed", channels_last=True, deterministic=False)


def measured(size: Size) -> list[Figure]:
    """Train the same network in all ways, taking turns."""
    if size.threads is not None:
        torch.set_num_threads(size.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*_full(size, folder), *_low(size, folder), *_pipelines(size, folder)]


def _full(size: Size, folder: Path) -> list[Figure]:
    """The requirement's network, in the default setting of both, and in our fastest eager one."""
    label, images = size.model, size.batch_size * size.steps
    contestants = _contestants(_make(size, folder, size.steps))
    contestants["fast"] = loops.ours(_make(size, folder, size.steps, trainer=FAST)())
    seconds = measure.interleaved(contestants, rounds=size.rounds)
    name = f"{label}: our loop, bf16 and channels last"
    return [
        *figures(seconds, label, images, over_bare=0.95, over_usual=2),
        measure.rate(PART, name, seconds["fast"], images, UNIT),
        measure.ratio(PART, f"{name}, over usual", seconds["usual"], seconds["fast"]),
    ]


def _low(size: Size, folder: Path) -> list[Figure]:
    """A network as small as those that sweeps are made of: here the input pipeline counts."""
    contestants = _contestants(_make(size, folder, size.low_steps, low=True))
    seconds = measure.interleaved(contestants, rounds=size.rounds)
    return figures(seconds, f"{size.model}, lowest sentinel", size.batch_size * size.low_steps)


def _contestants(make: Callable[[], loops.Training]) -> dict[str, Contestant]:
    """All three ways, each with a network of its own."""
    return {
        "ours": loops.ours(make()),
        "bare": loops.bare(make()),
        "usual": loops.usual(make(), workers=WORKERS),
    }


def figures(
    seconds: Seconds,
    label: str,
    images: int,
    *,
    over_bare: float | None = None,
    over_usual: float | None = None,
) -> list[Figure]:
    """Turn the times of `images` images into rates and ratios of speed, which may be required."""
    names = {
        "ours": f"{label}: our loop",
        "bare": f"{label}: bare loop, same tensors",
        "usual": f"{label}: bare loop, usual pipeline",
    }
    own, required = seconds["ours"], {"bare": over_bare, "usual": over_usual}
    rates = [measure.rate(PART, name, seconds[key], images, UNIT) for key, name in names.items()]
    return rates + [
        measure.ratio(PART, f"{label}: speed, ours over {key}", seconds[key], own, at_least=bound)
        for key, bound in required.items()
    ]


def _pipelines(size: Size, folder: Path) -> list[Figure]:
    """Only the batches, nothing trained."""
    training = _make(size, folder, size.pipeline_steps)()
    batches = loops.data_module(training).train_dataloader()
    usual = loops.usual_loader(training, workers=WORKERS)
    seconds = measure.interleaved(
        {"ours": loops.served(batches), "usual": loops.served(usual)}, rounds=size.rounds
    )
    images = size.batch_size * size.pipeline_steps
    return [
        measure.rate(PART, "input alone: our batches", seconds["ours"], images, UNIT),
        measure.rate(PART, "input alone: usual pipeline", seconds["usual"], images, UNIT),
        measure.ratio(PART, "input alone: ours over usual", seconds["usual"], seconds["ours"]),
    ]


def _make(
    size: Size, folder: Path, steps: int, *, trainer: TrainerConf = PLAIN, low: bool = False
) -> Callable[[], loops.Training]:
    return partial(
        loops.prepared,
        size.model,
        trainer,
        folder,
        batch_size=size.batch_size,
        steps=steps,
        low=low,
    )
