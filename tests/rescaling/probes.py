"""Small networks that ask for one tracing rule each, and an independent count of any network."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssr_exp.config import ModelConf, Shortcut, Stem
from ssr_exp.rescaling import planning, seeds
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan

SHAPE = (3, 8, 8)


def measured(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Count parameters and MACs of a real network, knowing nothing of plans; moves it to meta."""
    n_params = sum(parameter.numel() for parameter in network.parameters())
    shadow = network.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty((1, *shape), device="meta"))
    return n_params, counter.get_total_flops() // 2


def arbitrary(plan: Plan, count: int, *, seed: int = 0) -> list[Architecture]:
    """Round arbitrary float modifiers, extremes first."""
    draw = random.Random(seed)
    found = [plan.baseline, plan.smallest]
    for _ in range(count):
        pairs = [
            (1.0, 1.0) if s.frozen else _pair(draw, s.least / len(s.blocks)) for s in plan.segments
        ]
        depth, width = zip(*pairs, strict=True)
        found.append(plan.effective(Modifiers(depth, width)))
    return found


def seed_of(name: str, variant: str = "", frozen: tuple[str, ...] = ()) -> tuple[nn.Module, Plan]:
    """Build one seed network and its plan; variant: a shortcut or a stem. Its weights are unset."""
    return _seed_of(name, variant or ("A" if name in seeds.CIFAR else "cifar"), frozen)


@cache
def _seed_of(name: str, variant: str, frozen: tuple[str, ...]) -> tuple[nn.Module, Plan]:
    network = hollow(name, variant)
    shape = (3, 32, 32)
    multiple = seeds.multiple(ModelConf(name))
    return network, planning.trace(network, shape, multiple=multiple, frozen=frozen)


def hollow(name: str, variant: str) -> nn.Module:
    """Build a seed network without drawing weights."""
    shortcut = Shortcut(variant) if variant in ("A", "B") else Shortcut.A
    stem = Stem(variant) if variant in ("cifar", "imagenet") else Stem.auto
    with torch.device("meta"):
        network = seeds.build(
            ModelConf(name, stem, shortcut), num_classes=10, input_shape=(3, 32, 32)
        )
    return network.to_empty(device="cpu")


def _pair(draw: random.Random, least: float) -> tuple[float, float]:
    return draw.uniform(least, 1), draw.uniform(1e-3, 1)


def conv(in_channels: int, out_channels: int, kernel: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class Net(nn.Module):
    """A stem, two stages of three blocks, a pooled head."""

    def __init__(self, block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.stage1 = nn.Sequential(block(16, 16), block(16, 16), block(16, 16))
        self.stage2 = nn.Sequential(block(16, 32), block(32, 32), block(32, 32))
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stem(x)))
        return self.fc(x.mean((2, 3)))


class Plain(nn.Module):
    """No residual connection."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """A projection where the width changes."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x)))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x) + self.skip(x))


class TwoBranch(nn.Module):
    """The outputs of two branches lie side by side."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.one, self.other = conv(inp, out // 2), conv(inp, out // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.other(x)], dim=1)


class Dense(nn.Module):
    """A DenseNet-like inside: the second convolution reads input and new channels."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.grow, self.bn = conv(inp, 8), nn.BatchNorm2d(inp + 8)
        self.join = nn.Conv2d(inp + 8, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(F.relu(self.bn(torch.cat([x, self.grow(x)], 1))))


class Shuffle(nn.Module):
    """ShuffleNetV2: split, change one half, join, shuffle."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Identity() if inp == out else conv(inp, out, 1)
        self.branch = nn.Sequential(conv(out // 2, out // 2, 1), conv(out // 2, out // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.widen(x).chunk(2, dim=1)
        x = torch.cat([one, self.branch(other)], dim=1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class Inverted(nn.Module):
    """MobileNetV2: expand, depthwise, project."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        hidden = 3 * inp
        self.conv = nn.Sequential(
            conv(inp, hidden, 1),
            conv(hidden, hidden, 3, groups=hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.is_residual = inp == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class Squeeze(Residual):
    """Squeeze and excitation inside a residual block."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.down, self.up = nn.Conv2d(out, 8, 1), nn.Conv2d(8, out, 1)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1))))
        return y * gate.sigmoid()


class SqueezeLinear(Squeeze):
    """The same with linear layers, as in the paper's first code."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.down, self.up = nn.Linear(out, 8), nn.Linear(8, out)

    def inner(self, x: Tensor) -> Tensor:
        y = Residual.inner(self, x)
        b, c, _, _ = y.shape
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1).view(b, c))))
        return y * gate.sigmoid().view(b, c, 1, 1).expand_as(y)


