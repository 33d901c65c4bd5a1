"""Blocks whose products are not plain layers: attention, and weights that are computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import Residual
from tests.random_networks.layers import CONVS, Style, space, wide

FUNCTIONAL = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class NonLocal(nn.Module):
    """Every pixel looks at every other; the inner width is stored."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Identity() if inp == out else style.conv(inp, out, 1)
        self.inter = out // 2
        self.query, self.key, self.value = (style.conv(out, self.inter, 1) for _ in range(3))
        self.close = style.unit(self.inter, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, _, *size = x.shape
        query = self.query(x).view(batch, self.inter, -1).transpose(1, 2)
        key, value = (layer(x).view(batch, self.inter, -1) for layer in (self.key, self.value))
        looks = torch.matmul(query, key).softmax(-1)
        y = torch.matmul(looks, value.transpose(1, 2)).transpose(1, 2).contiguous()
        return x + self.close(y.view(batch, self.inter, *size))


class Heads(nn.Module):
    """Attention of four heads on tokens, by one operation."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Identity() if inp == out else style.conv(inp, out, 1)
        self.heads, self.width = 4, out // 4
        self.norm, self.qkv = nn.LayerNorm(out), nn.Linear(out, 3 * out)
        self.close = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        batch, count, channels = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, self.width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        y = self.close(y.reshape(batch, count, channels)).transpose(1, 2)
        return x + y.reshape(x.shape)


class Linear(nn.Module):
    """Linear attention by einsum: channels look at channels."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Identity() if inp == out else style.conv(inp, out, 1)
        self.qkv, self.close = style.conv(out, 3 * (out // 2), 1), style.conv(out // 2, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        query, key, value = self.qkv(x).flatten(2).chunk(3, 1)
        context = torch.einsum("bdn,ben->bde", key.softmax(-1), value)
        y = torch.einsum("bde,bdn->ben", context, query.softmax(1))
        return x + self.close(y.unflatten(2, x.shape[2:]))


class Channels(Residual):
    """Channels attend to channels (DANet)."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.beta = nn.Parameter(torch.zeros(1))

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        flat = y.flatten(2)
        looks = torch.bmm(flat, flat.transpose(1, 2)).softmax(-1)
        return y + self.beta * torch.bmm(looks, flat).view(y.shape)


class Context(Residual):
    """GCNet: one softmax over positions, one vector of context."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.mask, self.transform = CONVS[style.dims](out, 1, 1), nn.Linear(out, out)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        mask = self.mask(y).flatten(2).softmax(-1)
        context = torch.matmul(y.flatten(2), mask.transpose(1, 2)).squeeze(-1)
        return y + wide(self.transform(context), y)


class Standardised(nn.Module):
    """A convolution whose weight is standardised at each run."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.run, self.norm = FUNCTIONAL[style.dims], style.normed(out)
        self.weight = nn.Parameter(torch.randn(out, inp, *[3] * style.dims) / 8)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        inside = tuple(range(1, self.weight.ndim))
        weight = self.weight - self.weight.mean(inside, keepdim=True)
        weight = weight / (weight.std(inside, keepdim=True) + 1e-3)
        return F.relu(self.norm(self.run(x, weight, self.bias, padding=1)))


class LowRank(nn.Module):
    """A 1x1 convolution whose weight is a product of two parameters."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.conv = style.unit(inp, out)
        self.u = nn.Parameter(torch.randn(out, 4) / 2)
        self.v = nn.Parameter(torch.randn(4, out) / 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).movedim(1, -1)
        return F.relu(F.linear(y, self.u @ self.v)).movedim(-1, 1)


class Mixture(nn.Module):
    """A weight that is a sum of two, weighted by a gate of its own (re-parametrised blocks)."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.run, kernel = FUNCTIONAL[style.dims], [3] * style.dims
        self.one = nn.Parameter(torch.randn(out, inp, *kernel) / 8)
        self.other = nn.Parameter(torch.randn(out, inp, *[1] * style.dims) / 4)
        self.gate, self.bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(out))
        self.norm = style.normed(out)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.gate.softmax(0)
        padded = F.pad(self.other, [1, 1] * (x.ndim - 2))
        weight = first * self.one + second * padded
        return F.relu(self.norm(self.run(x, weight, self.bias, padding=1)))


class Conditional(nn.Module):
    """A depthwise kernel that the map itself computes (dynamic filters)."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.unit, self.kernel = style.unit(inp, out), nn.Linear(out, out * 3)
        self.close = style.conv(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.unit(x)
        batch, channels, *size = x.shape
        kernel = self.kernel(x.mean(space(x))).view(batch * channels, 1, 3)
        rows = x.reshape(1, batch * channels, -1)
        y = F.conv1d(rows, kernel, padding=1, groups=batch * channels)
        return x + self.close(y.view(batch, channels, *size))


PRODUCTS: dict[str, type[nn.Module]] = {
    "non_local": NonLocal,
    "heads": Heads,
    "linear_attention": Linear,
    "channel_attention": Channels,
    "context": Context,
    "standardised": Standardised,
    "low_rank": LowRank,
    "mixture": Mixture,
    "conditional": Conditional,
}
