"""Random crops, flips and erased squares, for a whole batch at once.

`x` is always `b x c x h x w`, of any dtype and on any device. Each image has its own draw, and
every draw comes from `generator`, which lives on the device of `x`: the same generator state
gives the same batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad each image with zeros, then cut a random window of the original size out of it.

    On pixels before normalisation this is torchvision's `RandomCrop(size, padding)`: the border
    is black, as in the CIFAR experiments of He et al. (2016, section 4.2).

    Args:
        x: `b x c x h x w`.
        padding: pixels added on each side; all `(2 padding + 1)^2` windows are equally likely.
        generator: source of the draws.
    """
    b, _, h, w = x.shape
    top, left = torch.randint(2 * padding + 1, (2, b), generator=generator, device=x.device)
    windows = F.pad(x, [padding] * 4).unfold(2, h, 1).unfold(3, w, 1)
    return windows[torch.arange(b, device=x.device), :, top, left]


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    coin = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
    return torch.where(coin < 0.5, x.flip(-1), x)


def cutout(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set one square of each image to zero.

    On normalised images zero is the mean colour, as in DeVries and Taylor (2017). The square's
    centre is any pixel, so part of the square may fall outside the image.

    Args:
        x: `b x c x h x w`.
        side: side of the square, in pixels.
        generator: source of the draws.
    """
    b, _, h, w = x.shape
    rows = _stripe(h, side, torch.randint(h, (b, 1), generator=generator, device=x.device))
    columns = _stripe(w, side, torch.randint(w, (b, 1), generator=generator, device=x.device))
    return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def _stripe(length: int, side: int, centre: Tensor) -> Tensor:
    """Mark, as `b x length`, the positions that a stripe around each `centre` (`b x 1`) covers."""
    offset = torch.arange(length, device=centre.device) - (centre - side // 2)
    return (offset >= 0) & (offset < side)
