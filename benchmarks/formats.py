"""How much faster one training step gets by bfloat16 and by channels last, network by network.

The rules of `ssr_exp.training.acceleration` rest on this table. Random images, one step after the
other, each format with a copy of its own of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import loops, measure
from benchmarks.measure import Contestant, Figure
from ssr_exp.config import Source
from ssr_exp.outputs import tensors
from ssr_exp.rescaling import planning, rescale, sets

PART, TORCHVISION = "formats", Source.torchvision
FORMATS = {
    "float32": (False, False),
    "float32, channels last": (False, True),
    "bf16": (True, False),
    "bf16, channels last": (True, True),
}


@dataclass(frozen=True)
class Trained:
    """A network, the side of its images, and how many a step takes."""

    model: str
    source: Source = Source.builtin
    side: int = 32
    batch_size: int = 32
    low: bool = False  # its lowest sentinel

    @property
    def label(self) -> str:
        """Name it, with what it is trained on."""
        low = ", lowest sentinel" if self.low else ""
        return f"{self.model}{low}, {self.batch_size} images of {self.side}"


@dataclass(frozen=True)
class Size:
    """What is measured."""

    networks: tuple[Trained, ...] = (
        Trained("resnet20", batch_size=128),
        Trained("resnet20", batch_size=128, low=True),
        Trained("resnet56"),
        Trained("resnet18"),
        Trained("resnet18", low=True),
        Trained("vgg11_bn", TORCHVISION),
        Trained("resnet50", TORCHVISION, 64, 16),
        Trained("mobilenet_v3_small", TORCHVISION, 128, 16),
        Trained("mobilenet_v2", TORCHVISION, 64, 16),
        Trained("efficientnet_b0", TORCHVISION, 64, 16),
        Trained("shufflenet_v2_x1_0", TORCHVISION, 64, 16),
        Trained("regnet_y_400mf", TORCHVISION, 64, 16),
        Trained("densenet121", TORCHVISION, 32, 16),
        Trained("convnext_tiny", TORCHVISION, 64, 8),
        Trained("unet", batch_size=16),
    )
    rounds: int = 7
    threads: int = 1


SMOKE = Size((Trained("resnet8", batch_size=2),), rounds=1)


def measured(size: Size) -> list[Figure]:
    """Train every network in every format, taking turns."""
    torch.set_num_threads(size.threads)
    return [figure for trained in size.networks for figure in _figures(trained, size.rounds)]


def _figures(trained: Trained, rounds: int) -> Iterator[Figure]:
    network = _network(trained)
    seconds = measure.interleaved(
        {name: _step(network, trained, *how) for name, how in FORMATS.items()}, rounds=rounds
    )
    usual, *others = FORMATS
    yield measure.rate(
        PART, f"{trained.label}: {usual}", seconds[usual], trained.batch_size, "images/s"
    )
    for other in others:
        yield measure.ratio(
            PART, f"{trained.label}: {other} over {usual}", seconds[usual], seconds[other]
        )


def _network(trained: Trained) -> nn.Module:
    network = loops.seed(trained.model, trained.source, trained.side)
    if not trained.low:
        return network
    plan = planning.trace(network, (3, trained.side, trained.side), multiple=4)
    return rescale.build(network, plan, sets.sentinels(plan, depth=sets.FEWEST, width=0.25)[-1])


def _step(network: nn.Module, trained: Trained, is_half: bool, channels_last: bool) -> Contestant:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    own = copy.deepcopy(network).to(memory_format=layout)
    optimizer = torch.optim.SGD(own.parameters(), 1e-3, momentum=0.9)
    side, count = trained.side, trained.batch_size
    x = torch.randn(count, 3, side, side).to(memory_format=layout)
    y = torch.randint(10, (count,))

    def once() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            loss = _loss(list(tensors(own(x))), y)
        loss.backward()
        optimizer.step()

    return measure.timed(once)


def _loss(outputs: Sequence[Tensor], y: Tensor) -> Tensor:
    """Name one class for each image, or for each pixel."""
    scores = outputs[0].float()
    target = y if scores.ndim == 2 else y[:, None, None].expand(-1, *scores.shape[2:])
    return F.cross_entropy(scores, target)
