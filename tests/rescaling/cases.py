"""Small networks of kinds that people really have, by what is odd about them; see `test_cases`."""

from __future__ import annotations

import types
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from tests.rescaling.probes import conv

SHAPE = (3, 16, 16)
Make = Callable[[], nn.Module]


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x))


class Base(nn.Module):  # two residual blocks and a head
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.body: Any = nn.Sequential(*[Block(16) for _ in range(2)])
        self.fc: Any = nn.Linear(16, classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x))

    def head(self, x: Tensor) -> Any:
        return self.fc(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x))


class With(Base):  # more parts, and another head
    def __init__(self, head: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.own_head = head
        for name, part in parts.items():
            setattr(self, name, part)

    def head(self, x: Tensor) -> Any:
        return self.own_head(self, x)


# Weights that are not learnt, and first values that are not random.
class FixedFilter(Base):
    def __init__(self) -> None:
        super().__init__()
        kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        self.edge = nn.Conv2d(3, 6, 3, 1, 1, groups=3, bias=False)
        self.edge.weight.data = torch.stack([kernel, kernel.t()])[:, None].repeat(3, 1, 1, 1)
        self.edge.weight.requires_grad_(False)
        self.stem = conv(6, 16)

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.edge(x))


class FixedTable(Base):  # positions of rows as sines, learnt or not
    def __init__(self, learnt: bool = False) -> None:
        super().__init__()
        angles = torch.arange(16)[:, None] * torch.exp(-torch.arange(16) * 0.3)
        table = torch.sin(angles).t().reshape(1, 16, 16, 1).contiguous()
        self.table = nn.Parameter(table, requires_grad=learnt)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(self.stem(x) + self.table))


class FixedKernel(Base):  # a detector's expectation over bins: a kernel that counts
    def __init__(self) -> None:
        super().__init__()
        self.bins = nn.Conv2d(16, 4 * 16, 1)
        self.mean = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
        self.mean.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.bins(self.features(x))
        b, _, h, w = y.shape
        return self.mean(y.view(b, 4, 16, h * w).transpose(2, 1).softmax(1)).view(b, 4, h * w)


def frozen(*names: str) -> nn.Module:
    network = Base()
    for name in names:
        network.get_submodule(name).requires_grad_(False)
    return network