class LayerScale(Residual):
    """A gain for each channel, a small constant at the start."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.gamma = nn.Parameter(torch.full((out, 1, 1), 1e-2))

    def inner(self, x: Tensor) -> Tensor:
        return self.gamma * super().inner(x)


class Grouped(Residual):
    """ResNeXt: four groups."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, groups=4)


class Scalar(Residual):
    """A single learnt gain (ReZero)."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.alpha = nn.Parameter(torch.zeros(1))

    def inner(self, x: Tensor) -> Tensor:
        return self.alpha * super().inner(x)


class GroupNormed(Residual):
    """Group norm between the convolutions."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.norm = nn.GroupNorm(4, out)

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.norm(self.conv1(x))))


class Fourier(Residual):
    """An operation that no rule knows."""

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(torch.fft.fft(self.conv1(x), dim=1).real)


class Linalg(Residual):
    """Another one, which mixes the pixels of each channel."""

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(torch.linalg.matrix_exp(self.conv1(x)))


class Prelu(Residual):
    """An activation with a parameter for each channel."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.act = nn.PReLU(out)

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(self.act(self.conv1(x)))


class Maxout(Residual):
    """Only half of the first convolution's channels are gates (GLU)."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.conv1 = nn.Conv2d(inp, 2 * out, 3, padding=1)

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(F.glu(self.conv1(x), dim=1))


class FlatHead(nn.Module):
    """VGG: the head reads every pixel of every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.blocks = nn.Sequential(*[Residual(16, 16) for _ in range(3)])
        self.head = nn.Sequential(nn.Linear(16 * 64, 24), nn.ReLU(), nn.Linear(24, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).flatten(1))


class Listed(nn.Module):
    """Blocks in a ModuleList."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.blocks = nn.ModuleList([Residual(16, 16) for _ in range(4)])
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Attributes(nn.Module):
    """Blocks as attributes: a removed one becomes an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.block1, self.block2, self.block3 = Residual(16, 16), Residual(16, 16), Residual(16, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


class Shared(nn.Module):
    """One block runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.stage1 = nn.Sequential(*[Residual(16, 16) for _ in range(3)])
        self.again = Residual(16, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.stage1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


class Tapped(nn.Module):
    """A later layer reads between two blocks: they cannot be removed across the tap."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.a, self.b = Residual(16, 16), Residual(16, 16)
        self.c, self.d = Residual(16, 16), Residual(16, 16)
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(self.stem(x)))
        y = self.d(self.c(x))
        return self.fc(torch.cat([x, y], 1).mean((2, 3)))


class Tokens(nn.Module):
    """Channels last in a linear layer over pixels, as ConvNeXt does."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)
        self.depthwise = nn.Conv2d(out, out, 3, padding=1, groups=out)
        self.norm = nn.LayerNorm(out)
        self.up, self.down = nn.Linear(out, 2 * out), nn.Linear(2 * out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)


class SpatialAttention(Residual):
    """CBAM: one map for all channels."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.attend = nn.Conv2d(2, 1, 3, padding=1)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        both = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return y * self.attend(both).sigmoid()


class WithConstant(Residual):
    """The shortcut appends a fixed number of zero channels."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.skip, self.missing = nn.Identity(), out - inp

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(x.shape[0], self.missing, *x.shape[2:], device=x.device)
        return F.relu(self.inner(x) + torch.cat([x, zeros], 1))


class WithPadding(WithConstant):
    """The same by padding, as a widely copied ResNet for CIFAR does."""

    def forward(self, x: Tensor) -> Tensor:
        low = self.missing // 2
        return F.relu(self.inner(x) + F.pad(x, (0, 0, 0, 0, low, self.missing - low)))


class Repeated(WithConstant):
    """The shortcut appends the channels times zero."""

    def forward(self, x: Tensor) -> Tensor:
        short = torch.cat([x, x.mul(0)], 1) if self.missing else x
        return F.relu(self.inner(x) + short)


class Normalised(Residual):
    """Weight norm: the convolution's weight is computed."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.conv1 = nn.utils.parametrizations.weight_norm(self.conv1)


class Transposed(Residual):
    """A transposed convolution."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.conv1 = nn.ConvTranspose2d(inp, out, 3, padding=1)


class SelfAttention(Residual):
    """Every pixel looks at every other."""

    def inner(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        tokens = y.flatten(2)
        weights = (tokens.transpose(1, 2) @ tokens).softmax(-1)
        return self.conv2((tokens @ weights).view(y.shape))


class AcrossChannels(Residual):
    """ECA: a convolution along the channels."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.along = nn.Conv1d(1, 1, 3, padding=1)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        gate = self.along(y.mean((2, 3)).unsqueeze(1)).squeeze(1)
        return y * gate.sigmoid()[:, :, None, None]


class Gated(Maxout):
    """The same gate by chunks."""

    def inner(self, x: Tensor) -> Tensor:
        one, other = self.conv1(x).chunk(2, 1)
        return self.conv2(one * other.sigmoid())


class Sliced(Residual):
    """As many channels are taken as the module says."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.skip, self.first = nn.Conv2d(inp, 2 * out, 1), out

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.skip(x)[:, : self.first]


class Literal(Residual):
    """As many channels are taken as the code says: no attribute holds the number."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.skip = nn.Conv2d(inp, 2 * out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.skip(x)[:, :16]


class Res2(Residual):
    """Res2Net: a split into four, each added to the one before."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.parts = nn.ModuleList([conv(out // 4, out // 4) for _ in range(3)])

    def inner(self, x: Tensor) -> Tensor:
        first, *rest = self.conv1(x).chunk(4, 1)
        done = [first]
        for part, y in zip(self.parts, rest, strict=True):
            done.append(part(done[-1] + y))
        return self.conv2(torch.cat(done, 1))


class PreActivation(nn.Module):
    """All blocks lend one activation."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act, self.conv = act, nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.act(x))


class Grow(nn.Module):
    """A DenseNet's layer: what went in comes out, and more."""

    def __init__(self, inp: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inp), nn.Conv2d(inp, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.bn(x)))], 1)


