"""Blocks that split, concatenate, gate or attend; each keeps the size of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import Residual
from tests.random_networks.layers import CONVS, Style, space, wide


class TwoBranch(nn.Module):
    """The outputs of two branches lie side by side."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.one, self.other = style.unit(inp, out // 2), style.unit(inp, out - out // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.other(x)], 1)


class Uneven(nn.Module):
    """Three branches, of which one is a pooling and none is as wide as another."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.one, self.other = style.unit(inp, out // 2), style.unit(inp, out // 4)
        self.third = style.unit(inp, out - out // 2 - out // 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(x.amax(space(x), keepdim=True), size=x.shape[2:])
        return torch.cat([self.one(x), self.other(x), self.third(pooled)], 1)


class Dense(nn.Module):
    """DenseNet: each layer reads all that came before, and a transition closes it."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([style.unit(inp + 8 * k, 8) for k in range(3)])
        self.close = style.unit(inp + 24, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.close(torch.cat(features, 1))


class Partial(nn.Module):
    """CSP: one half passes, the other is changed."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.enter = style.unit(inp, out, 1)
        self.half, rest = out // 2, out - out // 2
        self.body = nn.Sequential(Residual(style, rest, rest), Residual(style, rest, rest))
        self.close = style.conv(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        one, other = y.split([self.half, y.shape[1] - self.half], 1)
        return self.close(torch.cat([one, self.body(other)], 1))


class Collected(nn.Module):
    """YOLOv8's C2f: halves, and all that a list of blocks makes of the last one."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.c = out // 2
        self.enter = style.unit(inp, 2 * self.c, 1)
        self.list = nn.ModuleList(Residual(style, self.c, self.c) for _ in range(2))
        self.close = style.unit(4 * self.c, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.list)
        return self.close(torch.cat(parts, 1))


class Shuffle(nn.Module):
    """ShuffleNetV2: split, change one half, join, shuffle."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Identity() if inp == out else style.unit(inp, out, 1)
        half = out // 2
        self.branch = nn.Sequential(style.unit(half, half, 1), style.unit(half, half, groups=half))

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.widen(x).chunk(2, 1)
        x = torch.cat([one, self.branch(other)], 1)
        batch, channels, *size = x.shape
        return x.view(batch, 2, channels // 2, *size).transpose(1, 2).reshape(x.shape)


class Parts(Residual):
    """Res2Net: a split into four, each added to the one before; the width is stored."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.width = out // 4
        self.parts = nn.ModuleList([style.unit(self.width, self.width) for _ in range(3)])

    def inner(self, x: Tensor) -> Tensor:
        first, *rest = torch.split(self.one(x), self.width, 1)
        done = [first]
        for part, y in zip(self.parts, rest, strict=True):
            done.append(part(done[-1] + y))
        return self.norm(self.other(torch.cat(done, 1)))


class Ghost(nn.Module):
    """Half of the channels are cheap: a depthwise convolution of the other half."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.out, half = out, (out + 1) // 2
        self.primary, self.cheap = style.unit(inp, half, 1), style.unit(half, half, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)[:, : self.out]


class Gated(Residual):
    """Twice the channels: one half gates the other."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return style.conv(inp, 2 * out), style.conv(out, out)

    def inner(self, x: Tensor) -> Tensor:
        one, other = self.one(x).chunk(2, 1)
        return self.norm(self.other(one * other.sigmoid()))


class Squeeze(Residual):
    """Squeeze and excitation by convolutions."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.down, self.up = CONVS[style.dims](out, 8, 1), CONVS[style.dims](8, out, 1)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        gate = self.up(F.relu(self.down(y.mean(space(y), keepdim=True))))
        return y * gate.sigmoid()


class SqueezeLinear(Residual):
    """The same by linear layers and views."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.fc = nn.Sequential(nn.Linear(out, 8), nn.ReLU(), nn.Linear(8, out), nn.Sigmoid())

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        batch, channels = y.shape[:2]
        gate = self.fc(y.mean(space(y)).view(batch, channels))
        return y * wide(gate, y).expand_as(y)


class Along(Residual):
    """ECA: a convolution along the channels."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        gate = self.along(y.mean(space(y)).unsqueeze(1)).squeeze(1)
        return y * wide(gate.sigmoid(), y)


class Spatial(Residual):
    """CBAM: one map for all channels."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.attend = CONVS[style.dims](2, 1, 3, padding=1)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        both = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return y * self.attend(both).sigmoid()


class Selective(Residual):
    """SK: two branches, stacked, weighted by a softmax over them, and added."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.left, self.right = style.unit(inp, out), style.unit(inp, out, 1)
        self.choose = nn.Linear(out, 2 * out)

    def inner(self, x: Tensor) -> Tensor:
        both = torch.stack([self.left(x), self.right(x)], 1)
        weights = self.choose(both.sum(1).mean(space(x)))
        weights = weights.view(len(x), 2, -1).softmax(1)
        return (both * weights.view(*weights.shape, *[1] * (x.ndim - 2))).sum(1)


BRANCHES: dict[str, type[nn.Module]] = {
    "two_branch": TwoBranch,
    "uneven": Uneven,
    "dense": Dense,
    "partial": Partial,
    "collected": Collected,
    "shuffle": Shuffle,
    "parts": Parts,
    "ghost": Ghost,
    "gated": Gated,
    "squeeze": Squeeze,
    "squeeze_linear": SqueezeLinear,
    "along": Along,
    "spatial": Spatial,
    "selective": Selective,
}
