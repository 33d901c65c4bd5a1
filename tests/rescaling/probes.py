"""Small networks that ask for one tracing rule each, and an independent count of any network.

Their activation is SiLU where it does not matter: without data it is seven times faster than ReLU.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssr_exp.config import ModelConf, Shortcut, Stem
from ssr_exp.rescaling import cost, planning, seeds
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


def assert_exact(plan: Plan, architecture: Architecture, built: nn.Module) -> None:
    """Compare what the plan counts with a real build, which loses its data."""
    counted, sizes = cost.count_one(plan, architecture), cost.gemms(plan, architecture)
    assert (counted.params, counted.macs) == measured(built, plan.input_shape), architecture
    assert sum(gemm.load for gemm in sizes) == counted.macs
    assert sum(gemm.count for gemm in sizes) == counted.gemms


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def assert_disjoint(plan: Plan) -> None:
    """No module is in two segments, nor inside of one that is."""
    paths = [path for segment in plan.segments for block in segment.blocks for path in block]
    assert len(paths) == len(set(paths))
    assert not [one for one in paths for other in paths if one.startswith(f"{other}.")]
    assert len({segment.name for segment in plan.segments}) == len(plan.segments)


def arbitrary(plan: Plan, count: int, *, seed: int = 0) -> list[Architecture]:
    """Round arbitrary float modifiers, extremes first."""
    draw = random.Random(seed)
    found = [plan.baseline, plan.canonical(plan.smallest)]
    for _ in range(count):
        pairs = [
            (1.0, 1.0) if s.frozen else _pair(draw, s.least / len(s.blocks)) for s in plan.segments
        ]
        depth, width = zip(*pairs, strict=True)
        found.append(plan.effective(Modifiers(depth, width)))
    return found


def seed_of(
    name: str, variant: str = "", frozen: tuple[str, ...] = (), kind: str = "stage"
) -> tuple[nn.Module, Plan]:
    """Build one seed network and its plan; variant: a shortcut or a stem. Its weights are unset."""
    return _seed_of(name, variant or ("A" if name in seeds.CIFAR else "cifar"), frozen, kind)


@cache
def _seed_of(name: str, variant: str, frozen: tuple[str, ...], kind: str) -> tuple[nn.Module, Plan]:
    network, multiple = hollow(name, variant), seeds.multiple(ModelConf(name))
    return network, planning.trace(
        network, (3, 32, 32), multiple=multiple, frozen=frozen, kind=kind
    )


def plan_of(name: str, *frozen: str, variant: str = "") -> Plan:
    """Look up the plan of a seed network, or of one of the networks below."""
    return planned(name)[1] if name in names() else seed_of(name, variant, frozen)[1]


def hollow(name: str, variant: str) -> nn.Module:
    """Build a seed network without drawing weights: all are 0."""
    shortcut = Shortcut(variant) if variant in ("A", "B") else Shortcut.A
    stem = Stem(variant) if variant in ("cifar", "imagenet") else Stem.auto
    with torch.device("meta"):
        network = seeds.build(
            ModelConf(name, stem, shortcut), num_classes=10, input_shape=(3, 32, 32)
        )
    network.to_empty(device="cpu")
    for tensor in (*network.parameters(), *network.buffers()):
        torch.nn.init.zeros_(tensor)
    return network


def _pair(draw: random.Random, least: float) -> tuple[float, float]:
    return draw.uniform(least, 1), draw.uniform(1e-3, 1)


def conv(in_channels: int, out_channels: int, kernel: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(out_channels),
        nn.SiLU(),
    )


class Net(nn.Module):  # a stem, a stage of three blocks and one of two, a pooled head
    def __init__(self, block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.stage1 = nn.Sequential(block(16, 16), block(16, 16), block(16, 16))
        self.stage2 = nn.Sequential(block(16, 32), block(32, 32))
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stem(x)))
        return self.fc(x.mean((2, 3)))


class Plain(nn.Module):  # no residual connection
    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """A projection where the width changes; what is odd about others are parts and the inside."""

    parts: Any = staticmethod(lambda inp, out: {})
    between: Any = staticmethod(lambda self, x: F.silu(x))

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)
        for name, part in self.parts(inp, out).items():
            setattr(self, name, part)

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(self.between(self, self.conv1(x)))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.inner(x) + self.skip(x))


def residual(parts: Callable[[int, int], dict[str, Any]], between: Any = None) -> type[Residual]:
    """Make a kind of residual block by its parts, and by what stands between its convolutions."""
    own = {"parts": staticmethod(parts)}
    own |= {} if between is None else {"between": staticmethod(between)}
    return type("Odd", (Residual,), own)


def gated(parts: Callable[[int, int], dict[str, Any]], gate: Any) -> type[Residual]:
    """Make a kind of residual block that multiplies what it puts out by a gate."""

    def inner(self: Any, x: Tensor) -> Tensor:
        y = Residual.inner(self, x)
        return y * gate(self, y)

    return type("Odd", (Residual,), {"parts": staticmethod(parts), "inner": inner})


def squeezed(self: Any, y: Tensor) -> Tensor:
    return self.up(F.silu(self.down(F.adaptive_avg_pool2d(y, 1)))).sigmoid()


def squeezed_linear(self: Any, y: Tensor) -> Tensor:
    """As in the paper's first code."""
    b, c, _, _ = y.shape
    gate = self.up(F.silu(self.down(F.adaptive_avg_pool2d(y, 1).view(b, c))))
    return gate.sigmoid().view(b, c, 1, 1).expand_as(y)


