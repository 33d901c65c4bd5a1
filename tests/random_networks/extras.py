"""What people sprinkle over a network: each keeps the shape of what it reads.

An extra is made with a style, the channels, and the length of each dimension of space.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.random_networks.layers import Style, nothing, parts, space, wide


def _noise(self: nn.Module, x: Tensor) -> Tensor:
    return x + 0.01 * torch.randn(x.shape[0], 1, *x.shape[2:]) if self.training else x


def _drop_path(self: nn.Module, x: Tensor) -> Tensor:
    """Stochastic depth, by image."""
    kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device).add(0.9).floor()
    return x * kept if self.training else x


def _zeros(self: nn.Module, x: Tensor) -> Tensor:
    total = torch.zeros(x.shape)
    total += x
    return total


def _cached_grid(self: nn.Module, x: Tensor) -> Tensor:
    """Make a grid in the first run and keep it."""
    if self.grid is None or self.grid.shape != x.shape[2:]:
        axes = [torch.linspace(-1, 1, pixels, device=x.device) for pixels in x.shape[2:]]
        self.grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0)
    return x + 0.1 * self.grid


def _statistics(self: nn.Module, x: Tensor) -> Tensor:
    """Count runs and keep a running mean of each channel."""
    if self.training:
        with torch.no_grad():
            self.mean.lerp_(x.mean((0, *space(x))), 0.1)
            self.runs += 1
    return x - wide(self.mean[None], x)


def _asserts(self: nn.Module, x: Tensor) -> Tensor:
    """Check how many channels it gets."""
    assert x.shape[1] == self.channels, f"{x.shape[1]} channels, not {self.channels}"
    return x * 1.0


def _kept(self: nn.Module, x: Tensor) -> Tensor:
    """Keep the last activation."""
    self.last = x
    return self.last * 1.0


def _listed(self: nn.Module, x: Tensor) -> Tensor:
    """Keep activations in a list that is emptied at each run."""
    self.seen.clear()
    self.seen.append(x)
    return x + 0.0 * self.seen[-1]


def _without_gradients(self: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = self.conv(x).mean(space(x), keepdim=True).sigmoid()
    return x * scale.detach()


def _checkpointed(self: nn.Module, x: Tensor) -> Tensor:
    """Save memory: activations are computed again."""
    return checkpoint(self.conv, x, use_reentrant=False) if self.training else self.conv(x)


def _generator(self: nn.Module, x: Tensor) -> Tensor:
    """Draw noise from a generator of its own."""
    return x + 0.01 * torch.rand(x.shape[2:], generator=self.draw) if self.training else x


def _position_net(self: nn.Module, x: Tensor) -> Tensor:
    """Run a small network over a fixed grid of positions, once a batch."""
    rows = self.net(self.grid).t()
    return x + rows.view(1, x.shape[1], -1, *[1] * (x.ndim - 3))


def _blur_by_buffer(self: nn.Module, x: Tensor) -> Tensor:
    kernel = self.kernel.expand(x.shape[1], *self.kernel.shape[1:])
    return self.run(x, kernel, padding=1, groups=x.shape[1])


def _vector(self: nn.Module, x: Tensor) -> Tensor:
    """Flatten, pass a bottleneck of linear layers, and lay it out again."""
    corner = F.interpolate(x, size=[2] * (x.ndim - 2)).flatten(1)
    y = self.decode(F.relu(self.encode(corner))).view(-1, *self.shape)
    return x + F.interpolate(y, size=x.shape[2:])


def _locked(self: nn.Module, x: Tensor) -> Tensor:
    with self.lock:
        return x * 1.0


def _conv(s: Style, c: int, size: int) -> dict[str, Any]:
    return {"conv": s.layer("Conv")(c, c, 1)}


def _blurring(s: Style, c: int) -> Tensor:
    return torch.full([c, 1, *[3] * s.dims], 1 / 3**s.dims)


EXTRAS = parts(
    {
        "linspace": (nothing, lambda self, x: x * torch.linspace(0.5, 1, x.shape[-1])),
        "arange": (
            nothing,
            lambda self, x: (
                x + torch.arange(x.shape[2]).float().sin().view(-1, *[1] * (x.ndim - 3))
            ),
        ),
        "no_dimension": (nothing, lambda self, x: x / torch.empty(()).to(x.device).fill_(2.0)),
        "noise": (nothing, _noise),
        "drop_path": (nothing, _drop_path),
        # Decides by the values of its activations: that is refused, as documented.
        "asks": (nothing, lambda self, x: x * 0.5 if x.abs().mean() > 1e6 else x * 1.0),
        # Tensors that are no parameters: made at each run, or held.
        "zeros": (nothing, _zeros),
        "plain_tensor": (
            lambda s, c, size: {"mean": torch.rand(1, c, *[1] * s.dims)},
            lambda self, x: x - self.mean,
        ),
        "plain_number": (
            lambda s, c, size: {"scale": torch.tensor(0.5)},
            lambda self, x: x * self.scale,
        ),
        "cached_grid": (lambda s, c, size: {"grid": None}, _cached_grid),
        "permutation": (
            lambda s, c, size: {"order": nn.Buffer(torch.randperm(c))},
            lambda self, x: torch.index_select(x, 1, self.order),
        ),
        "stored_view": (
            lambda s, c, size: {"width": c},
            lambda self, x: x.reshape(len(x), self.width, -1).view(x.shape),
        ),
        "literal_view": (  # the number of channels stands in its code
            lambda s, c, size: {"flat": lambda x: x.reshape(-1, c, size**s.dims)},
            lambda self, x: self.flat(x).view(x.shape),
        ),
        "statistics": (
            lambda s, c, size: {
                "mean": nn.Buffer(torch.zeros(c)),
                "runs": nn.Buffer(torch.zeros((), dtype=torch.long)),
            },
            _statistics,
        ),
        "asserts": (lambda s, c, size: {"channels": c}, _asserts),
        "passing": (  # a buffer for each channel that is not saved
            lambda s, c, size: {"gains": nn.Buffer(torch.linspace(0.5, 1, c), persistent=False)},
            lambda self, x: x * wide(self.gains[None], x),
        ),
        "kept": (nothing, _kept),
        "listed": (lambda s, c, size: {"seen": []}, _listed),
        "in_training": (_conv, lambda self, x: x + 0.1 * self.conv(x) if self.training else x),
        "in_eval": (  # clamps by a stored number for each channel
            lambda s, c, size: {"high": nn.Buffer(torch.ones(c))},
            lambda self, x: x if self.training else torch.minimum(x, wide(self.high[None], x)),
        ),
        "frozen": (
            lambda s, c, size: {"conv": s.layer("Conv")(c, c, 1).requires_grad_(False)},
            _without_gradients,
        ),
        "checkpointed": (_conv, _checkpointed),
        "generator": (lambda s, c, size: {"draw": torch.Generator().manual_seed(0)}, _generator),
        "position_net": (
            lambda s, c, size: {
                "net": nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, c)),
                "grid": nn.Buffer(torch.linspace(0, 1, size)[:, None]),
            },
            _position_net,
        ),
        "positions": (  # a learnt map of positions for each channel
            lambda s, c, size: {"table": nn.Parameter(0.02 * torch.randn(1, c, *[size] * s.dims))},
            lambda self, x: x + self.table,
        ),
        "blur": (  # a depthwise filter that is not learnt; its groups are stored
            lambda s, c, size: {
                "channels": c,
                "run": s.layer("conv"),
                "kernel": nn.Parameter(_blurring(s, c), requires_grad=False),
            },
            lambda self, x: self.run(x, self.kernel, padding=1, groups=self.channels),
        ),
        "blur_buffer": (  # the same with one kernel, expanded to the channels
            lambda s, c, size: {"run": s.layer("conv"), "kernel": nn.Buffer(_blurring(s, 1))},
            _blur_by_buffer,
        ),
        "vector": (
            lambda s, c, size: {
                "shape": (c, *[2] * s.dims),
                "encode": nn.Linear(c * 2**s.dims, 16),
                "decode": nn.Linear(16, c * 2**s.dims),
            },
            _vector,
        ),
        "lock": (lambda s, c, size: {"lock": Lock()}, _locked),
    }
)
