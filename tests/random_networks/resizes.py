"""Ways from one size of the map to another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import pixel_shuffle
from tests.random_networks.layers import (
    ADAPTIVE,
    ADAPTIVE_MAX,
    AVG_POOLS,
    CONVS,
    LINEAR,
    MAX_POOLS,
    TRANSPOSED,
    Style,
)

FUNCTIONAL = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
Make = Callable[[Style, int, int], nn.Module]


class Unshuffle(nn.Module):
    """Space to depth, then a convolution."""

    def __init__(self, style: Style, channels: int, size: int) -> None:
        super().__init__()
        self.conv = CONVS[style.dims](channels * 2**style.dims, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *size = x.shape
        dims = len(size)
        halves = [length for pixels in size for length in (pixels // 2, 2)]
        x = x.view(batch, channels, *halves)
        order = [0, 1, *(3 + 2 * d for d in range(dims)), *(2 + 2 * d for d in range(dims))]
        half = [pixels // 2 for pixels in size]
        return self.conv(x.permute(order).reshape(batch, channels * 2**dims, *half))


class Interpolated(nn.Module):
    """Functional up-sampling, to a size that it computes."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=[2 * pixels for pixels in x.shape[2:]])


class BlurPool(nn.Module):
    """A fixed filter, then every other pixel; its groups are stored."""

    def __init__(self, style: Style, channels: int, size: int) -> None:
        super().__init__()
        kernel = torch.full([channels, 1, *[2] * style.dims], 1 / 2**style.dims)
        self.register_buffer("kernel", kernel)
        self.channels, self.run = channels, FUNCTIONAL[style.dims]

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernel, stride=2, groups=self.channels)


class PixelShuffle(nn.Module):
    """A convolution to more channels, which then become pixels."""

    def __init__(self, style: Style, channels: int, size: int) -> None:
        super().__init__()
        self.conv = CONVS[style.dims](channels, channels * 2**style.dims, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(self.conv(x), 2)


def _transposed(style: Style, channels: int, size: int) -> nn.Module:
    return TRANSPOSED[style.dims](channels, channels, 4, 2, 1)


def _depthwise(style: Style, channels: int, size: int) -> nn.Module:
    return TRANSPOSED[style.dims](channels, channels, 2, 2, groups=channels, bias=False)


DOWN: dict[str, Make] = {
    "max": lambda style, channels, size: MAX_POOLS[style.dims](2),
    "avg": lambda style, channels, size: AVG_POOLS[style.dims](2),
    "adaptive": lambda style, channels, size: ADAPTIVE[style.dims](size // 2),
    "adaptive_max": lambda style, channels, size: ADAPTIVE_MAX[style.dims](size // 2),
    "stride": lambda style, channels, size: CONVS[style.dims](channels, channels, 2, 2),
    "unshuffle": Unshuffle,
    "blur": BlurPool,
    "ceiling": lambda style, channels, size: MAX_POOLS[style.dims](2, ceil_mode=True),
}
UP: dict[str, Make] = {
    "nearest": lambda style, channels, size: nn.Upsample(scale_factor=2),
    "linear": lambda style, channels, size: nn.Upsample(
        scale_factor=2, mode=LINEAR[style.dims], align_corners=False
    ),
    "aligned": lambda style, channels, size: nn.Upsample(
        size=[2 * size] * style.dims, mode=LINEAR[style.dims], align_corners=True
    ),
    "interpolated": lambda style, channels, size: Interpolated(),
    "transposed": _transposed,
    "depthwise": _depthwise,
    "pixel_shuffle": PixelShuffle,
}
RESIZES = ("none", *DOWN, *UP)
SMALLEST, LARGEST = 4, 16  # pixels of a map that is made smaller, or larger


def resize(kind: str, style: Style, channels: int, size: int) -> tuple[nn.Module, int]:
    """Make a resize, and say what size it puts out; where it would not fit, none.

    Args:
        kind: one of `RESIZES`.
        style: of its stage.
        channels: that it reads and puts out.
        size: of the map that it reads, in pixels of each dimension.
    """
    if kind in DOWN and size >= 2 * SMALLEST:
        return DOWN[kind](style, channels, size), size // 2
    if kind in UP and 2 * size <= LARGEST:
        return UP[kind](style, channels, size), 2 * size
    return nn.Identity(), size