def over_space(self: Any, y: Tensor) -> Tensor:
    """CBAM: one map for all channels."""
    return self.attend(torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)).sigmoid()


def over_channels(self: Any, y: Tensor) -> Tensor:
    """ECA: a convolution along the channels."""
    gate = self.along(y.mean((2, 3)).unsqueeze(1)).squeeze(1)
    return gate.sigmoid()[:, :, None, None]


def every_pixel(self: Any, y: Tensor) -> Tensor:
    """Every pixel looks at every other."""
    tokens = y.flatten(2)
    weights = (tokens.transpose(1, 2) @ tokens).softmax(-1)
    return (tokens @ weights).view(y.shape)


def halves(self: Any, y: Tensor) -> Tensor:
    one, other = y.chunk(2, 1)
    return one * other.sigmoid()


def quarters(self: Any, y: Tensor) -> Tensor:
    """Res2Net: a split into four, each added to the one before."""
    first, *rest = y.chunk(4, 1)
    done = [first]
    for part, own in zip(self.quarters, rest, strict=True):
        done.append(part(done[-1] + own))
    return torch.cat(done, 1)


class TwoBranch(nn.Module):  # the outputs of two branches lie side by side
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
        return self.join(F.silu(self.bn(torch.cat([x, self.grow(x)], 1))))


