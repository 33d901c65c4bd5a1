"""How a network begins (stems), how it ends (heads), and what its outputs are packed into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.layers import Part, Style, named, parts, space

CLASSES = 5
STEPS = 3  # of a recurrent stem
LATENT = 12  # features that a latent stem reads
START = 4  # pixels that it puts out
MOST_POSITIONS = 16  # of a recurrent layer


class Recurrent(Part):  # one gated cell that runs for each time step, on a part of the channels
    def make(self, style: Style, inp: int, out: int) -> None:
        self.hidden, self.inp, self.cell = out, inp, style.conv(inp + out, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), self.hidden, *x.shape[2:])
        for step in range(STEPS):
            frame = x[:, step * self.inp : (step + 1) * self.inp]
            gates, new = self.cell(torch.cat([frame, state], 1)).chunk(2, 1)
            state = state + gates.sigmoid() * (new.tanh() - state)
        return state


class PerFrame(Part):  # one stem for all time steps, which stand in the batch meanwhile
    def make(self, style: Style, inp: int, out: int) -> None:
        self.stem, self.join = style.unit(inp, out), style.unit(STEPS * out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *size = x.shape
        frames = self.stem(x.reshape(batch * STEPS, channels // STEPS, *size))
        return self.join(frames.reshape(batch, -1, *size))


STEMS: dict[str, Callable[[Style, int, int], nn.Module]] = {
    "unit": Style.unit,
    "conv": Style.conv,
    "deep": lambda s, inp, out: nn.Sequential(
        s.unit(inp, out // 2), s.unit(out // 2, out // 2), s.unit(out // 2, out)
    ),
    "patch": lambda s, inp, out: nn.Sequential(s.layer("Conv")(inp, out, 2, 2), s.normed(out)),
    **named(Recurrent, PerFrame),
    **parts(
        {
            "normed": (  # takes the mean of the data off, which is a buffer
                lambda s, inp, out: {
                    "mean": nn.Buffer(torch.rand(1, inp, *[1] * s.dims)),
                    "std": nn.Buffer(torch.full((1, inp, *[1] * s.dims), 0.5)),
                    "conv": s.unit(inp, out),
                },
                lambda self, x: self.conv((x - self.mean) / self.std),
            ),
            "edges": (  # a fixed filter of each input channel, beside the image
                lambda s, inp, out: {
                    "edge": s.layer("Conv")(
                        inp, 2 * inp, 3, 1, 1, groups=inp, bias=False
                    ).requires_grad_(False),
                    "conv": s.unit(3 * inp, out),
                },
                lambda self, x: self.conv(torch.cat([x, self.edge(x)], 1)),
            ),
            "latent": (  # a linear layer whose output is laid into a map
                lambda s, inp, out: {
                    "channels": out,
                    "dims": s.dims,
                    "fc": nn.Linear(LATENT, out * START**s.dims),
                },
                lambda self, z: F.relu(self.fc(z)).view(-1, self.channels, *[START] * self.dims),
            ),
        }
    ),
}
FRAMES = ("recurrent", "per_frame")


def _flat(self: nn.Module, x: Tensor) -> Tensor:
    """Flatten a small map; how many features that gives is stored."""
    x = F.relu(self.fc(self.pool(x).reshape(-1, self.features)))
    return self.classify(self.drop(x))


def _over_positions(self: nn.Module, x: Tensor) -> Tensor:
    """Run a recurrent layer over positions; few, for each takes its time."""
    positions = x.flatten(2).transpose(1, 2)[:, :MOST_POSITIONS]
    return self.fc(self.rnn(positions)[0][:, -1])


def _attention_pool(self: nn.Module, x: Tensor) -> Tensor:
    """Let a learnt query look at all positions."""
    tokens = x.flatten(2)
    looks = (tokens * self.query[:, None]).sum(1).softmax(-1)
    return self.fc((tokens * looks[:, None]).sum(-1))


def _map(s: Style, c: int) -> dict[str, Any]:
    return {"conv": s.layer("Conv")(c, CLASSES, 1)}


HEADS = parts(
    {
        "pooled": (
            lambda s, c: {"fc": nn.Linear(c, CLASSES)},
            lambda self, x: self.fc(x.mean(space(x))),
        ),
        "max_and_mean": (  # two poolings side by side
            lambda s, c: {
                "fc": nn.Sequential(nn.Linear(2 * c, 12), nn.ReLU(), nn.Linear(12, CLASSES))
            },
            lambda self, x: self.fc(torch.cat([x.mean(space(x)), x.amax(space(x))], 1)),
        ),
        "flat": (
            lambda s, c: {
                "features": c * 2**s.dims,
                "pool": s.layer("AdaptiveAvgPool")(2),
                "fc": nn.Linear(c * 2**s.dims, 12),
                "drop": nn.Dropout(0.2),
                "classify": nn.Linear(12, CLASSES),
            },
            _flat,
        ),
        "prototypes": (  # similarities to a prototype of each class
            lambda s, c: {"prototypes": nn.Parameter(torch.randn(CLASSES, c))},
            lambda self, x: (
                F.normalize(x.mean(space(x)), dim=1) @ F.normalize(self.prototypes, dim=1).t()
            ),
        ),
        "over_positions": (
            lambda s, c: {"rnn": nn.GRU(c, 10, batch_first=True), "fc": nn.Linear(10, CLASSES)},
            _over_positions,
        ),
        "attention_pool": (
            lambda s, c: {"query": nn.Parameter(torch.randn(c) / 4), "fc": nn.Linear(c, CLASSES)},
            _attention_pool,
        ),
        "map": (_map, lambda self, x: self.conv(x)),
        "pooled_map": (_map, lambda self, x: self.conv(x).flatten(2).mean(2)),
        "low_rank": (  # a weight that is a product of two parameters
            lambda s, c: {
                "u": nn.Parameter(torch.randn(24, 4) / 2),
                "v": nn.Parameter(torch.randn(4, c) / 4),
                "fc": nn.Linear(24, CLASSES),
            },
            lambda self, x: self.fc(F.relu(F.linear(x.mean(space(x)), self.u @ self.v))),
        ),
    }
)


@dataclass
class Output:
    logits: Any
    others: list[Any]


class Named(NamedTuple):
    logits: Any
    others: list[Any]


class Slots:  # an object of a plain class
    def __init__(self, logits: Any, others: list[Any]) -> None:
        self.logits, self.others = logits, others


OUTPUTS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "tensor": lambda logits, others: (logits, *others) if others else logits,
    "dictionary": lambda logits, others: {"logits": logits, "others": others},
    "dataclass": Output,
    "namespace": lambda logits, others: SimpleNamespace(logits=logits, others=others),
    "named": Named,
    "object": Slots,
    "nested": lambda logits, others: [[logits], {"others": others}, None, "a word"],
}


def packed(kind: str, tensors: Sequence[Any]) -> Any:
    """Pack a network's outputs."""
    return OUTPUTS[kind](tensors[0], list(tensors[1:]))
