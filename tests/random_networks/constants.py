"""Extras with tensors that are no parameters: made at each run, or held.

An extra reads `batch x channels x ...` and keeps its shape. It is made with a style, the channels,
and the length of each dimension of space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.random_networks.layers import Part, Style, named, space, wide


class Zeros(Part):
    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(x.shape)
        total += x
        return total


class PlainTensor(Part):  # a tensor that is no buffer, one entry for each channel
    def make(self, style: Style, channels: int, size: int) -> None:
        self.mean = torch.rand(1, channels, *[1] * style.dims)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


class PlainNumber(Part):
    def make(self, style: Style, channels: int, size: int) -> None:
        self.scale = torch.tensor(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class CachedGrid(Part):  # makes a grid at its first run and keeps it
    def make(self, style: Style, channels: int, size: int) -> None:
        self.grid: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None or self.grid.shape != x.shape[2:]:
            axes = [torch.linspace(-1, 1, pixels, device=x.device) for pixels in x.shape[2:]]
            self.grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0)
        return x + 0.1 * self.grid


class Permutation(Part):
    def make(self, style: Style, channels: int, size: int) -> None:
        self.register_buffer("order", torch.randperm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.index_select(x, 1, self.order)


class StoredView(Part):
    def make(self, style: Style, channels: int, size: int) -> None:
        self.width = channels

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.width, -1).view(x.shape)


class LiteralView(Part):  # the number of channels stands in its code
    def make(self, style: Style, channels: int, size: int) -> None:
        self.flat = lambda x: x.reshape(-1, channels, size**style.dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.flat(x).view(x.shape)


class Statistics(Part):  # counts its runs and keeps a running mean of each channel
    def make(self, style: Style, channels: int, size: int) -> None:
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("runs", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean((0, *space(x))), 0.1)
                self.runs += 1
        return x - wide(self.mean[None], x)


class Asserts(Part):  # checks how many channels it gets
    def make(self, style: Style, channels: int, size: int) -> None:
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.channels, f"{x.shape[1]} channels, not {self.channels}"
        return x * 1.0


class Passing(Part):  # a buffer for each channel that is not saved
    def make(self, style: Style, channels: int, size: int) -> None:
        self.register_buffer("gains", torch.linspace(0.5, 1, channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * wide(self.gains[None], x)


CONSTANTS = {
    **named(Zeros, PlainTensor, PlainNumber, CachedGrid),
    **named(Permutation, StoredView, LiteralView, Statistics, Asserts, Passing),
}
