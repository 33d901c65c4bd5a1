"""Operations of random graphs that have no parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.random_networks.layers import space, wide

Run = Callable[[Tensor, Tensor], Tensor]


class Function(NamedTuple):
    """An operation without parameters, and how many channels it puts out; 0 where it cannot."""

    run: Run
    channels: Callable[[int, int], int]


def _split(one: Tensor, other: Tensor) -> Tensor:
    few = one.shape[1] // 4
    first, rest = one.split([few, one.shape[1] - few], 1)
    return torch.cat([rest, first.relu()], 1)


def _attended(one: Tensor, other: Tensor) -> Tensor:
    flat = one.flatten(2)
    looks = torch.softmax(flat.transpose(1, 2) @ flat / 8, -1)
    return (flat @ looks).view(one.shape)


def _gram(one: Tensor, other: Tensor) -> Tensor:
    looks = torch.einsum("bcn,bkn->bck", one.flatten(2), one.flatten(2)).softmax(-1)
    return torch.einsum("bck,bkn->bcn", looks, one.flatten(2)).view(one.shape)


def _assigned(one: Tensor, other: Tensor) -> Tensor:
    """Lay two tensors into one, channel by channel."""
    out = one.new_empty(len(one), 2 * one.shape[1], *one.shape[2:])
    out[:, ::2], out[:, 1::2] = one, other
    return out


def _shifted(one: Tensor, other: Tensor) -> Tensor:
    """TSM: some channels are moved along the last dimension, in place."""
    fold, out = one.shape[1] // 4, torch.zeros_like(one)
    out[:, :fold, ..., :-1] = one[:, :fold, ..., 1:]
    out[:, fold:] = one[:, fold:]
    return out


def _warped(one: Tensor, other: Tensor) -> Tensor:
    """Samples a map where its first channels say."""
    if one.ndim == 3:
        return one
    axes = [torch.linspace(-1, 1, size) for size in reversed(one.shape[2:])]
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1)
    grid = grid.transpose(0, 2) if one.ndim == 5 else grid
    return F.grid_sample(one, grid.expand(len(one), *grid.shape), align_corners=True)


def _in_groups(one: Tensor, other: Tensor) -> Tensor:
    groups = one.unflatten(1, (4, -1))
    return (groups - groups.mean(2, True)).flatten(1, 2)


SAME: dict[str, Run] = {  # as many channels come out as go in
    "flip": lambda a, b: a.flip(1),
    "roll": lambda a, b: a.roll(1, 1),
    "mean_gate": lambda a, b: a * a.mean(space(a), keepdim=True).sigmoid(),
    "channel_gate": lambda a, b: a * a.mean(1, keepdim=True).sigmoid(),
    "expanded": lambda a, b: a.mean(space(a), keepdim=True).expand_as(a),
    "standardised": lambda a, b: (a - a.mean(space(a), keepdim=True)) / (a.std() + 1),
    "normalised": lambda a, b: F.normalize(a, dim=1),
    "softmax": lambda a, b: a * a.softmax(1),
    "cumulative": lambda a, b: a.cumsum(1) / a.shape[1],
    "sorted": lambda a, b: a.sort(1).values,
    "half_size": lambda a, b: F.interpolate(F.interpolate(a, scale_factor=0.5), size=a.shape[2:]),
    "attended": _attended,
    "gram": _gram,
    "positions": lambda a, b: a + torch.linspace(0, 1, a.shape[-1]),
    "numbered": lambda a, b: a + 0.01 * wide(torch.arange(a.shape[1])[None], a),
    "indexed": lambda a, b: a[:, torch.arange(a.shape[1]).flip(0)],
    "warped": _warped,
    "fourier": lambda a, b: torch.fft.irfft(torch.fft.rfft(a, dim=-1), n=a.shape[-1], dim=-1),
    "hardest": lambda a, b: a * F.one_hot(a.argmax(1), a.shape[1]).movedim(-1, 1),
    "double": lambda a, b: (a.double() * 2).to(a.dtype),
    "if_alike": lambda a, b: a + b if a.shape == b.shape else a,
    "over_largest": lambda a, b: a / (a.abs().amax((1, 2), True) + 1),
    "log_sum": lambda a, b: a * a.logsumexp(1, True).sigmoid(),
    "var_mean": lambda a, b: a - torch.var_mean(a, 1, keepdim=True)[1],
    "chained": lambda a, b: a.mul(2).clamp(-1, 1).pow(2).add_(a),
    "masked": lambda a, b: a.masked_fill(b.mean(1, True) < 0, 0.0),
}
ALIKE: dict[str, Run] = {  # of two maps with as many channels
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - 0.5 * b,
    "gate": lambda a, b: a * b.sigmoid(),
    "maximum": torch.maximum,
    "where": lambda a, b: torch.where(a > 0, a, b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "stack_mean": lambda a, b: torch.stack([a, b], 1).mean(1),
    "stack_max": lambda a, b: torch.stack([a, b]).amax(0),
}
DOUBLED: dict[str, Run] = {  # likewise, into twice as many
    "interleave": lambda a, b: torch.stack([a, b], 2).flatten(1, 2),
    "assigned": _assigned,
}
HALVED: dict[str, Run] = {
    "glu": lambda a, b: F.glu(a, 1),
    "first_half": lambda a, b: a[:, : a.shape[1] // 2],
    "last_half": lambda a, b: a[:, a.shape[1] // 2 :],
    "every_other": lambda a, b: a[:, ::2],
    "sum_of_halves": lambda a, b: a.unflatten(1, (2, -1)).sum(1),
    "maxout": lambda a, b: a.unflatten(1, (-1, 2)).amax(2),
}
FUNCTIONS: dict[str, Function] = {
    **{name: Function(run, lambda a, b: a) for name, run in SAME.items()},
    **{name: Function(run, lambda a, b: a if a == b else 0) for name, run in ALIKE.items()},
    **{name: Function(run, lambda a, b: 2 * a if a == b else 0) for name, run in DOUBLED.items()},
    **{name: Function(run, lambda a, b: 0 if a % 2 else a // 2) for name, run in HALVED.items()},
    "cat": Function(lambda a, b: torch.cat([a, b], 1), lambda a, b: a + b),
    "cat_again": Function(lambda a, b: torch.cat([b, a, b], 1), lambda a, b: a + 2 * b),
    "cat_mean": Function(
        lambda a, b: torch.cat([a, b.mean(1, keepdim=True)], 1), lambda a, b: a + 1
    ),
    "cat_zeros": Function(
        lambda a, b: torch.cat([a, a.new_zeros(len(a), 4, *a.shape[2:])], 1), lambda a, b: a + 4
    ),
    "pad": Function(lambda a, b: F.pad(a, [0, 0] * (a.ndim - 2) + [0, 4]), lambda a, b: a + 4),
    "narrow": Function(lambda a, b: a.narrow(1, 0, a.shape[1] - 2), lambda a, b: a - 2),
    "swapped": Function(
        lambda a, b: torch.cat(a.chunk(2, 1)[::-1], 1), lambda a, b: 0 if a % 2 else a
    ),
    "shuffle": Function(
        lambda a, b: a.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
        lambda a, b: 0 if a % 2 else a,
    ),
    "split": Function(_split, lambda a, b: a if a >= 4 else 0),
    "shifted": Function(_shifted, lambda a, b: a if a >= 4 else 0),
    "repeat": Function(lambda a, b: a.repeat(1, 2, *[1] * (a.ndim - 2)), lambda a, b: 2 * a),
    "repeat_interleave": Function(lambda a, b: a.repeat_interleave(2, 1), lambda a, b: 2 * a),
    "top": Function(lambda a, b: a.topk(4, 1).values, lambda a, b: 4 if a >= 4 else 0),
    "in_groups": Function(_in_groups, lambda a, b: 0 if a % 4 else a),
}