class BilinearUpsampling(Base):
    """A prior in the bias and a bilinear kernel in a transposed convolution, both learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(16, 16, 4, 2, 1, bias=False)
        self.fc = nn.Conv2d(16, 5, 1)
        nn.init.constant_(self.fc.bias, -4.6)
        kernel = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.up.weight.data.zero_()
        for channel in range(16):
            self.up.weight.data[channel, channel] = kernel[:, None] * kernel

    def head(self, x: Tensor) -> Any:
        return self.fc(self.up(x))


class BandEdges(nn.Module):  # filters of sound that are made of their edges (SincNet)
    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.linspace(30, 1000, 16)[:, None])
        self.band = nn.Parameter(torch.linspace(10, 300, 16)[:, None])
        self.register_buffer("time", torch.arange(-8.0, 9)[None])
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv1d(16, 16, 3, 1, 1), nn.BatchNorm1d(16)) for _ in range(3))
        )
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        high = torch.sin((self.low + self.band) * self.time)
        x = F.conv1d(x, (torch.sin(self.low * self.time) - high)[:, None], padding=8)
        return self.fc(self.body(x).mean(-1))


def small_head() -> Base:
    """A last layer that starts near zero, by a rule of its own."""
    network = Base(50)
    nn.init.normal_(network.fc.weight, 0, 0.001)
    return network


# Weights that are computed from others.
def normed(norm: Callable[[nn.Conv2d], Any]) -> Make:
    def make() -> nn.Module:
        network = Base()
        for layer in convolutions(network):
            norm(layer)
        return network

    return make


def pruned(layer: nn.Conv2d) -> None:
    prune.l1_unstructured(layer, "weight", 0.3)


def low_rank() -> nn.Module:
    """A weight that is a product of two: its cost does not depend on the image."""
    u, v = nn.Parameter(torch.randn(64, 8)), nn.Parameter(torch.randn(8, 16))
    return With(
        lambda net, x: net.fc(F.silu(F.linear(x.mean((2, 3)), net.u @ net.v))),
        u=u, v=v, fc=nn.Linear(64, 5),
    )  # fmt: skip


def position_net() -> nn.Module:
    """A small network over a fixed grid of positions: once a batch, not once an image."""
    return With(
        lambda net, x: net.fc((x.flatten(2) + net.net(net.grid).t()).mean(2)),
        net=nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 16)),
        grid=nn.Buffer(torch.rand(256, 2)),
    )


def blurred(net: Any, x: Tensor) -> Tensor:
    """By the data of a weight."""
    kernel = net.stem[0].weight.data.mean(1, True).mean(0, True).expand(x.shape[1], 1, 3, 3)
    return Base.head(net, F.conv2d(x, kernel, padding=1, groups=x.shape[1]))


# Outputs.
class Slots:
    __slots__ = ("features", "logits")

    def __init__(self, features: Tensor, logits: Tensor) -> None:
        self.features, self.logits = [features], logits


Pair = namedtuple("Pair", "features logits")


class Puts(Base):
    def __init__(self, out: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.out = out

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return self.out(features, self.head(features))


# Train mode.
class HeadInTraining(Base):
    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        y = self.head(features)
        return (y, self.aux(features).mean((2, 3))) if self.training else y


class DeepSupervision(Base):  # heads and noise in training only
    def __init__(self) -> None:
        super().__init__()
        self.noise = nn.Conv2d(16, 16, 1)
        self.heads = nn.ModuleList([nn.Conv2d(16, 5, 1) for _ in range(2)])

    def forward(self, x: Tensor) -> Any:
        x, others = self.stem(x), []
        for block, head in zip(self.body, self.heads, strict=True):
            x = block(x)
            if self.training:
                others.append(head(x))
                x = x + self.noise(torch.randn_like(x))
        y = self.head(F.dropout(x, 0.1, self.training))
        return [y, *others] if self.training else y


class NeedsTargets(Base):
    def forward(self, x: Tensor, target: Tensor | None = None) -> Any:
        y = super().forward(x)
        return F.cross_entropy(y, target) if self.training else y  # type: ignore[arg-type]


# Sequences that are read by position.
class Taps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [(nn.Conv2d(i, 16, 3, 1, 1), nn.SiLU()) for i in (3, 16, 16, 16)]
        self.f = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.o = nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.f[:4](x)
        return self.o(torch.cat([a, self.f[4:](a)], 1))


class Reads(Base):  # reads its blocks in some way
    def __init__(self, read: Callable[[nn.Sequential, Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read

    def forward(self, x: Tensor) -> Any:
        return self.head(self.read(self.body, self.stem(x)))


def by_enumerate(body: nn.Sequential, x: Tensor) -> Tensor:
    taps = []
    for number, block in enumerate(body):
        x = block(x)
        if number in (0, 1):
            taps.append(x)
    return taps[0] + taps[1]


def counted(body: nn.Sequential, x: Tensor) -> Tensor:
    number, tap = 0, x
    for block in body:
        x, number = block(x), number + 1
        tap = x if number == 1 else tap
    return x + tap


def by_index(body: nn.Sequential, x: Tensor) -> Tensor:
    for number in range(len(body)):
        x = body[number](x)
    return x


def in_a_loop(body: nn.Sequential, x: Tensor) -> Tensor:
    for block in body:
        x = block(x)
    return x


# What a module holds, and what the tracer does to it.
def patched() -> nn.Module:
    network = Base()
    own = network.body.forward
    network.body.forward = lambda x: own(x) * 1.0
    return network


def hooked(layer: nn.Module) -> Make:
    def make() -> nn.Module:
        network = Base()
        network.body.register_forward_hook(lambda module, args, output: layer(output))
        return network

    return make


def bound() -> nn.Module:
    network = Base()
    twice = types.MethodType(lambda body, x: nn.Sequential.forward(body, x) * 2.0, network.body)
    network.body.forward = twice
    return network


class KeepsActivation(Base):
    def head(self, x: Tensor) -> Any:
        self.last = x
        return super().head(x)


def ran(network: nn.Module) -> nn.Module:
    network(torch.randn(2, *SHAPE))
    return network


def holding(thing: Callable[[], Any]) -> Make:
    def make() -> nn.Module:
        network = Base()
        network.held = thing()
        return network

    return make


class OnFeatures(Base):  # does something to its features
    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.then = then

    def head(self, x: Tensor) -> Any:
        return super().head(self.then(x))


def without_device(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    ramp = torch.stack(
        torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w)[:w], indexing="ij")
    )
    mask = torch.ones(b, 1, h, w)
    mask[:, :, :2] = 0
    return (torch.zeros(b, c, h, w) + x) * mask * ramp[0] * torch.tensor([1.0, 2.0]).sum()


def gated_by_chosen(x: Tensor) -> Tensor:
    return F.glu(x.flip(1)[:, torch.arange(16)], 1).repeat(1, 2, 1, 1)


def interleaved(x: Tensor) -> Tensor:
    out = torch.empty(len(x), 2 * x.shape[1], *x.shape[2:])
    out[:, 0::2], out[:, 1::2] = x, x * x
    return out[:, 0::2] + out[:, 1::2]


class SummedImages(Base):
    """Sums up images from zeros on, and blurs each of their channels on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(16, 16)
        self.kernel = nn.Parameter(torch.full([16, 1, 3, 3], 1 / 9), requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        total = torch.zeros(x.shape)
        total += x
        return super().forward(F.conv2d(total, self.kernel, padding=1, groups=16))


@torch.library.custom_op("ssr_exp_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    """An operation that says nothing of its shapes."""
    return x * 2


doubled.register_autograd(lambda context, gradient: gradient * 2)


class PlainTensor(Base):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x - self.mean)


class CachedGrid(Base):
    grid: Tensor | None = None

    def head(self, x: Tensor) -> Any:
        if self.grid is None:
            self.grid = torch.linspace(0, 1, x.shape[-1], device=x.device).expand(x.shape[-2], -1)
        return super().head(x * self.grid)


def flagged(net: Any, x: Tensor) -> Tensor:
    """Asks a flag that it holds for its value."""
    if net.ready.item() == 0:
        net.ready.fill_(1)
    return Base.head(net, x)


class Chosen(Base):  # reads channels by an index or a mask that it holds
    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.fc = nn.Linear(int(index.sum()) if index.dtype == torch.bool else 16, 5)

    def head(self, x: Tensor) -> Any:
        return super().head(x[:, self.index])


def quantised() -> nn.Module:
    from torch.ao import quantization

    network = Base().train()
    network.qconfig = quantization.get_default_qat_qconfig("x86")
    return quantization.prepare_qat(network)


# Modules that run several times, blocks that read more, and rules.
class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.fc = Base(16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, 1)
        return self.fc((self.enc(one) - self.enc(other)).abs())


class Recurrent(nn.Module):  # a convolutional cell over time, whose state starts at zero
    def __init__(self) -> None:
        super().__init__()
        self.width = 16
        self.x, self.h = nn.Conv2d(3, 64, 3, 1, 1), nn.Conv2d(16, 64, 3, 1, 1)
        self.o = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _, h, w = x.shape
        state = memory = torch.zeros(b, self.width, h, w, device=x.device)
        for time in range(n):
            i, f, g, o = (self.x(x[:, time]) + self.h(state)).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            state = o.sigmoid() * memory.tanh()
        return self.o(state)


class WithRnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.rnn = Base(16), nn.GRU(16, 16, batch_first=True)
        self.o = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, n = x.shape[:2]
        return self.o(self.rnn(self.enc(x.flatten(0, 1)).view(b, n, -1))[0][:, -1])


class Timed(nn.Module):  # a block of a diffusion model: it reads time, too
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.embed = conv(16, 16), nn.Linear(8, 16)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.conv(x + self.embed(t)[:, :, None, None])


class Diffusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.time = conv(3, 16), nn.Linear(3, 8)
        self.blocks = nn.ModuleList([Timed() for _ in range(2)])
        self.one, self.two = Timed(), Timed()
        self.fc = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        t, x = self.time(x.mean((2, 3))), self.stem(x)
        for block in self.blocks:
            x = block(x, t)
        return self.fc(self.two(self.one(x, t), t))


class NonLocal(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inter = width // 2
        self.q, self.k, self.v = (nn.Conv2d(width, width // 2, 1) for _ in range(3))
        self.o = nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = (m(x).view(b, self.inter, -1) for m in (self.q, self.k, self.v))
        a = (q.transpose(1, 2) @ k).softmax(-1)
        return x + self.o((v @ a.transpose(1, 2)).view(b, self.inter, h, w))


class Deformable(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.o = nn.Conv2d(width, 18, 3, 1, 1)
        self.d = torchvision.ops.DeformConv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.d(x, self.o(x))


def of_blocks(block: Callable[[int], nn.Module]) -> Make:
    def make() -> nn.Module:
        network = Base()
        network.body = nn.Sequential(*[block(16) for _ in range(2)])
        return network

    return make


class Generator(nn.Module):  # latent, linear, view, transposed convolutions
    def __init__(self, literal: bool = True) -> None:
        super().__init__()
        self.fc, self.width = nn.Linear(16, 64 * 4 * 4), 64
        self.literal = literal
        self.t1, self.b1 = nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32)
        self.t2, self.b2 = nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16)
        self.o = nn.Conv2d(16, 1, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        y = F.silu(self.fc(z))
        x = y.view(-1, 64, 4, 4) if self.literal else y.view(-1, self.width, 4, 4)
        return torch.tanh(self.o(F.silu(self.b2(self.t2(F.silu(self.b1(self.t1(x))))))))


class Upsampling(Base):  # depthwise, grouped and shuffled
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=16),
            nn.ConvTranspose2d(16, 32, 2, 2, groups=4),
            nn.Conv2d(32, 64, 3, 1, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(16, 16, 3, 1, 1, padding_mode="circular"),
            nn.BatchNorm2d(16),
        )
        self.fc = nn.Conv2d(16, 2, 1)

    def head(self, x: Tensor) -> Any:
        return self.fc(self.up(x))


def repeated() -> nn.Module:
    """One activation at several places of a sequence."""
    act = nn.SiLU()
    layers = [nn.Conv2d(inp, 16, 3, 1, 1) for inp in (3, 16, 16)]
    return nn.Sequential(*(part for layer in layers for part in (layer, act)), nn.Conv2d(16, 2, 1))


def in_1d() -> nn.Module:
    def block(inp: int) -> nn.Module:
        norm = nn.InstanceNorm1d(16, affine=True)
        return nn.Sequential(nn.ReflectionPad1d(1), nn.Conv1d(inp, 16, 3), norm, nn.SiLU())

    up = nn.Upsample(scale_factor=2, mode="linear")
    pool = nn.Sequential(nn.MaxPool1d(2), nn.AvgPool1d(2))
    ends = nn.Sequential(nn.AdaptiveMaxPool1d(4), nn.Conv1d(16, 3, 1))
    pad = nn.ReplicationPad1d(2)
    return nn.Sequential(block(2), block(16), pad, up, block(16), pool, block(16), ends)


def in_3d() -> nn.Module:
    def block(inp: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Conv3d(inp, out, 3, 1, 1), nn.BatchNorm3d(out), nn.SiLU())

    sizes = nn.MaxPool3d(2), nn.Upsample(scale_factor=2), nn.AvgPool3d(2)
    pads = nn.ReplicationPad3d(1), nn.ReflectionPad3d(1)
    up = nn.Upsample(scale_factor=2, mode="trilinear")
    blocks = block(1, 16), *sizes, block(16, 32), *pads, block(32, 32), up, block(32, 32)
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 4))


class Chance(nn.Module):  # its reach equals its width by chance
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.reach = nn.Conv1d(16, 16, 3, dilation=16), 16

    def forward(self, x: Tensor) -> Tensor:
        gain = x.mean(-1).view(-1, x.shape[1], 1).expand(-1, x.shape[1], 1)
        return x * gain + self.conv(nn.functional.pad(x, (2 * self.reach, 0)))


def chances() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 16, 1), *[Chance() for _ in range(2)], nn.Conv1d(16, 2, 1))


class Averaged(nn.Module):  # a teacher that follows the student: neither loses a block alone
    def __init__(self) -> None:
        super().__init__()
        self.online, self.teacher = Base(), Base()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                pairs = zip(self.online.parameters(), self.teacher.parameters(), strict=True)
                for student, teacher in pairs:
                    teacher.data.lerp_(student.data, 0.1)
        return self.online(x) - self.teacher(x)


def one_output(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(conv(3, 16), nn.Flatten(), norm(nn.Linear(16 * 256, 1)))


class Halved(Base):  # cuts space in two, and stores a number that is twice a width
    def __init__(self) -> None:
        super().__init__()
        self.size = 32

    def features(self, x: Tensor) -> Tensor:
        one, other = super().features(x).chunk(2, 2)
        return F.interpolate(one - other, size=self.size)


class Frames(nn.Module):  # codes each frame, and gathers the codes in a tensor of its own
    def __init__(self, gather: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.enc, self.gather = nn.Sequential(conv(3, 16), conv(16, 16)), gather
        self.more, self.fc = nn.Conv3d(16, 16, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.gather([self.enc(x[:, time]) for time in range(x.shape[1])])
        return self.fc(self.more(seen).mean((2, 3, 4)))


def written(frames: list[Tensor]) -> Tensor:
    """Write each frame to its place."""
    b, c, h, w = frames[0].shape
    out = frames[0].new_zeros(b, len(frames), c, h, w)
    for time, frame in enumerate(frames):
        out[:, time] = frame
    return out.transpose(1, 2)


def padded(frames: list[Tensor]) -> Tensor:
    """Stack all frames, with a border around each."""
    return F.pad(torch.stack(frames, 2), (1, 1, 1, 1))


def bordered(net: Any, x: Tensor) -> Tensor:
    """Pad maps that a pixel shuffle laid out."""
    x = net.more(F.pad(F.pixel_shuffle(x, 2), (1, 1, 1, 1)))
    return Base.head(net, x)


def warped(net: Any, x: Tensor) -> Tensor:
    """Sample where a layer says."""
    grid = net.flow(x).permute(0, 2, 3, 1).tanh()
    return Base.head(net, F.grid_sample(x, grid, align_corners=False))


def turned(net: Any, x: Tensor) -> Tensor:
    """Convolve over channels and columns (triplet attention), with a norm."""
    y = x.permute(0, 2, 1, 3)
    gate = net.norm(net.over(torch.cat([y.amax(1, True), y.mean(1, True)], 1)))
    return Base.head(net, (y * gate.sigmoid()).permute(0, 2, 1, 3))


class KeepsGrids(Base):  # a plain list of tensors, as detectors have
    def __init__(self) -> None:
        super().__init__()
        self.grids = [torch.arange(2.0) for _ in range(2)]

    def head(self, x: Tensor) -> Any:
        b, c, h, w = x.shape
        return super().head(x.flatten(2).view(b, c, h, w))


class Cascade(Base):  # what each block puts out is an output of the network
    def __init__(self) -> None:
        super().__init__()
        self.body = None
        self.one, self.two, self.three = Block(16), Block(16), Block(16)

    def forward(self, x: Tensor) -> Any:
        first = self.one(self.stem(x))
        second = self.two(first)
        return {"first": first, "second": second, "last": self.three(second)}


class Planes(nn.Module):  # a shortcut only where two numbers agree
    def __init__(self, width: int, planes: int = 0) -> None:
        super().__init__()
        self.inplanes, self.planes = width, planes or width
        self.a, self.b = conv(width, width), conv(width, self.planes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        return y + x if self.inplanes == self.planes else y


class Stages(nn.Module):  # one list of all blocks; what ends a stage is put out, too
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = conv(3, 16), nn.Linear(32, 5)
        widths = [(16, 16), (16, 16), (16, 32), (32, 32), (32, 32)]
        self.blocks = nn.ModuleList(Planes(*pair) for pair in widths)
        for number, block in enumerate(self.blocks):
            block.starts = number == 2  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Any:
        x, seen = self.stem(x), []
        for block in self.blocks:
            if block.starts:
                seen.append(x)
            x = block(x)
        return [*seen, self.fc(x.mean((2, 3)))]


class Scaled(nn.Module):  # a layer whose inputs are scaled by its fan-in, and its holder's number
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.scale, self.gain = (2 / (width * 9)) ** 0.5, 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x * self.scale)


def parted(x: Tensor) -> Tensor:
    """Cut channels by operations that are told not to check views, and fill by a mask in place."""
    one, other = torch.unsafe_chunk(x, 2, 1)
    gate = one.sigmoid()
    return torch.cat([gate * other, one.masked_fill_(one < 0, 0.0)], 1)
