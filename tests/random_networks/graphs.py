"""A block that is a small random graph: each step computes a value from two earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.random_networks.functions import FUNCTIONS
from tests.random_networks.layers import CONVS, TRANSPOSED, LayerNorm, Style

MOST = 64  # channels of one value


@dataclass(frozen=True)
class Step:
    """One value of a graph: an operation, and how far back the values lie that it reads."""

    op: str = "conv"
    one: int = 0
    other: int = 1


class Permuted(nn.Module):
    """Channels in a stored random order."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.order)


class LastLinear(nn.Linear):
    """A linear layer over channels that stand last meanwhile."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Gain(nn.Module):
    """A gain and a bias for each channel."""

    def __init__(self, style: Style, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, *[1] * style.dims))
        self.bias = nn.Parameter(torch.zeros(channels, *[1] * style.dims))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.bias


LAYERS: dict[str, Callable[[Style, int], tuple[nn.Module, int]]] = {
    "conv": lambda style, c: (style.conv(c, c), c),
    "unit": lambda style, c: (style.unit(c, 16), 16),
    "widen": lambda style, c: (style.conv(c, c + 8, 1), c + 8),
    "depthwise": lambda style, c: (style.conv(c, c, groups=c), c),
    "doubled": lambda style, c: (style.conv(c, 2 * c, groups=c), 2 * c),
    "halves": lambda style, c: (style.conv(c, 16, groups=2 - c % 2), 16),
    "narrow_groups": lambda style, c: (style.conv(c, c, groups=c // (2 - c % 2)), c),
    "transposed": lambda style, c: (TRANSPOSED[style.dims](c, 16, 3, 1, 1), 16),
    "transposed_depthwise": lambda style, c: (TRANSPOSED[style.dims](c, c, 3, 1, 1, groups=c), c),
    "dilated": lambda style, c: (CONVS[style.dims](c, c, 3, 1, 2, dilation=2), c),
    "norm": lambda style, c: (style.normed(c), c),
    "layer_norm": lambda style, c: (LayerNorm(c), c),
    "prelu": lambda style, c: (nn.PReLU(c), c),
    "linear": lambda style, c: (LastLinear(c, 16), 16),
    "permuted": lambda style, c: (Permuted(c), c),
    "gain": lambda style, c: (Gain(style, c), c),
}
OPS = (*LAYERS, *FUNCTIONS)


class Graph(nn.Module):
    """Runs the steps; those that do not fit the channels pass their value."""

    def __init__(self, style: Style, inp: int, out: int, steps: Sequence[Step]) -> None:
        super().__init__()
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
