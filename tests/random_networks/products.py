"""Blocks of more than plain layers: attention, computed weights, more than one map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import Refined
from tests.random_networks.layers import Part, Style, layer, named, space, wide


class NonLocal(Part):  # every pixel looks at every other; the inner width is stored
    def make(self, s: Style, inp: int, out: int) -> None:
        self.enter, self.inter = s.fit(inp, out), out // 2
        self.query, self.key, self.value = (s.conv(out, self.inter, 1) for _ in range(3))
        self.close = s.unit(self.inter, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, _, *size = x.shape
        query = self.query(x).view(batch, self.inter, -1).transpose(1, 2)
        key, value = (layer(x).view(batch, self.inter, -1) for layer in (self.key, self.value))
        looks = torch.matmul(query, key).softmax(-1)
        y = torch.matmul(looks, value.transpose(1, 2)).transpose(1, 2).contiguous()
        return x + self.close(y.view(batch, self.inter, *size))


class Heads(Part):  # attention of four heads on tokens, by one operation
    def make(self, s: Style, inp: int, out: int) -> None:
        self.enter, self.heads, self.width = s.fit(inp, out), 4, out // 4
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


class LinearAttention(Part):  # by einsum: channels look at channels
    def make(self, s: Style, inp: int, out: int) -> None:
        self.enter, few = s.fit(inp, out), out // 2
        self.qkv, self.close = s.conv(out, 3 * few, 1), s.conv(few, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        query, key, value = self.qkv(x).flatten(2).chunk(3, 1)
        context = torch.einsum("bdn,ben->bde", key.softmax(-1), value)
        y = torch.einsum("bde,bdn->ben", context, query.softmax(1))
        return x + self.close(y.unflatten(2, x.shape[2:]))


class ChannelAttention(Refined):  # channels attend to channels (DANet)
    def add(self, s: Style, out: int) -> None:
        self.beta = nn.Parameter(torch.zeros(1))

    def refine(self, y: Tensor) -> Tensor:
        flat = y.flatten(2)
        looks = torch.bmm(flat, flat.transpose(1, 2)).softmax(-1)
        return y + self.beta * torch.bmm(looks, flat).view(y.shape)


class Context(Refined):  # GCNet: one softmax over positions, one vector of context
    def add(self, s: Style, out: int) -> None:
        self.mask, self.transform = s.layer("Conv")(out, 1, 1), nn.Linear(out, out)

    def refine(self, y: Tensor) -> Tensor:
        mask = self.mask(y).flatten(2).softmax(-1)
        context = torch.matmul(y.flatten(2), mask.transpose(1, 2)).squeeze(-1)
        return y + wide(self.transform(context), y)


class Standardised(Part):  # a convolution whose weight is standardised at each run
    def make(self, s: Style, inp: int, out: int) -> None:
        self.run, self.norm = s.layer("conv"), s.normed(out)
        self.weight = nn.Parameter(torch.randn(out, inp, *[3] * s.dims) / 8)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        inside = tuple(range(1, self.weight.ndim))
        weight = self.weight - self.weight.mean(inside, keepdim=True)
        weight = weight / (weight.std(inside, keepdim=True) + 1e-3)
        return F.relu(self.norm(self.run(x, weight, self.bias, padding=1)))


class LowRank(Part):  # a 1x1 convolution whose weight is a product of two parameters
    def make(self, s: Style, inp: int, out: int) -> None:
        self.conv = s.unit(inp, out)
        self.u = nn.Parameter(torch.randn(out, 4) / 2)
        self.v = nn.Parameter(torch.randn(4, out) / 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).movedim(1, -1)
        return F.relu(F.linear(y, self.u @ self.v)).movedim(-1, 1)


class Mixture(Part):  # a gated sum of two weights (re-parametrised blocks)
    def make(self, s: Style, inp: int, out: int) -> None:
        self.run, self.norm = s.layer("conv"), s.normed(out)
        self.one = nn.Parameter(torch.randn(out, inp, *[3] * s.dims) / 8)
        self.other = nn.Parameter(torch.randn(out, inp, *[1] * s.dims) / 4)
        self.gate, self.bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.gate.softmax(0)
        weight = first * self.one + second * F.pad(self.other, [1, 1] * (x.ndim - 2))
        return F.relu(self.norm(self.run(x, weight, self.bias, padding=1)))


class Conditional(Part):  # a depthwise kernel that the map itself computes (dynamic filters)
    def make(self, s: Style, inp: int, out: int) -> None:
        self.unit, self.kernel = s.unit(inp, out), nn.Linear(out, out * 3)
        self.close = s.conv(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.unit(x)
        batch, channels, *size = x.shape
        kernel = self.kernel(x.mean(space(x))).view(batch * channels, 1, 3)
        rows = x.reshape(1, batch * channels, -1)
        y = F.conv1d(rows, kernel, padding=1, groups=batch * channels)
        return x + self.close(y.view(batch, channels, *size))


class Timed(Refined):  # reads an embedding beside the map (diffusion)
    timed = True

    def add(self, s: Style, out: int) -> None:
        self.embed = nn.Linear(12, 2 * out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.embed(F.silu(t)).chunk(2, 1)
        y = self.one(x)
        y = self.norm(y) * (1 + wide(scale, y)) + wide(shift, y)
        return self.skip(x) + self.other(F.silu(y))


class Shifted(Timed):  # adds the embedding to the map
    def add(self, s: Style, out: int) -> None:
        self.embed = nn.Linear(12, out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.one(x)
        y = y + wide(self.embed(t), y)
        return self.skip(x) + self.norm(self.other(y))


class Unpooled(Refined):  # SegNet: what is pooled goes back to where it was the largest
    def refine(self, y: Tensor) -> Tensor:
        dims = y.ndim - 2
        small, places = layer("max_pool", dims)(y, 2, return_indices=True)
        return layer("max_unpool", dims)(small * 0.5, places, 2, output_size=y.shape[2:])


class Multihead(Part):  # PyTorch's own module of attention, on tokens
    def make(self, s: Style, inp: int, out: int) -> None:
        self.conv = s.unit(inp, out)
        self.attention = nn.MultiheadAttention(out, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        tokens = y.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return tokens.transpose(1, 2).reshape(y.shape)


class Codebook(Refined):  # VQ-VAE: each pixel is replaced by the nearest of some vectors
    def add(self, s: Style, out: int) -> None:
        self.codes = nn.Embedding(8, out)

    def refine(self, y: Tensor) -> Tensor:
        y = y.movedim(1, -1)
        nearest = torch.cdist(y.reshape(-1, y.shape[-1]), self.codes.weight).argmin(1)
        coded = self.codes(nearest).view(y.shape)
        return (y + (coded - y).detach() + 0.1 * coded).movedim(-1, 1)


class Hyper(Refined):  # a small network computes the gains of the block from a learnt vector
    def add(self, s: Style, out: int) -> None:
        self.code = nn.Parameter(torch.randn(1, 6))
        self.gains = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2 * out))

    def refine(self, y: Tensor) -> Tensor:
        gain, bias = self.gains(self.code).chunk(2, 1)
        return y * wide(gain, y) + wide(bias, y)


PRODUCTS = {
    **named(NonLocal, Heads, LinearAttention, ChannelAttention, Context, Standardised, LowRank),
    **named(Mixture, Conditional, Timed, Shifted, Unpooled, Multihead, Codebook, Hyper),
}
