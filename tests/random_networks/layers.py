"""Layers of one, two and three dimensions, in the styles that a stage may have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
PADS = {"reflection": "ReflectionPad", "replication": "ReplicationPad", "zero": "ZeroPad"}
PADDINGS = ("zeros", "reflect", "replicate", "circular", *PADS)


def layer(name: str, dims: int) -> Any:
    """Look up a layer or function of so many dimensions: `nn.Conv2d` of `Conv`."""
    return getattr(nn if name[0].isupper() else F, f"{name}{dims}d")


def space(x: Tensor) -> tuple[int, ...]:
    """Name the dimensions of `x` that are neither batch nor channels."""
    return tuple(range(2, x.ndim))


def wide(vector: Tensor, like: Tensor) -> Tensor:
    """Give a `batch x channels` tensor the dimensions of an activation."""
    return vector.view(*vector.shape, *[1] * (like.ndim - 2))


class Part(nn.Module):  # a part of a network: `make` stores what its `forward` needs
    def __init__(self, *given: Any) -> None:
        super().__init__()
        self.make(*given)

    def make(self, *given: Any) -> None:
        """Store nothing."""


def parts(
    kinds: dict[str, tuple[Callable[..., dict[str, Any]], Callable[..., Any]]],
    base: type[Part] = Part,
    *,
    stores: str = "make",
    runs: str = "forward",
) -> dict[str, type[Part]]:
    """Make kinds of parts: each by what it stores under names, and by what it runs."""

    def made(kind: str, things: Callable[..., dict[str, Any]], run: Callable[..., Any]) -> Any:
        def store(self: Part, *given: Any) -> None:
            for name, thing in things(*given).items():
                setattr(self, name, thing)

        return type(kind, (base,), {stores: store, runs: run})

    return {kind: made(kind, *pair) for kind, pair in kinds.items()}


def nothing(*_: Any) -> dict[str, Any]:
    return {}


def named(*parts: type[nn.Module]) -> dict[str, type[nn.Module]]:
    """Name parts as descriptions do: `TwoBranch` is `two_branch`."""
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", part.__name__).lower(): part for part in parts}


class LayerNorm(Part):  # over the channels, which stand last meanwhile
    def make(self, channels: int) -> None:
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class ChannelNorm(Part):  # the same, written out (ConvNeXt, channels first)
    def make(self, channels: int) -> None:
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return x * wide(self.weight, x[0, None]) + wide(self.bias, x[0, None])


class FrozenNorm(Part):  # batch norm whose statistics and gains are buffers
    def make(self, channels: int) -> None:
        self.eps = 1e-5
        for name, value in (("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + self.eps).rsqrt()
        return x * wide(scale[None], x) + wide((self.bias - self.mean * scale)[None], x)


class Activated(Part):  # a convolution and a norm, and a function that is no module
    def make(self, conv: nn.Module, norm: nn.Module, act: Callable[[Tensor], Tensor]) -> None:
        self.conv, self.norm, self.act = conv, norm, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


def _batch(dims: int, c: int, **options: bool) -> nn.Module:
    return layer("BatchNorm", dims)(c, **options)


def _instance(dims: int, c: int, **options: bool) -> nn.Module:
    return layer("InstanceNorm", dims)(c, **options)


NORMS: dict[str, Callable[[int, int], nn.Module]] = {
    "batch": _batch,
    "none": lambda dims, c: nn.Identity(),
    "group": lambda dims, c: nn.GroupNorm(math.gcd(4, c), c),
    "narrow_group": lambda dims, c: nn.GroupNorm(c // math.gcd(2, c), c),
    "one_group": lambda dims, c: nn.GroupNorm(1, c),
    "layer": lambda dims, c: LayerNorm(c),
    "channel": lambda dims, c: ChannelNorm(c),
    "instance": lambda dims, c: _instance(dims, c, affine=True),
    "plain_instance": _instance,
    "frozen": lambda dims, c: FrozenNorm(c),
    "bare_batch": lambda dims, c: _batch(dims, c, affine=False),
    "untracked_batch": lambda dims, c: _batch(dims, c, track_running_stats=False),
    "response": lambda dims, c: nn.LocalResponseNorm(3),
    "tracked_instance": lambda dims, c: _instance(dims, c, track_running_stats=True),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "lambda": lambda x: x * torch.sigmoid(x),
    "function": F.relu,
}
MODULES: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda c: nn.ReLU(),
    "inplace": lambda c: nn.ReLU(inplace=True),
    "gelu": lambda c: nn.GELU(),
    "prelu": nn.PReLU,
    "shared_prelu": lambda c: nn.PReLU(),
    "hardswish": lambda c: nn.Hardswish(),
    "random_leak": lambda c: nn.RReLU(),
    "dropout": lambda c: nn.Dropout(0.1),
}
ACTIVATIONS = (*MODULES, *FUNCTIONS)


@dataclass(frozen=True)
class Style:  # how the layers of a stage are made
    dims: int
    norm: str = "batch"
    activation: str = "relu"
    padding: str = "zeros"

    def gentle(self) -> Style:
        """Activate out of place: what is activated is read elsewhere, too."""
        return replace(self, activation="relu") if self.activation == "inplace" else self

    def layer(self, name: str) -> Any:
        return layer(name, self.dims)

    def conv(
        self, inp: int, out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
    ) -> nn.Module:
        """Make a convolution that keeps the size, or divides it by its stride."""
        pad, made = kernel // 2, self.layer("Conv")
        options = {"stride": stride, "groups": groups, "bias": self.norm != "batch"}
        if self.padding not in PADS:
            mode = self.padding if pad else "zeros"
            return made(inp, out, kernel, padding=pad, padding_mode=mode, **options)
        conv = made(inp, out, kernel, **options)
        return nn.Sequential(self.layer(PADS[self.padding])(pad), conv) if pad else conv

    def fit(self, inp: int, out: int) -> nn.Module:
        """Make a projection where the width changes."""
        return nn.Identity() if inp == out else self.conv(inp, out, 1)

    def normed(self, channels: int) -> nn.Module:
        return NORMS[self.norm](self.dims, channels)

    def act(self, channels: int) -> Callable[[Tensor], Tensor]:
        """Make an activation: a module, or a function."""
        return FUNCTIONS.get(self.activation) or MODULES[self.activation](channels)

    def unit(
        self, inp: int, out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
    ) -> nn.Module:
        """Make a convolution, its norm and its activation."""
        conv = self.conv(inp, out, kernel, stride=stride, groups=groups)
        norm, act = self.normed(out), self.act(out)
        together = nn.Sequential if isinstance(act, nn.Module) else Activated
        return together(conv, norm, act)
