"""What people sprinkle over a network: each keeps the shape of what it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.behaviours import BEHAVIOURS
from tests.random_networks.constants import CONSTANTS
from tests.random_networks.layers import Part, Style, named


class PositionNet(Part):  # a small network over a fixed grid of positions: it runs once a batch
    def make(self, style: Style, channels: int, size: int) -> None:
        self.net = nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, channels))
        self.register_buffer("grid", torch.linspace(0, 1, size)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        rows = self.net(self.grid).t()
        return x + rows.view(1, x.shape[1], -1, *[1] * (x.ndim - 3))


class Positions(Part):  # a learnt map of positions for each channel
    def make(self, style: Style, channels: int, size: int) -> None:
        self.table = nn.Parameter(0.02 * torch.randn(1, channels, *[size] * style.dims))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Blur(Part):  # a depthwise filter that is not learnt; its groups are stored
    def make(self, style: Style, channels: int, size: int) -> None:
        self.channels, self.run = channels, style.layer("conv")
        kernel = torch.full([channels, 1, *[3] * style.dims], 1 / 3**style.dims)
        self.kernel = nn.Parameter(kernel, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernel, padding=1, groups=self.channels)


class BlurBuffer(Part):  # the same with one kernel in a buffer, expanded to the channels
    def make(self, style: Style, channels: int, size: int) -> None:
        self.run = style.layer("conv")
        self.register_buffer("kernel", torch.full([1, 1, *[3] * style.dims], 1 / 3**style.dims))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(x.shape[1], *self.kernel.shape[1:])
        return self.run(x, kernel, padding=1, groups=x.shape[1])


class Vector(Part):  # flattens, passes a bottleneck of linear layers, and lays it out again
    def make(self, style: Style, channels: int, size: int) -> None:
        self.shape, total = (channels, *[2] * style.dims), channels * 2**style.dims
        self.encode, self.decode = nn.Linear(total, 16), nn.Linear(16, total)

    def forward(self, x: Tensor) -> Tensor:
        corner = F.interpolate(x, size=[2] * (x.ndim - 2)).flatten(1)
        y = self.decode(F.relu(self.encode(corner))).view(-1, *self.shape)
        return x + F.interpolate(y, size=x.shape[2:])


EXTRAS = CONSTANTS | BEHAVIOURS | named(PositionNet, Positions, Blur, BlurBuffer, Vector)