class Stage(nn.Module):
    """A repeated class outside, the blocks inside."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inp, out, 2, 2)
        self.blocks = nn.Sequential(*[Residual(out, out) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


class Body(nn.Module):
    """A stem, `body`, a pooled head."""

    def __init__(self, body: nn.Module, out: int = 16) -> None:
        super().__init__()
        self.stem, self.body, self.fc = conv(3, 16), body, nn.Linear(out, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


def residuals(count: int) -> list[Residual]:
    return [Residual(16, 16) for _ in range(count)]


def literal() -> nn.Module:
    return Body(nn.Sequential(*[Literal(16, 16) for _ in range(3)]))


def vgg(*widths: int | str) -> nn.Module:
    """A plain network in one sequence: convolutions of these widths, `M` for pooling."""
    layers, inp = [], 3
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(inp, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        inp = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inp, 5))


def plain_sequence() -> nn.Module:
    return vgg(16, 16, 16, "M", 24, 24)


def one_convolution() -> nn.Module:
    """Three blocks hold one convolution."""
    blocks = residuals(3)
    for block in blocks:
        block.conv1 = blocks[0].conv1
    return Body(nn.Sequential(*blocks))


def one_weight() -> nn.Module:
    """A block of the second stage uses the weight of one of the first."""
    blocks = residuals(6)
    blocks[5].conv1.weight = blocks[2].conv1.weight
    return Body(nn.Sequential(*blocks[:3], nn.MaxPool2d(2), *blocks[3:]))


def one_activation() -> nn.Module:
    act = nn.ReLU()
    return Body(nn.Sequential(*[PreActivation(act) for _ in range(3)]))


def named_blocks() -> nn.Module:
    return Body(nn.Sequential(OrderedDict((f"b{i}", b) for i, b in enumerate(residuals(12)))))


def hierarchy() -> nn.Module:
    return Body(nn.Sequential(Stage(16, 16), Stage(16, 32)), 32)


def growing() -> nn.Module:
    return Body(nn.Sequential(*[Grow(16 + 8 * i) for i in range(4)]), 48)


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    kind.__name__: kind
    for kind in (
        Plain, Residual, TwoBranch, Dense, Shuffle, Inverted, Squeeze, SqueezeLinear, LayerScale,
        Grouped, Scalar, GroupNormed, Fourier, Linalg, Prelu, Maxout, Tokens,
        SpatialAttention, WithConstant, WithPadding, Repeated, Normalised, Transposed,
        SelfAttention, AcrossChannels, Gated, Sliced, Res2,
    )
}  # fmt: skip
WHOLE: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind
    for kind in (
        FlatHead, Listed, Attributes, Shared, Tapped,
        one_convolution, one_weight, one_activation, named_blocks, hierarchy, growing, literal,
        plain_sequence,
    )
}  # fmt: skip


def names() -> list[str]:
    return [*BLOCKS, *WHOLE]


@cache
def planned(name: str, multiple: int = 4) -> tuple[nn.Module, Plan]:
    """Build one of these networks and its plan; do not change it."""
    network = build(name)
    return network, planning.trace(network, SHAPE, multiple=multiple)


def build(name: str) -> nn.Module:
    return WHOLE[name]() if name in WHOLE else Net(BLOCKS[name])
