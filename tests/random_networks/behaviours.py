"""Extras that behave otherwise in train mode, or hold what is no tensor."""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.random_networks.constants import Extra
from tests.random_networks.layers import CONVS, Style, space, wide


class Noise(Extra):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn(x.shape[0], 1, *x.shape[2:]) if self.training else x


class Kept(Extra):
    """Keeps the last activation."""

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return self.last * 1.0


class Listed(Extra):
    """Keeps activations in a list that is emptied at each run."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        self.seen.append(x)
        return x + 0.0 * self.seen[-1]


class DropPath(Extra):
    """Stochastic depth, by image."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device).add(0.9).floor()


class InTraining(Extra):
    """A convolution that runs in train mode only."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.conv = CONVS[style.dims](channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.conv(x) if self.training else x


class InEval(Extra):
    """Clamps in eval mode, and scales by a stored number for each channel."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.register_buffer("high", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else torch.minimum(x, wide(self.high[None], x))


class Frozen(Extra):
    """A branch that is computed without gradients."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.conv = CONVS[style.dims](channels, channels, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.conv(x).mean(space(x), keepdim=True).sigmoid()
        return x * scale.detach()


class Checkpointed(Extra):
    """Saves memory: the activations of a convolution are computed again."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.conv = CONVS[style.dims](channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return checkpoint(self.conv, x, use_reentrant=False)
        return self.conv(x)


class HoldsLock(Extra):
    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.lock = Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return x * 1.0


class HoldsGenerator(Extra):
    """Draws its noise from a generator of its own."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.draw = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x + 0.01 * torch.rand(x.shape[2:], generator=self.draw)
        return x


class Asks(Extra):
    """Decides by the values of its activations: that is refused, as documented."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 if x.abs().mean() > 1e6 else x * 1.0
