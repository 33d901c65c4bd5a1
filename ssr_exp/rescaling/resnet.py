"""The CIFAR ResNets of He et al. 2016, section 4.2, with either shortcut.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition",
CVPR 2016, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ssr_exp.errors import SsrError

WIDTHS = (16, 32, 64)


class PadShortcut(nn.Module):
    """Option A: subsample, then pad with zero channels, or crop, to the new width.

    The zeros (or the crop) are shared between both ends of the channels, so that any pair of
    widths fits: after rescaling the stream may also become narrower.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map `b x in_channels x h x w` to `b x out_channels x h/stride x w/stride`."""
        missing = self.out_channels - self.in_channels
        low = missing // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, low, missing - low))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Map `b x in_channels x h x w` to `b x out_channels x h/stride x w/stride`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """A ResNet of `6n + 2` weighted layers for small images: three stages of `n` blocks.

    Args:
        depth: 8, 14, 20, ..., 110, ...
        num_classes: size of the classifier's output.
        in_channels: 1 for grey images, 3 for RGB.
        shortcut: `A` (padding) or `B` (1x1 convolution), where a stage changes the shape.

    Raises:
        SsrError: if `depth` is not `6n + 2`.
    """

    def __init__(
        self,
        depth: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: Literal["A", "B"] = "A",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise SsrError(f"a CIFAR ResNet has 6n + 2 layers (8, 14, 20, ...), not {depth}.")
        n_blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.stage1 = _stage(WIDTHS[0], WIDTHS[0], n_blocks, 1, shortcut)
        self.stage2 = _stage(WIDTHS[0], WIDTHS[1], n_blocks, 2, shortcut)
        self.stage3 = _stage(WIDTHS[1], WIDTHS[2], n_blocks, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images, `b x in_channels x h x w`, to logits, `b x num_classes`."""
        x = self.relu(self.bn(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "A":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


def _stage(
    in_channels: int, out_channels: int, n_blocks: int, stride: int, shortcut: str
) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    rest = [BasicBlock(out_channels, out_channels, 1, shortcut) for _ in range(n_blocks - 1)]
    return nn.Sequential(first, *rest)
