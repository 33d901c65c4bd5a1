"""Blocks of convolutions, written as people write them; each keeps the size of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.layers import AVG_POOLS, LINEAR, TRANSPOSED, Style, wide


class Plain(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.conv = style.unit(inp, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Residual(nn.Module):
    """Two convolutions; a projection where the width changes."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.one, self.other = self.layers(style, inp, out)
        self.norm = style.normed(out)
        self.skip = nn.Identity() if inp == out else style.conv(inp, out, 1)

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return style.unit(inp, out), style.conv(out, out)

    def inner(self, x: Tensor) -> Tensor:
        return self.norm(self.other(self.one(x)))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x) + self.skip(x))


class Bottleneck(Residual):
    """Narrow inside."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        inner = out // 2
        units = style.unit(inp, inner, 1), style.unit(inner, inner)
        return nn.Sequential(*units), style.conv(inner, out, 1)


class Grouped(Residual):
    """ResNeXt: four groups."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return style.unit(inp, out, 1), style.conv(out, out, groups=4)


class Narrow(Residual):
    """Many narrow groups."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return style.unit(inp, out, 1), style.conv(out, out, groups=out // 2)


class Inverted(nn.Module):
    """MobileNetV2: expand, depthwise, project."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        hidden = 2 * inp
        self.use_residual = inp == out
        self.body = nn.Sequential(
            style.unit(inp, hidden, 1),
            style.unit(hidden, hidden, groups=hidden),
            style.conv(hidden, out, 1),
            style.normed(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.use_residual else self.body(x)


class Multiplied(nn.Module):
    """A depthwise convolution that puts out two channels for each."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.depthwise = style.unit(inp, 2 * inp, groups=inp)
        self.pointwise = style.unit(2 * inp, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Before(nn.Module):
    """Norm and activation before the convolution."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        style = style.gentle()
        self.norm, self.act = style.normed(inp), style.act(inp)
        self.conv, self.second = style.conv(inp, out), style.unit(out, out)
        self.project = None if inp == out else style.conv(inp, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(x))
        short = x if self.project is None else self.project(y)
        return short + self.second(self.conv(y))


class Scaled(Residual):
    """A gain for each channel, a small constant at the start."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.gamma = nn.Parameter(torch.full((out, *[1] * style.dims), 1e-2))

    def inner(self, x: Tensor) -> Tensor:
        return self.gamma * super().inner(x)


class Gained(Residual):
    """One learnt gain that begins with zero (ReZero), and one by each channel that is 1-D."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.alpha, self.gains = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(out))

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        return self.alpha * y * wide(self.gains[None], y)


class Tokens(nn.Module):
    """ConvNeXt: depthwise, then linear layers over channels that stand last."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Identity() if inp == out else style.conv(inp, out, 1)
        self.depthwise = style.conv(out, out, groups=out)
        self.norm = nn.LayerNorm(out)
        self.up, self.down = nn.Linear(out, 2 * out), nn.Linear(2 * out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        y = self.norm(self.depthwise(x).movedim(1, -1))
        return x + self.down(F.gelu(self.up(y))).movedim(-1, 1)


class Mixer(Residual):
    """An MLP over the positions of each channel, whose number is stored."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.positions = 2**style.dims
        self.mix = nn.Sequential(
            nn.Linear(self.positions, 8), nn.GELU(), nn.Linear(8, self.positions)
        )

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        corner = F.interpolate(y, size=[2] * (x.ndim - 2)).flatten(2)
        mixed = self.mix(corner).unflatten(2, [2] * (x.ndim - 2))
        return y * F.interpolate(mixed, size=x.shape[2:]).sigmoid()


class Hourglass(Residual):
    """Half the size inside, and linear up-sampling back."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.pool, self.mode = AVG_POOLS[style.dims](2), LINEAR[style.dims]

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(self.pool(x))
        return F.interpolate(y, size=x.shape[2:], mode=self.mode, align_corners=False)


class Transposed(Residual):
    """A transposed convolution."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return TRANSPOSED[style.dims](inp, out, 3, padding=1), style.conv(out, out)


class TransposedDepthwise(Residual):
    """A depthwise transposed convolution."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return style.unit(inp, out, 1), TRANSPOSED[style.dims](out, out, 3, 1, 1, groups=out)


class TransposedGrouped(Residual):
    """A transposed convolution of four groups."""

    def layers(self, style: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return style.unit(inp, out, 1), TRANSPOSED[style.dims](out, 2 * out, 3, 1, 1, groups=4)

    def inner(self, x: Tensor) -> Tensor:
        return self.norm(F.glu(self.other(self.one(x)), 1))


class Shuffled(Residual):
    """Pixel shuffle: channels become pixels, and a pooling takes them back."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.factor, few = 2, out // 4
        self.widen = style.conv(out, few * self.factor**style.dims, 1)
        self.pool, self.fewer = AVG_POOLS[style.dims](self.factor), style.conv(few, out, 1)

    def inner(self, x: Tensor) -> Tensor:
        y = self.widen(super().inner(x))
        return self.fewer(self.pool(pixel_shuffle(y, self.factor)))


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Lay channels into space, in one to three dimensions."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    batch, channels, *size = x.shape
    dims = len(size)
    x = x.view(batch, channels // factor**dims, *[factor] * dims, *size)
    order = [0, 1, *(d for at in range(dims) for d in (2 + dims + at, 2 + at))]
    return x.permute(order).reshape(batch, -1, *(factor * pixels for pixels in size))


BLOCKS: dict[str, type[nn.Module]] = {
    "plain": Plain,
    "residual": Residual,
    "bottleneck": Bottleneck,
    "grouped": Grouped,
    "narrow_groups": Narrow,
    "inverted": Inverted,
    "multiplied": Multiplied,
    "before": Before,
    "scaled": Scaled,
    "gained": Gained,
    "tokens": Tokens,
    "mixer": Mixer,
    "hourglass": Hourglass,
    "transposed": Transposed,
    "transposed_depthwise": TransposedDepthwise,
    "transposed_grouped": TransposedGrouped,
    "shuffled": Shuffled,
}
