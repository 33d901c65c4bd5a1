"""Blocks that split, concatenate, gate or attend; each keeps the size of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import Refined, Residual
from tests.random_networks.layers import Part, Style, named, space, wide


class TwoBranch(Part):
    def make(self, s: Style, inp: int, out: int) -> None:
        self.one, self.other = s.unit(inp, out // 2), s.unit(inp, out - out // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.other(x)], 1)


class Uneven(Part):  # three branches, one of them a pooling, and none as wide as another
    def make(self, s: Style, inp: int, out: int) -> None:
        self.one, self.other = s.unit(inp, out // 2), s.unit(inp, out // 4)
        self.third = s.unit(inp, out - out // 2 - out // 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(x.amax(space(x), keepdim=True), size=x.shape[2:])
        return torch.cat([self.one(x), self.other(x), self.third(pooled)], 1)


class Dense(Part):  # DenseNet: each layer reads all that came before, and a transition closes it
    def make(self, s: Style, inp: int, out: int) -> None:
        self.layers = nn.ModuleList([s.unit(inp + 8 * k, 8) for k in range(3)])
        self.close = s.unit(inp + 24, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.close(torch.cat(features, 1))


class Partial(Part):  # CSP: one half passes, the other is changed
    def make(self, s: Style, inp: int, out: int) -> None:
        self.half, rest = out // 2, out - out // 2
        self.enter, self.close = s.unit(inp, out, 1), s.conv(out, out, 1)
        self.body = nn.Sequential(Residual(s, rest, rest), Residual(s, rest, rest))

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        one, other = y.split([self.half, y.shape[1] - self.half], 1)
        return self.close(torch.cat([one, self.body(other)], 1))


class Collected(Part):  # YOLOv8's C2f: halves, and all that a list of blocks makes of the last
    def make(self, s: Style, inp: int, out: int) -> None:
        self.c = out // 2
        self.enter, self.close = s.unit(inp, 2 * self.c, 1), s.unit(4 * self.c, out, 1)
        self.list = nn.ModuleList(Residual(s, self.c, self.c) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.list)
        return self.close(torch.cat(parts, 1))


class Shuffle(Part):  # ShuffleNetV2: split, change one half, join, shuffle
    def make(self, s: Style, inp: int, out: int) -> None:
        self.widen, half = nn.Identity() if inp == out else s.unit(inp, out, 1), out // 2
        self.branch = nn.Sequential(s.unit(half, half, 1), s.unit(half, half, groups=half))

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.widen(x).chunk(2, 1)
        x = torch.cat([one, self.branch(other)], 1)
        batch, channels, *size = x.shape
        return x.view(batch, 2, channels // 2, *size).transpose(1, 2).reshape(x.shape)


class Parts(Residual):  # Res2Net: four parts, each added to the one before; the width is stored
    def make(self, s: Style, inp: int, out: int) -> None:
        super().make(s, inp, out)
        self.width = out // 4
        self.parts = nn.ModuleList([s.unit(self.width, self.width) for _ in range(3)])

    def inner(self, x: Tensor) -> Tensor:
        first, *rest = torch.split(self.one(x), self.width, 1)
        done = [first]
        for part, y in zip(self.parts, rest, strict=True):
            done.append(part(done[-1] + y))
        return self.norm(self.other(torch.cat(done, 1)))


class Ghost(Part):  # half of the channels are cheap: depthwise convolutions of the others
    def make(self, s: Style, inp: int, out: int) -> None:
        self.out, half = out, (out + 1) // 2
        self.primary, self.cheap = s.unit(inp, half, 1), s.unit(half, half, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)[:, : self.out]


class Gated(Residual):  # twice the channels: one half gates the other
    def layers(self, s: Style, inp: int, out: int) -> tuple[nn.Module, nn.Module]:
        return s.conv(inp, 2 * out), s.conv(out, out)

    def inner(self, x: Tensor) -> Tensor:
        one, other = self.one(x).chunk(2, 1)
        return self.norm(self.other(one * other.sigmoid()))


class Squeeze(Refined):  # squeeze and excitation by convolutions
    def add(self, s: Style, out: int) -> None:
        self.down, self.up = s.layer("Conv")(out, 8, 1), s.layer("Conv")(8, out, 1)

    def refine(self, y: Tensor) -> Tensor:
        return y * self.up(F.relu(self.down(y.mean(space(y), keepdim=True)))).sigmoid()


class SqueezeLinear(Refined):  # the same by linear layers and views
    def add(self, s: Style, out: int) -> None:
        self.fc = nn.Sequential(nn.Linear(out, 8), nn.ReLU(), nn.Linear(8, out), nn.Sigmoid())

    def refine(self, y: Tensor) -> Tensor:
        batch, channels = y.shape[:2]
        return y * wide(self.fc(y.mean(space(y)).view(batch, channels)), y).expand_as(y)


class Along(Refined):  # ECA: a convolution along the channels
    def add(self, s: Style, out: int) -> None:
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def refine(self, y: Tensor) -> Tensor:
        gate = self.along(y.mean(space(y)).unsqueeze(1)).squeeze(1)
        return y * wide(gate.sigmoid(), y)


class Spatial(Refined):  # CBAM: one map for all channels
    def add(self, s: Style, out: int) -> None:
        self.attend = s.layer("Conv")(2, 1, 3, padding=1)

    def refine(self, y: Tensor) -> Tensor:
        both = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return y * self.attend(both).sigmoid()


class Selective(Residual):  # SK: two branches, stacked, weighted by a softmax over them, added
    def make(self, s: Style, inp: int, out: int) -> None:
        super().make(s, inp, out)
        self.left, self.right = s.unit(inp, out), s.unit(inp, out, 1)
        self.choose = nn.Linear(out, 2 * out)

    def inner(self, x: Tensor) -> Tensor:
        both = torch.stack([self.left(x), self.right(x)], 1)
        weights = self.choose(both.sum(1).mean(space(x))).view(len(x), 2, -1).softmax(1)
        return (both * weights.view(*weights.shape, *[1] * (x.ndim - 2))).sum(1)


BRANCHES = {
    **named(TwoBranch, Uneven, Dense, Partial, Collected, Shuffle, Parts, Ghost, Gated, Squeeze),
    **named(SqueezeLinear, Along, Spatial, Selective),
}