class Shuffle(nn.Module):  # ShuffleNetV2: split, change one half, join, shuffle
    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Identity() if inp == out else conv(inp, out, 1)
        self.branch = nn.Sequential(conv(out // 2, out // 2, 1), conv(out // 2, out // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.widen(x).chunk(2, dim=1)
        x = torch.cat([one, self.branch(other)], dim=1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class Inverted(nn.Module):  # MobileNetV2: expand, depthwise, project
    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        hidden, self.is_residual = 3 * inp, inp == out
        self.conv = nn.Sequential(
            conv(inp, hidden, 1),
            conv(hidden, hidden, 3, groups=hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class Tokens(nn.Module):  # channels last in a linear layer over pixels, as ConvNeXt does
    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.widen = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)
        self.depthwise = nn.Conv2d(out, out, 3, padding=1, groups=out)
        self.norm = nn.LayerNorm(out)
        self.up, self.down = nn.Linear(out, 2 * out), nn.Linear(2 * out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.down(F.silu(self.up(y))).permute(0, 3, 1, 2)


class Sliced(Residual):  # as many channels are taken as the module says
    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.skip, self.first = nn.Conv2d(inp, 2 * out, 1), out

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.skip(x)[:, : self.first]


class WithConstant(Residual):  # the shortcut appends a fixed number of zero channels
    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out)
        self.skip, self.missing = nn.Identity(), out - inp

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.inner(x) + self.longer(x))

    def longer(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(x.shape[0], self.missing, *x.shape[2:], device=x.device)
        return torch.cat([x, zeros], 1)


class WithPadding(WithConstant):  # the same by padding, as a widely copied ResNet for CIFAR does
    def longer(self, x: Tensor) -> Tensor:
        low = self.missing // 2
        return F.pad(x, (0, 0, 0, 0, low, self.missing - low))


class Repeated(WithConstant):  # the shortcut appends the channels times zero
    def longer(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.mul(0)], 1) if self.missing else x


class Body(nn.Module):  # a stem, `body` or other parts, a pooled head
    def __init__(self, body: nn.Module | None = None, out: int = 16, **parts: nn.Module) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        for name, part in (parts if body is None else {"body": body, **parts}).items():
            setattr(self, name, part)
        self.fc = nn.Linear(out, 5)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(self.stem(x)).mean((2, 3)))


def residuals(count: int) -> list[Residual]:
    return [Residual(16, 16) for _ in range(count)]


class FlatHead(nn.Module):  # VGG: the head reads every pixel of every channel
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = conv(3, 16), nn.Sequential(*residuals(3))
        self.head = nn.Sequential(nn.Linear(16 * 64, 24), nn.ReLU(), nn.Linear(24, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).flatten(1))


class Listed(Body):  # blocks in a ModuleList
    def __init__(self) -> None:
        super().__init__(blocks=nn.ModuleList(residuals(4)))

    def features(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Attributes(Body):  # blocks as attributes: a removed one becomes an identity
    def __init__(self) -> None:
        super().__init__(**{f"block{n}": Residual(16, 16) for n in (1, 2, 3)})

    def features(self, x: Tensor) -> Tensor:
        return self.block3(self.block2(self.block1(x)))


class Shared(Body):  # one block runs twice
    def __init__(self) -> None:
        super().__init__(stage1=nn.Sequential(*residuals(3)), again=Residual(16, 16))

    def features(self, x: Tensor) -> Tensor:
        return self.again(self.again(self.stage1(x)))


class Tapped(Body):  # a later layer reads between two blocks: they cannot be removed across the tap
    def __init__(self) -> None:
        super().__init__(out=32, **{name: Residual(16, 16) for name in "abcd"})

    def features(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return torch.cat([x, self.d(self.c(x))], 1)


class PreActivation(nn.Module):  # all blocks lend one activation
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act, self.conv = act, nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.act(x))


class Grow(nn.Module):  # a DenseNet's layer: what went in comes out, and more
    def __init__(self, inp: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inp), nn.Conv2d(inp, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.silu(self.bn(x)))], 1)


class Stage(nn.Module):  # a repeated class outside, the blocks inside
    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inp, out, 2, 2)
        self.blocks = nn.Sequential(*[Residual(out, out) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


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


def double(inp: int, out: int) -> dict[str, Any]:
    return {"conv1": nn.Conv2d(inp, 2 * out, 3, padding=1)}


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    **{kind.__name__: kind for kind in (Plain, Residual, TwoBranch, Dense, Shuffle, Inverted)},
    **{kind.__name__: kind for kind in (Tokens, Sliced, WithConstant, WithPadding, Repeated)},
    "Squeeze": gated(
        lambda inp, out: {"down": nn.Conv2d(out, 8, 1), "up": nn.Conv2d(8, out, 1)}, squeezed
    ),
    "SqueezeLinear": gated(
        lambda inp, out: {"down": nn.Linear(out, 8), "up": nn.Linear(8, out)}, squeezed_linear
    ),
    "SpatialAttention": gated(
        lambda inp, out: {"attend": nn.Conv2d(2, 1, 3, padding=1)}, over_space
    ),
    "AcrossChannels": gated(
        lambda inp, out: {"along": nn.Conv1d(1, 1, 3, padding=1)}, over_channels
    ),
    "LayerScale": gated(  # a gain for each channel, a small constant at the start
        lambda inp, out: {"gamma": nn.Parameter(torch.full((out, 1, 1), 1e-2))},
        lambda self, y: self.gamma,
    ),
    "Scalar": gated(  # a single learnt gain (ReZero)
        lambda inp, out: {"alpha": nn.Parameter(torch.zeros(1))}, lambda self, y: self.alpha
    ),
    "Grouped": residual(  # ResNeXt: four groups
        lambda inp, out: {"conv2": nn.Conv2d(out, out, 3, padding=1, groups=4)}
    ),
    "GroupNormed": residual(
        lambda inp, out: {"norm": nn.GroupNorm(4, out)}, lambda self, y: F.silu(self.norm(y))
    ),
    "Prelu": residual(lambda inp, out: {"act": nn.PReLU(out)}, lambda self, y: self.act(y)),
    "Transposed": residual(lambda inp, out: {"conv1": nn.ConvTranspose2d(inp, out, 3, padding=1)}),
    # Operations that no rule knows.
    "Fourier": residual(lambda inp, out: {}, lambda self, y: torch.fft.fft(y, dim=1).real),
    "Linalg": residual(lambda inp, out: {}, lambda self, y: torch.linalg.matrix_exp(y)),
    "SelfAttention": residual(lambda inp, out: {}, every_pixel),
    "Maxout": residual(double, lambda self, y: F.glu(y, dim=1)),
    "Gated": residual(double, halves),
    "Res2": residual(
        lambda inp, out: {"quarters": nn.ModuleList([conv(out // 4, out // 4) for _ in range(3)])},
        quarters,
    ),
}
WHOLE: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind
    for kind in (
        FlatHead, Listed, Attributes, Shared, Tapped,
        one_convolution, one_weight, one_activation, named_blocks, hierarchy, growing,
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
