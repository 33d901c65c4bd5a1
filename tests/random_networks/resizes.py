"""Ways from one size of the map to another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import pixel_shuffle
from tests.random_networks.layers import LINEAR, Part, Style, named

Make = Callable[[Style, int, int], nn.Module]


class Unshuffle(Part):  # space to depth, then a convolution
    def make(self, style: Style, channels: int, size: int) -> None:
        self.conv = style.layer("Conv")(channels * 2**style.dims, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *size = x.shape
        dims = len(size)
        halves = [length for pixels in size for length in (pixels // 2, 2)]
        x = x.view(batch, channels, *halves)
        order = [0, 1, *(3 + 2 * d for d in range(dims)), *(2 + 2 * d for d in range(dims))]
        half = [pixels // 2 for pixels in size]
        return self.conv(x.permute(order).reshape(batch, channels * 2**dims, *half))


class Interpolated(Part):  # functional up-sampling, to a size that it computes
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=[2 * pixels for pixels in x.shape[2:]])


class Blur(Part):  # a fixed filter, then every other pixel; its groups are stored
    def make(self, style: Style, channels: int, size: int) -> None:
        kernel = torch.full([channels, 1, *[2] * style.dims], 1 / 2**style.dims)
        self.register_buffer("kernel", kernel)
        self.channels, self.run = channels, style.layer("conv")

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernel, stride=2, groups=self.channels)


class PixelShuffle(Part):  # a convolution to more channels, which then become pixels
    def make(self, style: Style, channels: int, size: int) -> None:
        self.conv = style.layer("Conv")(channels, channels * 2**style.dims, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(self.conv(x), 2)


DOWN: dict[str, Make] = {
    "max": lambda style, c, size: style.layer("MaxPool")(2),
    "avg": lambda style, c, size: style.layer("AvgPool")(2),
    "adaptive": lambda style, c, size: style.layer("AdaptiveAvgPool")(size // 2),
    "adaptive_max": lambda style, c, size: style.layer("AdaptiveMaxPool")(size // 2),
    "stride": lambda style, c, size: style.layer("Conv")(c, c, 2, 2),
    "ceiling": lambda style, c, size: style.layer("MaxPool")(2, ceil_mode=True),
    **named(Unshuffle, Blur),
}
UP: dict[str, Make] = {
    "nearest": lambda style, c, size: nn.Upsample(scale_factor=2),
    "linear": lambda style, c, size: nn.Upsample(
        scale_factor=2, mode=LINEAR[style.dims], align_corners=False
    ),
    "aligned": lambda style, c, size: nn.Upsample(
        size=[2 * size] * style.dims, mode=LINEAR[style.dims], align_corners=True
    ),
    "transposed": lambda style, c, size: style.layer("ConvTranspose")(c, c, 4, 2, 1),
    "depthwise": lambda style, c, size: style.layer("ConvTranspose")(
        c, c, 2, 2, groups=c, bias=False
    ),
    **named(Interpolated, PixelShuffle),
}
RESIZES = ("none", *DOWN, *UP)
SMALLEST, LARGEST = 4, 16  # pixels of a map that is made smaller, or larger


def resize(kind: str, style: Style, channels: int, size: int) -> tuple[nn.Module, int]:
    """Make a resize of a map of `size` pixels a dimension; say its new size. If unfit: none."""
    if kind in DOWN and size >= 2 * SMALLEST:
        return DOWN[kind](style, channels, size), size // 2
    if kind in UP and 2 * size <= LARGEST:
        return UP[kind](style, channels, size), 2 * size
    return nn.Identity(), size
