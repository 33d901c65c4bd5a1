"""Networks for signals, of our own: a 1-D ResNet, a 1-D U-Net, and causal dilated convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class Residual(nn.Module):  # a basic block of a 1-D ResNet
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(n_in, n_out, 7, stride, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(n_out, n_out, 7, padding=3, bias=False)
        self.bn2 = nn.BatchNorm1d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            conv = nn.Conv1d(n_in, n_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm1d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet1d(nn.Module):  # signals of `n x 1 x steps` to logits
    def __init__(self, blocks: Sequence[int] = (2, 2, 2, 2), num_classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(1, 32, 15, 2, padding=7, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.MaxPool1d(3, 2, padding=1),
        )
        stages, n_in = [], 32
        for number, count in enumerate(blocks):
            n_out = 32 * 2**number
            first = Residual(n_in, n_out, 1 if number == 0 else 2)
            rest = (Residual(n_out, n_out, 1) for _ in range(count - 1))
            stages.append(nn.Sequential(first, *rest))
            n_in = n_out
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(n_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean(dim=-1))


class Causal(nn.Module):
    """Two dilated convolutions that see only the past, and a residual (Bai et al. 2018, TCN)."""

    def __init__(self, n_in: int, n_out: int, dilation: int, *, normed: bool) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.conv1 = nn.Conv1d(n_in, n_out, 3, dilation=dilation)
        self.conv2 = nn.Conv1d(n_out, n_out, 3, dilation=dilation)
        if normed:
            weight_norm(self.conv1)
            weight_norm(self.conv2)
        self.dropout = nn.Dropout(0.1)
        self.shortcut = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.relu(self.conv1(F.pad(x, (self.reach, 0)))))
        y = self.dropout(F.relu(self.conv2(F.pad(y, (self.reach, 0)))))
        return F.relu(y + self.shortcut(x))


class Tcn(nn.Module):  # signals of `n x n_in x steps` to `n x n_out x steps`
    def __init__(self, *, normed: bool, n_in: int = 2, n_out: int = 4, width: int = 48) -> None:
        super().__init__()
        sizes = [n_in, *[width] * 6]
        self.blocks = nn.Sequential(
            *(
                Causal(one, other, 2**number, normed=normed)
                for number, (one, other) in enumerate(pairwise(sizes))
            )
        )
        self.head = nn.Conv1d(width, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


class Gated(nn.Module):
    """A gated dilated convolution, of a residual and a skip (van den Oord et al. 2016, WaveNet)."""

    def __init__(self, width: int, skip: int, dilation: int) -> None:
        super().__init__()
        self.reach = dilation
        self.conv = nn.Conv1d(width, 2 * width, 2, dilation=dilation)
        self.residual = nn.Conv1d(width, width, 1)
        self.skip = nn.Conv1d(width, skip, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        signal, gate = self.conv(F.pad(x, (self.reach, 0))).chunk(2, dim=1)
        y = torch.tanh(signal) * torch.sigmoid(gate)
        return x + self.residual(y), self.skip(y)


class WaveNet(nn.Module):
    """Signals of `n x 1 x steps` to `n x n_out x steps`; the sum of all skips is read."""

    def __init__(self, n_out: int = 4, width: int = 32, skip: int = 64, depth: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 1)
        self.blocks = nn.ModuleList(Gated(width, skip, 2**number) for number in range(depth))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(skip, skip, 1), nn.ReLU(), nn.Conv1d(skip, n_out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for block in self.blocks:
            x, skip = block(x)
            skips.append(skip)
        return self.head(torch.stack(skips).sum(dim=0))


class UNet1d(nn.Module):
    """Signals of `n x 1 x steps` to `n x n_out x steps`, `steps` a multiple of 8."""

    def __init__(self, n_out: int = 4, widths: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.join = nn.ModuleList()
        n_in = 1
        for width in widths:
            self.down.append(self._double(n_in, width))
            n_in = width
        for one, other in pairwise(reversed(widths)):
            self.up.append(nn.ConvTranspose1d(one, other, 2, stride=2))
            self.join.append(self._double(2 * other, other))
        self.head = nn.Conv1d(widths[0], n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else F.max_pool1d(x, 2))
            kept.append(x)
        kept.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([kept.pop(), up(x)], dim=1))
        return self.head(x)

    @staticmethod
    def _double(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv1d(n_in, n_out, 5, padding=2, bias=False),
            nn.BatchNorm1d(n_out),
            nn.ReLU(),
            nn.Conv1d(n_out, n_out, 5, padding=2, bias=False),
            nn.BatchNorm1d(n_out),
            nn.ReLU(),
        )
