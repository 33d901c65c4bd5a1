"""Operations of random graphs that have no parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.random_networks.layers import space, wide


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


def _fourier(one: Tensor, other: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(one, dim=-1), n=one.shape[-1], dim=-1)


def _hardest(one: Tensor, other: Tensor) -> Tensor:
    """Marks the largest channel of each pixel."""
    return one * F.one_hot(one.argmax(1), one.shape[1]).movedim(-1, 1)


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
    "pad": Function(lambda a, b: F.pad(a, [0, 0] * (a.ndim - 2) + [0, 4]), lambda a, b: a + 4),
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
    "assigned": Function(_assigned, lambda a, b: 2 * _alike(a, b)),
    "shifted": Function(_shifted, lambda a, b: a if a >= 4 else 0),
    "warped": Function(_warped, _same),
    "fourier": Function(_fourier, _same),
    "hardest": Function(_hardest, _same),
    "double": Function(lambda a, b: (a.double() * 2).to(a.dtype), _same),
    "if_alike": Function(lambda a, b: a + b if a.shape == b.shape else a, _same),
    "top": Function(lambda a, b: a.topk(4, 1).values, lambda a, b: 4 if a >= 4 else 0),
    "in_groups": Function(
        lambda a, b: (a.unflatten(1, (4, -1)) - a.unflatten(1, (4, -1)).mean(2, True)).flatten(
            1, 2
        ),
        lambda a, b: 0 if a % 4 else a,
    ),
    "over_largest": Function(lambda a, b: a / (a.abs().amax((1, 2), True) + 1), _same),
    "log_sum": Function(lambda a, b: a * a.logsumexp(1, True).sigmoid(), _same),
    "var_mean": Function(lambda a, b: a - torch.var_mean(a, 1, keepdim=True)[1], _same),
    "chained": Function(lambda a, b: a.mul(2).clamp(-1, 1).pow(2).add_(a), _same),
    "masked": Function(lambda a, b: a.masked_fill(b.mean(1, True) < 0, 0.0), _same),
}
