"""Images a second of our loop: by default, in float32, beside a bare loop and the usual pipeline.

The bare loop is plain PyTorch over the same batches, in our precision and memory format. The usual
one is float32 over torchvision's transforms of PIL images, by a DataLoader with workers.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks import loops, measure
from benchmarks.measure import Figure
from ssr_exp.config import AUTO, Source, TrainerConf
from ssr_exp.rescaling import planning, rescale, sets
from ssr_exp.training import acceleration

PART = "training"
UNIT = "images/s"
WORKERS = 2  # of the usual pipeline

BEFORE = TrainerConf(max_epochs=1, accelerator="cpu", progress=False)
NOW = replace(BEFORE, precision=AUTO, channels_last=None, deterministic=None)


@dataclass(frozen=True)
class Trained:
    """A network, the side of its images, and how many it is trained on in a round."""

    model: str
    source: Source = Source.builtin
    side: int = 32
    batch_size: int = 128
    steps: int = 6
    over_before: float | None = None  # required of the default


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    networks: tuple[Trained, ...] = (
        Trained("resnet20", over_before=1.7),
        Trained("resnet18", batch_size=32),
        Trained("mobilenet_v3_small", Source.torchvision, side=128, batch_size=32),
    )
    spanned: Trained = Trained("resnet20", steps=4)  # of whose sentinels the slowest is told
    sentinels: int = 22
    pipeline_steps: int = 50  # batches that are served in a round, and not trained on
    rounds: int = 7
    threads: int | None = None  # of torch; None: as many as it chooses


TINY = Trained("resnet8", batch_size=8, steps=2)
SMOKE = Size((TINY,), TINY, sentinels=2, pipeline_steps=2, rounds=1)


def measured(size: Size) -> list[Figure]:
    """Train the same networks in all ways, taking turns."""
    if size.threads is not None:
        torch.set_num_threads(size.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [f for one in size.networks for f in _ways(one, size, folder)]
        return [*figures, *_over_sentinels(size, folder), *_pipelines(size, folder)]


def _ways(one: Trained, size: Size, folder: Path) -> list[Figure]:
    """Train a network by default, as the default was, by a bare loop and by the usual pipeline."""
    make = partial(_training, one, folder)
    seconds = measure.interleaved(
        {
            "default": loops.ours(make(NOW)),
            "before": loops.ours(make(BEFORE)),
            "bare": loops.bare(make(NOW)),
            "usual": loops.usual(make(BEFORE), workers=WORKERS),
        },
        rounds=size.rounds,
    )
    label, images = f"{one.model} at {one.side}", one.batch_size * one.steps
    names = {
        "default": f"{label}: our loop, trainer=auto",
        "before": f"{label}: our loop, trainer=exact",
        "bare": f"{label}: bare loop, same tensors, precision and format",
        "usual": f"{label}: bare loop in float32, usual pipeline",
    }
    required = {"before": one.over_before, "bare": 0.97, "usual": None}
    rates = [measure.rate(PART, name, seconds[key], images, UNIT) for key, name in names.items()]
    return rates + [
        measure.ratio(
            PART, f"{label}: speed, ours over {key}", seconds[key], seconds["default"],
            at_least=bound,
        )
        for key, bound in required.items()
    ]  # fmt: skip


def _over_sentinels(size: Size, folder: Path) -> list[Figure]:
    """Tell which sentinel gains least by the default over what it was."""
    one = size.spanned
    network = loops.seed(one.model)
    plan = planning.trace(network, (3, one.side, one.side), multiple=4)
    ratios = []
    for sentinel in sets.sentinels(plan, depth=sets.FEWEST, width=0.25)[: size.sentinels]:
        make = partial(_training, one, folder, network=rescale.build(network, plan, sentinel))
        seconds = measure.interleaved(
            {"before": loops.ours(make(BEFORE)), "default": loops.ours(make(NOW))},
            rounds=max(size.rounds // 2, 1),
        )
        ratios.append(measure.ratio(PART, "", seconds["before"], seconds["default"]).value)
    name = f"{one.model}: trainer=auto over exact, the slowest of {len(ratios)} sentinels"
    return [Figure(PART, name, min(ratios), "x", (min(ratios), max(ratios)))]


def _pipelines(size: Size, folder: Path) -> list[Figure]:
    """Only the batches, nothing trained."""
    training = _training(replace(size.networks[0], steps=size.pipeline_steps), folder, BEFORE)
    batches = loops.data_module(training).train_dataloader()
    usual = loops.usual_loader(training, workers=WORKERS)
    seconds = measure.interleaved(
        {"ours": loops.served(batches), "usual": loops.served(usual)}, rounds=size.rounds
    )
    images = size.networks[0].batch_size * size.pipeline_steps
    return [
        measure.rate(PART, "input alone: our batches", seconds["ours"], images, UNIT),
        measure.rate(PART, "input alone: usual pipeline", seconds["usual"], images, UNIT),
        measure.ratio(PART, "input alone: ours over usual", seconds["usual"], seconds["ours"]),
    ]


def _training(
    one: Trained, folder: Path, trainer: TrainerConf, *, network: nn.Module | None = None
) -> loops.Training:
    """Prepare a training with what `trainer` leaves open filled in, as for a study."""
    seed = loops.seed(one.model, one.source, one.side)
    precision = acceleration.precision(trainer, seed, begun=lambda _: False)
    return loops.prepared(
        copy.deepcopy(network or seed),
        acceleration.settled(trainer, seed, precision),
        folder,
        side=one.side,
        batch_size=one.batch_size,
        steps=one.steps,
    )
