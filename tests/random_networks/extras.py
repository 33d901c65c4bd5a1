"""What people sprinkle over a network: each keeps the shape of what it reads."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.random_networks.constants import CONSTANTS
from tests.random_networks.layers import Part, Style, named, space, wide


class Convolving(Part):
    """Has a convolution of its own."""

    def make(self, style: Style, channels: int, size: int) -> None:
        self.conv = style.layer("Conv")(channels, channels, 1)


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


def _drop_path(self: nn.Module, x: Tensor) -> Tensor:
    """Stochastic depth, by image."""
    kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device).add(0.9).floor()
    return x * kept if self.training else x


def _noise(self: nn.Module, x: Tensor) -> Tensor:
    return x + 0.01 * torch.randn(x.shape[0], 1, *x.shape[2:]) if self.training else x


FORWARD: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {  # they store nothing
    "linspace": lambda self, x: x * torch.linspace(0.5, 1, x.shape[-1]),
    "arange": lambda self, x: (
        x + torch.arange(x.shape[2]).float().sin().view(-1, *[1] * (x.ndim - 3))
    ),
    "no_dimension": lambda self, x: x / torch.empty(()).to(x.device).fill_(2.0),
    "noise": _noise,
    "drop_path": _drop_path,
    # Decides by the values of its activations: that is refused, as documented.
    "asks": lambda self, x: x * 0.5 if x.abs().mean() > 1e6 else x * 1.0,
}
EXTRAS: dict[str, type[nn.Module]] = {
    **{kind: type(kind, (Part,), {"forward": run}) for kind, run in FORWARD.items()},
    **CONSTANTS,
    **named(Kept, Listed, InTraining, InEval, Frozen, Checkpointed, Generator),
    **named(PositionNet, Positions, Blur, BlurBuffer, Vector),
    "lock": Locked,
}
