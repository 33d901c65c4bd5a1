"""Layers of one, two and three dimensions, in the styles that a stage may have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE: dict[int, Any] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}
ADAPTIVE_MAX: dict[int, Any] = {
    1: nn.AdaptiveMaxPool1d,
    2: nn.AdaptiveMaxPool2d,
    3: nn.AdaptiveMaxPool3d,
}
BATCH_NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS: dict[int, Any] = {
    1: nn.InstanceNorm1d,
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}
PADS: dict[str, dict[int, Any]] = {
    "reflection": {1: nn.ReflectionPad1d, 2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d},
    "replication": {1: nn.ReplicationPad1d, 2: nn.ReplicationPad2d, 3: nn.ReplicationPad3d},
    "zero": {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d},
}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
PADDINGS = ("zeros", "reflect", "replicate", "circular", *PADS)


class LayerNorm(nn.Module):
    """Layer norm over the channels, which stand last meanwhile."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ChannelNorm(nn.Module):
    """The same, written out (ConvNeXt, channels first)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        ones = [1] * (x.ndim - 2)
        return x * self.weight.view(-1, *ones) + self.bias.view(-1, *ones)


class FrozenNorm(nn.Module):
    """Batch norm whose statistics and gains are buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        for name, value in (("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + self.eps).rsqrt()
        return x * wide(scale[None], x) + wide((self.bias - self.mean * scale)[None], x)


class Activated(nn.Module):
    """A convolution and a norm; what follows them is a function that is no module."""

    def __init__(self, conv: nn.Module, norm: nn.Module, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.act = conv, norm, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "batch": lambda dims, channels: BATCH_NORMS[dims](channels),
    "none": lambda dims, channels: nn.Identity(),
    "group": lambda dims, channels: nn.GroupNorm(math.gcd(4, channels), channels),
    "narrow_group": lambda dims, channels: nn.GroupNorm(
        channels // math.gcd(2, channels), channels
    ),
    "one_group": lambda dims, channels: nn.GroupNorm(1, channels),
    "layer": lambda dims, channels: LayerNorm(channels),
    "channel": lambda dims, channels: ChannelNorm(channels),
    "instance": lambda dims, channels: INSTANCE_NORMS[dims](channels, affine=True),
    "plain_instance": lambda dims, channels: INSTANCE_NORMS[dims](channels),
    "frozen": lambda dims, channels: FrozenNorm(channels),
    "bare_batch": lambda dims, channels: BATCH_NORMS[dims](channels, affine=False),
    "untracked_batch": lambda dims, channels: BATCH_NORMS[dims](
        channels, track_running_stats=False
    ),
    "response": lambda dims, channels: nn.LocalResponseNorm(3),
    "tracked_instance": lambda dims, channels: INSTANCE_NORMS[dims](
        channels, track_running_stats=True
    ),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "lambda": lambda x: x * torch.sigmoid(x),
    "function": F.relu,
}
MODULES: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "inplace": lambda channels: nn.ReLU(inplace=True),
    "gelu": lambda channels: nn.GELU(),
    "prelu": lambda channels: nn.PReLU(channels),
    "shared_prelu": lambda channels: nn.PReLU(),
    "hardswish": lambda channels: nn.Hardswish(),
    "random_leak": lambda channels: nn.RReLU(),
    "dropout": lambda channels: nn.Dropout(0.1),
}
ACTIVATIONS = (*MODULES, *FUNCTIONS)


@dataclass(frozen=True)
class Style:
    """How the layers of a stage are made."""

    dims: int
    norm: str = "batch"
    activation: str = "relu"
    padding: str = "zeros"

    def gentle(self) -> Style:
        """Activate out of place: what is activated is read elsewhere, too."""
        return replace(self, activation="relu") if self.activation == "inplace" else self

    def conv(
        self, inp: int, out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
    ) -> nn.Module:
        """Make a convolution that keeps the size, or divides it by its stride."""
        pad, made = kernel // 2, CONVS[self.dims]
        options = {"stride": stride, "groups": groups, "bias": self.norm != "batch"}
        if self.padding not in PADS:
            mode = self.padding if pad else "zeros"
            return made(inp, out, kernel, padding=pad, padding_mode=mode, **options)
        conv = made(inp, out, kernel, **options)
        return nn.Sequential(PADS[self.padding][self.dims](pad), conv) if pad else conv

    def normed(self, channels: int) -> nn.Module:
        """Make a norm."""
        return NORMS[self.norm](self.dims, channels)

    def act(self, channels: int) -> Callable[[Tensor], Tensor]:
        """Make an activation: a module, or a function."""
        if self.activation in FUNCTIONS:
            return FUNCTIONS[self.activation]
        return MODULES[self.activation](channels)

    def unit(
        self, inp: int, out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
    ) -> nn.Module:
        """Make a convolution, its norm and its activation."""
        conv, norm = self.conv(inp, out, kernel, stride=stride, groups=groups), self.normed(out)
        act = self.act(out)
        if isinstance(act, nn.Module):
            return nn.Sequential(conv, norm, act)
        return Activated(conv, norm, act)


def space(x: Tensor) -> tuple[int, ...]:
    """Name the dimensions of `x` that are neither batch nor channels."""
    return tuple(range(2, x.ndim))


def wide(vector: Tensor, like: Tensor) -> Tensor:
    """Give a `batch x channels` tensor the dimensions of an activation."""
    return vector.view(*vector.shape, *[1] * (like.ndim - 2))
