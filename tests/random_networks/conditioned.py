"""Blocks that read, or pass on, more than one map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import Refined
from tests.random_networks.layers import Part, Style, layer, named, wide


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


CONDITIONED = named(Timed, Shifted, Unpooled, Multihead, Codebook, Hyper)
