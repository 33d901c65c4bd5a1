"""Blocks that read, or pass on, more than one map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks.blocks import Residual
from tests.random_networks.layers import Style, wide

POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


class Timed(Residual):
    """Reads an embedding beside the map (diffusion)."""

    timed = True

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.embed = nn.Linear(12, 2 * out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.embed(F.silu(t)).chunk(2, 1)
        y = self.one(x)
        y = self.norm(y) * (1 + wide(scale, y)) + wide(shift, y)
        return self.skip(x) + self.other(F.silu(y))


class Shifted(Timed):
    """Adds the embedding to the map."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.embed = nn.Linear(12, out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.one(x)
        y = y + wide(self.embed(t), y)
        return self.skip(x) + self.norm(self.other(y))


class Unpooled(Residual):
    """SegNet: what is pooled goes back to where it was the largest."""

    def inner(self, x: Tensor) -> Tensor:
        y, dims = super().inner(x), x.ndim - 2
        small, places = POOL[dims](y, 2, return_indices=True)
        return UNPOOL[dims](small * 0.5, places, 2, output_size=y.shape[2:])


class Multihead(nn.Module):
    """PyTorch's own module of attention, on tokens."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__()
        self.conv = style.unit(inp, out)
        self.attention = nn.MultiheadAttention(out, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        tokens = y.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return tokens.transpose(1, 2).reshape(y.shape)


class Codebook(Residual):
    """VQ-VAE: each pixel is replaced by the nearest of some vectors."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.codes = nn.Embedding(8, out)

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x).movedim(1, -1)
        flat = y.reshape(-1, y.shape[-1])
        nearest = torch.cdist(flat, self.codes.weight).argmin(1)
        coded = self.codes(nearest).view(y.shape)
        return (y + (coded - y).detach() + 0.1 * coded).movedim(-1, 1)


class Hyper(Residual):
    """A small network computes the gains of the block from a learnt vector."""

    def __init__(self, style: Style, inp: int, out: int) -> None:
        super().__init__(style, inp, out)
        self.code = nn.Parameter(torch.randn(1, 6))
        self.gains = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2 * out))

    def inner(self, x: Tensor) -> Tensor:
        y = super().inner(x)
        gain, bias = self.gains(self.code).chunk(2, 1)
        return y * wide(gain, y) + wide(bias, y)


CONDITIONED: dict[str, type[nn.Module]] = {
    "timed": Timed,
    "shifted": Shifted,
    "unpooled": Unpooled,
    "multihead": Multihead,
    "codebook": Codebook,
    "hyper": Hyper,
}
