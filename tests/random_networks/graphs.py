"""A block that is a small random graph: each step computes a value from two earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.random_networks.functions import FUNCTIONS
from tests.random_networks.layers import LayerNorm, Part, Style

MOST = 64  # channels of one value


class Step(NamedTuple):
    """One value of a graph: an operation, and how far back the values lie that it reads."""

    op: str = "conv"
    one: int = 0
    other: int = 1


class Permuted(Part):  # channels in a stored random order
    def make(self, channels: int) -> None:
        self.register_buffer("order", torch.randperm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.order)


class LastLinear(nn.Linear):  # over channels that stand last meanwhile
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Gain(Part):  # a gain and a bias for each channel
    def make(self, style: Style, channels: int) -> None:
        self.gain = nn.Parameter(torch.ones(1, channels, *[1] * style.dims))
        self.bias = nn.Parameter(torch.zeros(channels, *[1] * style.dims))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.bias


LAYERS: dict[str, Callable[[Style, int], tuple[nn.Module, int]]] = {
    "conv": lambda s, c: (s.conv(c, c), c),
    "unit": lambda s, c: (s.unit(c, 16), 16),
    "widen": lambda s, c: (s.conv(c, c + 8, 1), c + 8),
    "depthwise": lambda s, c: (s.conv(c, c, groups=c), c),
    "doubled": lambda s, c: (s.conv(c, 2 * c, groups=c), 2 * c),
    "halves": lambda s, c: (s.conv(c, 16, groups=2 - c % 2), 16),
    "narrow_groups": lambda s, c: (s.conv(c, c, groups=c // (2 - c % 2)), c),
    "transposed": lambda s, c: (s.layer("ConvTranspose")(c, 16, 3, 1, 1), 16),
    "transposed_depthwise": lambda s, c: (s.layer("ConvTranspose")(c, c, 3, 1, 1, groups=c), c),
    "dilated": lambda s, c: (s.layer("Conv")(c, c, 3, 1, 2, dilation=2), c),
    "norm": lambda s, c: (s.normed(c), c),
    "layer_norm": lambda s, c: (LayerNorm(c), c),
    "prelu": lambda s, c: (nn.PReLU(c), c),
    "linear": lambda s, c: (LastLinear(c, 16), 16),
    "permuted": lambda s, c: (Permuted(c), c),
    "gain": lambda s, c: (Gain(s, c), c),
}
OPS = (*LAYERS, *FUNCTIONS)


class Graph(Part):  # runs the steps; those that do not fit the channels pass their value
    def make(self, style: Style, inp: int, out: int, steps: Sequence[Step]) -> None:
        self.steps: list[tuple[str, Step]] = []
        self.layers = nn.ModuleDict()
        channels = [inp]
        for number, step in enumerate(steps):
            one, other = (channels[-1 - back % len(channels)] for back in (step.one, step.other))
            name, layer = f"{step.op}{number}", None
            if step.op in FUNCTIONS:
                made = FUNCTIONS[step.op].channels(one, other)
            else:
                layer, made = LAYERS[step.op](style, one)
            passes = not 1 < made <= MOST
            if layer is not None and not passes:
                self.layers[name] = layer
            self.steps.append(("pass" if passes else name, step))
            channels.append(one if passes else made)
        self.close, self.has_skip = style.unit(channels[-1], out, 1), inp == out

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for name, step in self.steps:
            one, other = (values[-1 - back % len(values)] for back in (step.one, step.other))
            if name in self.layers:
                one = self.layers[name](one)
            elif name != "pass":
                one = FUNCTIONS[step.op].run(one, other)
            values.append(one)
        y = self.close(values[-1])
        return x + y if self.has_skip else y
