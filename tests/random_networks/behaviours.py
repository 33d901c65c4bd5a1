"""Extras that behave otherwise in train mode, or hold what is no tensor."""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.random_networks.layers import Part, Style, named, space, wide


class Convolving(Part):
    """Has a convolution of its own."""

    def make(self, style: Style, channels: int, size: int) -> None:
        self.conv = style.layer("Conv")(channels, channels, 1)


class Noise(Part):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn(x.shape[0], 1, *x.shape[2:]) if self.training else x


class Kept(Part):  # keeps the last activation
    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return self.last * 1.0


class Listed(Part):  # keeps activations in a list that is emptied at each run
    def make(self, style: Style, channels: int, size: int) -> None:
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        self.seen.append(x)
        return x + 0.0 * self.seen[-1]


class DropPath(Part):  # stochastic depth, by image
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device).add(0.9).floor()


class InTraining(Convolving):  # a convolution that runs in train mode only
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.conv(x) if self.training else x


class InEval(Part):  # clamps in eval mode, and scales by a stored number for each channel
    def make(self, style: Style, channels: int, size: int) -> None:
        self.register_buffer("high", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else torch.minimum(x, wide(self.high[None], x))


class Frozen(Convolving):  # a branch that is computed without gradients
    def make(self, style: Style, channels: int, size: int) -> None:
        super().make(style, channels, size)
        self.conv.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.conv(x).mean(space(x), keepdim=True).sigmoid()
        return x * scale.detach()


class Checkpointed(Convolving):  # saves memory: activations are computed again
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.conv, x, use_reentrant=False) if self.training else self.conv(x)


class Locked(Part):
    def make(self, style: Style, channels: int, size: int) -> None:
        self.lock = Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return x * 1.0


class Generator(Part):  # draws its noise from a generator of its own
    def make(self, style: Style, channels: int, size: int) -> None:
        self.draw = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x + 0.01 * torch.rand(x.shape[2:], generator=self.draw)
        return x


class Asks(Part):  # decides by the values of its activations: that is refused, as documented
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 if x.abs().mean() > 1e6 else x * 1.0


BEHAVIOURS = {
    **named(Noise, Kept, Listed, DropPath, InTraining, InEval, Frozen, Checkpointed, Asks),
    **named(Generator),
    "lock": Locked,
}
