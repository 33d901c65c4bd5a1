"""How a network begins (stems), how it ends (heads), and what its outputs are packed into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.layers import Part, Style, named, space

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


class Normed(Part):  # takes the mean of the data off, which is a buffer
    def make(self, style: Style, inp: int, out: int) -> None:
        self.register_buffer("mean", torch.rand(1, inp, *[1] * style.dims))
        self.register_buffer("std", torch.full((1, inp, *[1] * style.dims), 0.5))
        self.conv = style.unit(inp, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - self.mean) / self.std)


class Edges(Part):  # a fixed filter of each input channel, beside the image
    def make(self, style: Style, inp: int, out: int) -> None:
        self.edge = style.layer("Conv")(inp, 2 * inp, 3, 1, 1, groups=inp, bias=False)
        self.edge.weight.requires_grad_(False)
        self.conv = style.unit(3 * inp, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x, self.edge(x)], 1))


class Latent(Part):  # a linear layer whose output is laid into a map
    def make(self, style: Style, inp: int, out: int) -> None:
        self.channels, self.dims = out, style.dims
        self.fc = nn.Linear(LATENT, out * START**style.dims)

    def forward(self, z: Tensor) -> Tensor:
        return F.relu(self.fc(z)).view(-1, self.channels, *[START] * self.dims)


STEMS: dict[str, Callable[[Style, int, int], nn.Module]] = {
    "unit": Style.unit,
    "conv": Style.conv,
    "deep": lambda s, inp, out: nn.Sequential(
        s.unit(inp, out // 2), s.unit(out // 2, out // 2), s.unit(out // 2, out)
    ),
    "patch": lambda s, inp, out: nn.Sequential(s.layer("Conv")(inp, out, 2, 2), s.normed(out)),
    **named(Recurrent, PerFrame, Normed, Edges, Latent),
}
FRAMES = ("recurrent", "per_frame")


class Pooled(Part):  # global pooling, then a linear layer
    def make(self, style: Style, channels: int) -> None:
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean(space(x)))


class MaxAndMean(Part):  # two poolings side by side
    def make(self, style: Style, channels: int) -> None:
        self.fc = nn.Sequential(nn.Linear(2 * channels, 12), nn.ReLU(), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([x.mean(space(x)), x.amax(space(x))], 1))


class Flat(Part):  # flattens a small map; how many features that gives is stored
    def make(self, style: Style, channels: int) -> None:
        self.features = channels * 2**style.dims
        self.pool, self.fc = style.layer("AdaptiveAvgPool")(2), nn.Linear(self.features, 12)
        self.drop, self.classify = nn.Dropout(0.2), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc(self.pool(x).reshape(-1, self.features)))
        return self.classify(self.drop(x))


class LowRankHead(Part):  # a weight that is a product of two parameters
    def make(self, style: Style, channels: int) -> None:
        self.u = nn.Parameter(torch.randn(24, 4) / 2)
        self.v = nn.Parameter(torch.randn(4, channels) / 4)
        self.fc = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(F.linear(x.mean(space(x)), self.u @ self.v)))


class Prototypes(Part):  # similarities to a prototype of each class
    def make(self, style: Style, channels: int) -> None:
        self.prototypes = nn.Parameter(torch.randn(CLASSES, channels))

    def forward(self, x: Tensor) -> Tensor:
        features = F.normalize(x.mean(space(x)), dim=1)
        return features @ F.normalize(self.prototypes, dim=1).t()


class OverPositions(Part):  # a recurrent layer over positions; few, for each takes its time
    def make(self, style: Style, channels: int) -> None:
        self.rnn, self.fc = nn.GRU(channels, 10, batch_first=True), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        positions = x.flatten(2).transpose(1, 2)[:, :MOST_POSITIONS]
        return self.fc(self.rnn(positions)[0][:, -1])


class AttentionPool(Part):  # a learnt query looks at all positions
    def make(self, style: Style, channels: int) -> None:
        self.query = nn.Parameter(torch.randn(channels) / 4)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        looks = (tokens * self.query[:, None]).sum(1).softmax(-1)
        return self.fc((tokens * looks[:, None]).sum(-1))


class Map(Part):  # a map for each class
    def make(self, style: Style, channels: int) -> None:
        self.conv = style.layer("Conv")(channels, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PooledMap(Map):  # the mean of a map for each class
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).mean(2)


HEADS = {
    **named(Pooled, MaxAndMean, Flat, Prototypes, OverPositions, AttentionPool, Map, PooledMap),
    "low_rank": LowRankHead,
}


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
