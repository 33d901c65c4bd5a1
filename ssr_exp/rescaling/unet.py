"""A small U-Net for images of any size: stages of plain blocks that can be rescaled.

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015, https://arxiv.org/abs/1505.04597. Here convolutions are padded, so that
logits have the size of the image, have batch norms, and halve the image by their stride.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssr_exp.errors import SsrError


class ConvBlock(nn.Module):
    """A 3x3 convolution, a batch norm and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b x in_channels x h x w` to `b x out_channels x h/stride x w/stride`."""
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Encoder and decoder of `levels` stages, joined at each resolution.

    Level `k` has `width * 2^k` channels, on maps of `1 / 2^k` of the image, rounded up.

    Args:
        num_classes: channels of the output, one for each class.
        in_channels: 1 for grey images, 3 for RGB.
        width: channels of the first level.
        levels: resolutions, at least 2.
        blocks: in each stage; the first changes the channels, the others can be removed.

    Raises:
        SsrError: if `width`, `levels` or `blocks` is too small.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 16,
        levels: int = 3,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("width", width, 1),
            ("levels", levels, 2),
            ("blocks", blocks, 1),
        ):
            if value < least or value % 1:
                raise SsrError(
                    f"a U-Net's {name} is a whole number, {least} or more, and not {value}."
                )
        widths = [width * 2**level for level in range(levels)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            self.encoder.append(_stage(before, after, blocks, stride=2 if level else 1))
        for after, below in reversed([*pairwise(widths)]):
            self.decoder.append(_stage(below + after, after, blocks))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images, `b x in_channels x h x w`, to logits, `b x num_classes x h x w`."""
        maps = []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        for stage, wider in zip(self.decoder, maps[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=wider.shape[2:]), wider], 1))
        return self.head(x)  # type: ignore[no-any-return]


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int = 1) -> nn.Sequential:
    rest = [ConvBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(ConvBlock(in_channels, out_channels, stride), *rest)
