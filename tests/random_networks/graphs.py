"""A block that is a small random graph: each step computes a value from two earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.layers import CONVS, TRANSPOSED, LayerNorm, Style, space, wide

MOST = 64  # channels of one value


@dataclass(frozen=True)
class Step:
    """One value of a graph: an operation, and how far back the values lie that it reads."""

    op: str = "conv"
    one: int = 0
    other: int = 1


@dataclass(frozen=True)
class Function:
    """An operation without parameters, and how many channels it puts out; 0 where it cannot."""

    run: Callable[[Tensor, Tensor], Tensor]
    channels: Callable[[int, int], int]


def _even(one: int, other: int) -> int:
    return 0 if one % 2 else one


def _half(one: int, other: int) -> int:
    return 0 if one % 2 else one // 2


def _same(one: int, other: int) -> int:
    return one


def _alike(one: int, other: int) -> int:
    return one if one == other else 0


def _swapped(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat(one.chunk(2, 1)[::-1], 1)


def _split(one: Tensor, other: Tensor) -> Tensor:
    few = one.shape[1] // 4
    first, rest = one.split([few, one.shape[1] - few], 1)
    return torch.cat([rest, first.relu()], 1)


def _shuffled(one: Tensor, other: Tensor) -> Tensor:
    return one.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _attended(one: Tensor, other: Tensor) -> Tensor:
    flat = one.flatten(2)
    looks = torch.softmax(flat.transpose(1, 2) @ flat / 8, -1)
    return (flat @ looks).view(one.shape)


def _gram(one: Tensor, other: Tensor) -> Tensor:
    looks = torch.einsum("bcn,bkn->bck", one.flatten(2), one.flatten(2)).softmax(-1)
    return torch.einsum("bck,bkn->bcn", looks, one.flatten(2)).view(one.shape)


def _half_size(one: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(F.interpolate(one, scale_factor=0.5), size=one.shape[2:])


FUNCTIONS: dict[str, Function] = {
    "add": Function(lambda a, b: a + b, _alike),
    "subtract": Function(lambda a, b: a - 0.5 * b, _alike),
    "gate": Function(lambda a, b: a * b.sigmoid(), _alike),
    "maximum": Function(torch.maximum, _alike),
    "where": Function(lambda a, b: torch.where(a > 0, a, b), _alike),
    "lerp": Function(lambda a, b: torch.lerp(a, b, 0.3), _alike),
    "stack_mean": Function(lambda a, b: torch.stack([a, b], 1).mean(1), _alike),
    "stack_max": Function(lambda a, b: torch.stack([a, b]).amax(0), _alike),
    "interleave": Function(
        lambda a, b: torch.stack([a, b], 2).flatten(1, 2), lambda a, b: 2 * _alike(a, b)
    ),
    "cat": Function(lambda a, b: torch.cat([a, b], 1), lambda a, b: a + b),
    "cat_again": Function(lambda a, b: torch.cat([b, a, b], 1), lambda a, b: a + 2 * b),
    "cat_mean": Function(
        lambda a, b: torch.cat([a, b.mean(1, keepdim=True)], 1), lambda a, b: a + 1
    ),
    "cat_zeros": Function(
        lambda a, b: torch.cat([a, a.new_zeros(len(a), 4, *a.shape[2:])], 1), lambda a, b: a + 4
    ),
    "pad": Function(
        lambda a, b: F.pad(a, [0, 0] * (a.ndim - 2) + [0, 4]), lambda a, b: a + 4
    ),
    "glu": Function(lambda a, b: F.glu(a, 1), _half),
    "first_half": Function(lambda a, b: a[:, : a.shape[1] // 2], _half),
    "last_half": Function(lambda a, b: a[:, a.shape[1] // 2 :], _half),
    "every_other": Function(lambda a, b: a[:, ::2], _half),
    "narrow": Function(lambda a, b: a.narrow(1, 0, a.shape[1] - 2), lambda a, b: a - 2),
    "swapped": Function(_swapped, _even),
    "split": Function(_split, lambda a, b: a if a >= 4 else 0),
    "shuffle": Function(_shuffled, _even),
    "flip": Function(lambda a, b: a.flip(1), _same),
    "roll": Function(lambda a, b: a.roll(1, 1), _same),
    "repeat": Function(lambda a, b: a.repeat(1, 2, *[1] * (a.ndim - 2)), lambda a, b: 2 * a),
    "repeat_interleave": Function(lambda a, b: a.repeat_interleave(2, 1), lambda a, b: 2 * a),
    "sum_of_halves": Function(lambda a, b: a.unflatten(1, (2, -1)).sum(1), _half),
    "maxout": Function(lambda a, b: a.unflatten(1, (-1, 2)).amax(2), _half),
    "mean_gate": Function(lambda a, b: a * a.mean(space(a), keepdim=True).sigmoid(), _same),
    "channel_gate": Function(lambda a, b: a * a.mean(1, keepdim=True).sigmoid(), _same),
    "expanded": Function(lambda a, b: a.mean(space(a), keepdim=True).expand_as(a), _same),
    "standardised": Function(
        lambda a, b: (a - a.mean(space(a), keepdim=True)) / (a.std() + 1), _same
    ),
    "normalised": Function(lambda a, b: F.normalize(a, dim=1), _same),
    "softmax": Function(lambda a, b: a * a.softmax(1), _same),
    "cumulative": Function(lambda a, b: a.cumsum(1) / a.shape[1], _same),
    "sorted": Function(lambda a, b: a.sort(1).values, _same),
    "half_size": Function(_half_size, _same),
    "attended": Function(_attended, _same),
    "gram": Function(_gram, _same),
    "positions": Function(lambda a, b: a + torch.linspace(0, 1, a.shape[-1]), _same),
    "numbered": Function(lambda a, b: a + 0.01 * wide(torch.arange(a.shape[1])[None], a), _same),
    "indexed": Function(lambda a, b: a[:, torch.arange(a.shape[1]).flip(0)], _same),
}  # fmt: skip


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
