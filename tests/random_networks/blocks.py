"""Blocks of convolutions, written as people write them; each keeps the size of the map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.layers import LINEAR, Part, Style, named, wide

Pair = Callable[[Style, int, int], tuple[nn.Module, nn.Module]]


class Plain(Part):  # convolution, norm, activation
    def make(self, s: Style, inp: int, out: int) -> None:
        self.conv = s.unit(inp, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Residual(Part):  # two convolutions; a projection where the width changes
    def make(self, s: Style, inp: int, out: int) -> None:
        self.one, self.other = self.layers(s, inp, out)
        self.norm, self.skip = s.normed(out), s.fit(inp, out)

    def layers(self, s: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return s.unit(inp, out), s.conv(out, out)

    def inner(self, x: Tensor) -> Tensor:
        return self.norm(self.other(self.one(x)))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x) + self.skip(x))


PAIRS: dict[str, Pair] = {  # of residual blocks
    "bottleneck": lambda s, i, o: (
        nn.Sequential(s.unit(i, o // 2, 1), s.unit(o // 2, o // 2)),
        s.conv(o // 2, o, 1),
    ),
    "grouped": lambda s, i, o: (s.unit(i, o, 1), s.conv(o, o, groups=4)),  # ResNeXt
    "narrow_groups": lambda s, i, o: (s.unit(i, o, 1), s.conv(o, o, groups=o // 2)),
    "transposed": lambda s, i, o: (s.layer("ConvTranspose")(i, o, 3, padding=1), s.conv(o, o)),
    "transposed_depthwise": lambda s, i, o: (
        s.unit(i, o, 1),
        s.layer("ConvTranspose")(o, o, 3, 1, 1, groups=o),
    ),
}


class Refined(Residual):
    """A residual block that does something more to what its convolutions put out."""

    def make(self, s: Style, inp: int, out: int) -> None:
        super().make(s, inp, out)
        self.add(s, out)

    def add(self, s: Style, out: int) -> None:
        """Store what `refine` needs."""

    def inner(self, x: Tensor) -> Tensor:
        return self.refine(super().inner(x))


class Inverted(Part):  # MobileNetV2: expand, depthwise, project
    def make(self, s: Style, inp: int, out: int) -> None:
        hidden, self.use_residual = 2 * inp, inp == out
        widen, depthwise = s.unit(inp, hidden, 1), s.unit(hidden, hidden, groups=hidden)
        self.body = nn.Sequential(widen, depthwise, s.conv(hidden, out, 1), s.normed(out))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.use_residual else self.body(x)


class Multiplied(Part):  # a depthwise convolution that puts out two channels for each
    def make(self, s: Style, inp: int, out: int) -> None:
        self.depthwise = s.unit(inp, 2 * inp, groups=inp)
        self.pointwise = s.unit(2 * inp, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Before(Part):  # norm and activation before the convolution
    def make(self, s: Style, inp: int, out: int) -> None:
        s = s.gentle()
        self.norm, self.act = s.normed(inp), s.act(inp)
        self.conv, self.second = s.conv(inp, out), s.unit(out, out)
        self.project = None if inp == out else s.conv(inp, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(x))
        short = x if self.project is None else self.project(y)
        return short + self.second(self.conv(y))


class Scaled(Refined):  # a gain for each channel, a small constant at the start
    def add(self, s: Style, out: int) -> None:
        self.gamma = nn.Parameter(torch.full((out, *[1] * s.dims), 1e-2))

    def refine(self, y: Tensor) -> Tensor:
        return self.gamma * y


class Gained(Refined):  # a learnt gain that begins with zero (ReZero), and 1-D ones by channel
    def add(self, s: Style, out: int) -> None:
        self.alpha, self.gains = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(out))

    def refine(self, y: Tensor) -> Tensor:
        return self.alpha * y * wide(self.gains[None], y)


class Tokens(Part):  # ConvNeXt: depthwise, then linear layers over channels that stand last
    def make(self, s: Style, inp: int, out: int) -> None:
        self.widen, self.depthwise = s.fit(inp, out), s.conv(out, out, groups=out)
        self.norm = nn.LayerNorm(out)
        self.up, self.down = nn.Linear(out, 2 * out), nn.Linear(2 * out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        y = self.norm(self.depthwise(x).movedim(1, -1))
        return x + self.down(F.gelu(self.up(y))).movedim(-1, 1)


class Mixer(Refined):  # an MLP over the positions of each channel, whose number is stored
    def add(self, s: Style, out: int) -> None:
        self.positions = 2**s.dims
        up, down = nn.Linear(self.positions, 8), nn.Linear(8, self.positions)
        self.mix = nn.Sequential(up, nn.GELU(), down)

    def refine(self, y: Tensor) -> Tensor:
        small = [2] * (y.ndim - 2)
        mixed = self.mix(F.interpolate(y, size=small).flatten(2)).unflatten(2, small)
        return y * F.interpolate(mixed, size=y.shape[2:]).sigmoid()


class Hourglass(Residual):  # half the size inside, and linear up-sampling back
    def make(self, s: Style, inp: int, out: int) -> None:
        super().make(s, inp, out)
        self.pool, self.mode = s.layer("AvgPool")(2), LINEAR[s.dims]

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(self.pool(x))
        return F.interpolate(y, size=x.shape[2:], mode=self.mode, align_corners=False)


class TransposedGrouped(Residual):  # a transposed convolution of four groups
    def layers(self, s: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return s.unit(inp, out, 1), s.layer("ConvTranspose")(out, 2 * out, 3, 1, 1, groups=4)

    def inner(self, x: Tensor) -> Tensor:
        return self.norm(F.glu(self.other(self.one(x)), 1))


class Shuffled(Refined):  # channels become pixels, and a pooling takes them back
    def add(self, s: Style, out: int) -> None:
        self.factor, few = 2, out // 4
        self.widen = s.conv(out, few * self.factor**s.dims, 1)
        self.pool, self.fewer = s.layer("AvgPool")(self.factor), s.conv(few, out, 1)

    def refine(self, y: Tensor) -> Tensor:
        return self.fewer(self.pool(pixel_shuffle(self.widen(y), self.factor)))


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Lay channels into space, in one to three dimensions."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    batch, channels, *size = x.shape
    dims = len(size)
    x = x.view(batch, channels // factor**dims, *[factor] * dims, *size)
    order = [0, 1, *(d for at in range(dims) for d in (2 + dims + at, 2 + at))]
    return x.permute(order).reshape(batch, -1, *(factor * pixels for pixels in size))


BLOCKS = {
    **named(Plain, Residual, Inverted, Multiplied, Before, Scaled, Gained, Tokens, Mixer),
    **named(Hourglass, TransposedGrouped, Shuffled),
    **{
        kind: type(kind, (Residual,), {"layers": staticmethod(pair)})
        for kind, pair in PAIRS.items()
    },
}
