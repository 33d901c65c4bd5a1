"""Make batches of images, shuffled and augmented, on the device where the images live."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssr_exp.config import DatasetConf
from ssr_exp.datasets.images import Images

Batch = tuple[Tensor, Tensor]  # x: float32, b x c x h x w; y: as Images.labels, masks int64


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for each training image in each epoch."""

    crop_padding: int = 0  # pixels on each side before a random crop; 0: none
    flip: bool = False  # left to right, half of the time
    cutout: int = 0  # side of the erased square in pixels; 0: none

    @classmethod
    def from_conf(cls, conf: DatasetConf) -> Augmentation:
        """Take the fields of the same names."""
        return cls(crop_padding=conf.crop_padding, flip=conf.flip, cutout=conf.cutout)


class Batches:
    """Batches of normalised images, all made on the device where the images live.

    Without a `seed` the images come in their order. With one they are shuffled and augmented, and
    order and augmentation depend on the seed and the epoch alone: any epoch can be repeated.
    Shuffled batches all have the full size, unless there are fewer images than that.

    Args:
        images: on the device where the batches are wanted.
        mean: of each channel, in 0..1; subtracted.
        std: of each channel, in 0..1; divided by.
        batch_size: images.
        seed: of the order and the augmentation; None: neither.
        augmentation: None: none.
        channels_last: memory format of the batches.
        is_balanced: whether all classes are drawn alike, with replacement; with a seed alone.
    """

    def __init__(
        self,
        images: Images,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
        channels_last: bool = False,
        is_balanced: bool = False,
    ) -> None:
        device = images.pixels.device
        self._images = images
        self._scale = 1 / (255 * torch.tensor(std, device=device).view(1, -1, 1, 1))
        self._shift = -255 * torch.tensor(mean, device=device).view(1, -1, 1, 1) * self._scale
        self._batch_size = min(batch_size, len(images))
        self._seed = seed
        self._augmentation = augmentation or Augmentation()
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._weights = _weights(images.labels) if is_balanced else None
        self._epoch = 0

    batch_sampler = None  # Lightning asks for both

    @property
    def sampler(self) -> Batches:
        """The object whose `set_epoch` Lightning calls when an epoch starts: this one."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration serves, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole if self._seed is not None or not rest else whole + 1

    def __iter__(self) -> Iterator[Batch]:
        return self._in_order() if self._seed is None else self._shuffled(self._seed)

    def _in_order(self) -> Iterator[Batch]:
        for at in self._slices():
            yield self._normalised(self._images.pixels[at]), as_targets(self._images.labels[at])

    def _shuffled(self, seed: int) -> Iterator[Batch]:
        device = self._images.pixels.device
        draw = torch.Generator(device).manual_seed(_mixed(seed, self._epoch))
        count = len(self._images)
        if self._weights is None:
            order = torch.randperm(count, generator=draw, device=device)
        else:
            order = torch.multinomial(self._weights, count, replacement=True, generator=draw)
        for at in self._slices():
            index = order[at]
            yield self._augmented(self._images.pixels[index], self._images.labels[index], draw)

    def _slices(self) -> list[slice]:
        size = self._batch_size
        return [slice(i * size, (i + 1) * size) for i in range(len(self))]

    def _augmented(self, x: Tensor, y: Tensor, draw: torch.Generator) -> Batch:
        wanted, channels = self._augmentation, x.shape[1]
        if is_masks := y.dtype == torch.uint8:
            x = torch.cat([x, ~y[:, None]], 1)  # turned over, zeros beside an image are IGNORED
        if wanted.crop_padding:
            x = crop(x, wanted.crop_padding, draw)
        if wanted.flip:
            x = flip(x, draw)
        if is_masks:
            x, y = x[:, :channels], ~x[:, channels]
        x = self._normalised(x)
        return cutout(x, wanted.cutout, draw) if wanted.cutout else x, as_targets(y)

    def _normalised(self, x: Tensor) -> Tensor:
        return x.to(torch.float32, memory_format=self._format).mul_(self._scale).add_(self._shift)


def as_targets(y: Tensor) -> Tensor:
    """Turn masks that are kept as bytes into numbers of classes; others are targets already."""
    return y.long() if y.dtype == torch.uint8 else y


def _weights(labels: Tensor) -> Tensor:
    """Return weights by which all classes that there are, int64 `n`, are drawn alike."""
    return 1 / torch.bincount(labels).double()[labels]


def _mixed(seed: int, epoch: int) -> int:
    """Hash to 63 bits, so that seed 0 in epoch 1 has nothing of seed 1 in epoch 0."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:8], "big") >> 1


# Augmentation: each image has its own draw from a generator, so the same state of the generator
# gives the same batch.


def crop(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad each image with zeros, then cut a random window of the original size out of it.

    On pixels before normalisation this is torchvision's `RandomCrop(size, padding)`: the border
    is black, as in the CIFAR experiments of He et al. (2016, section 4.2).

    Args:
        x: `b x c x h x w`.
        padding: pixels added on each side; all `(2 padding + 1)^2` windows are equally likely.
        generator: source of the draws, where `x` is.
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
    centre is any pixel, so part of the square, of `side` pixels, may fall outside the image.
    """
    b, _, h, w = x.shape
    rows = _stripe(h, side, torch.randint(h, (b, 1), generator=generator, device=x.device))
    columns = _stripe(w, side, torch.randint(w, (b, 1), generator=generator, device=x.device))
    return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def _stripe(length: int, side: int, centre: Tensor) -> Tensor:
    """Mark, as `b x length`, the positions that a stripe around each `centre` (`b x 1`) covers."""
    offset = torch.arange(length, device=centre.device) - (centre - side // 2)
    return (offset >= 0) & (offset < side)
