"""What people sprinkle over a network: each keeps the shape of what it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks import behaviours, constants
from tests.random_networks.constants import Extra
from tests.random_networks.layers import Style
from tests.random_networks.products import FUNCTIONAL


class PositionNet(Extra):
    """A small network over a fixed grid of positions: it runs once a batch."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.net = nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, channels))
        self.register_buffer("grid", torch.linspace(0, 1, size)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        rows = self.net(self.grid).t()
        return x + rows.view(1, x.shape[1], -1, *[1] * (x.ndim - 3))


class Positions(Extra):
    """A learnt map of positions for each channel."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.table = nn.Parameter(0.02 * torch.randn(1, channels, *[size] * style.dims))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Blur(Extra):
    """A depthwise filter that is not learnt; its groups are stored."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.channels, self.run = channels, FUNCTIONAL[style.dims]
        kernel = torch.full([channels, 1, *[3] * style.dims], 1 / 3**style.dims)
        self.kernel = nn.Parameter(kernel, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernel, padding=1, groups=self.channels)


class BlurBuffer(Extra):
    """The same with one kernel in a buffer, expanded to the channels."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.run = FUNCTIONAL[style.dims]
        self.register_buffer("kernel", torch.full([1, 1, *[3] * style.dims], 1 / 3**style.dims))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(x.shape[1], *self.kernel.shape[1:])
        return self.run(x, kernel, padding=1, groups=x.shape[1])


class Vector(Extra):
    """Flattens, passes a bottleneck of linear layers, and lays it out again."""

    def prepare(self, style: Style, channels: int, size: int) -> None:
        self.shape = (channels, *[2] * style.dims)
        total = channels * 2**style.dims
        self.encode, self.decode = nn.Linear(total, 16), nn.Linear(16, total)

    def forward(self, x: Tensor) -> Tensor:
        corner = F.interpolate(x, size=[2] * (x.ndim - 2)).flatten(1)
        y = self.decode(F.relu(self.encode(corner))).view(-1, *self.shape)
        return x + F.interpolate(y, size=x.shape[2:])


EXTRAS: dict[str, type[Extra]] = {
    "linspace": constants.Linspace,
    "arange": constants.Arange,
    "zeros": constants.Zeros,
    "noise": behaviours.Noise,
    "no_dimension": constants.NoDimension,
    "plain_tensor": constants.PlainTensor,
    "plain_number": constants.PlainNumber,
    "cached_grid": constants.CachedGrid,
    "permutation": constants.Permutation,
    "kept": behaviours.Kept,
    "listed": behaviours.Listed,
    "drop_path": behaviours.DropPath,
    "in_training": behaviours.InTraining,
    "in_eval": behaviours.InEval,
    "position_net": PositionNet,
    "positions": Positions,
    "blur": Blur,
    "blur_buffer": BlurBuffer,
    "statistics": constants.Statistics,
    "asserts": constants.Asserts,
    "passing": constants.Passing,
    "stored_view": constants.StoredView,
    "literal_view": constants.LiteralView,
    "vector": Vector,
    "frozen": behaviours.Frozen,
    "checkpointed": behaviours.Checkpointed,
    "asks": behaviours.Asks,
    "lock": behaviours.HoldsLock,
    "generator": behaviours.HoldsGenerator,
}
