"""Make batches of images, shuffled and augmented, on the device that trains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ssr_exp.datasets.augmentation import (
    Augmentation,
    erased,
    file_crop,
    image_transform,
    mixture,
    seeded,
    transformed,
)
from ssr_exp.datasets.image_folder.file_pixels import BadFile, Box, FilePixels
from ssr_exp.datasets.images import Images, Indices
from ssr_exp.datasets.share import ALONE, Rows, Share
from ssr_exp.datasets.workers import Workers
from ssr_exp.errors import SsrError

# x: float32, b x c x h x w; y: as Images.labels, masks int64, mixed classes float32, b x classes
Batch = tuple[Tensor, Tensor]
Task = tuple[Indices, int | None]  # positions of the images of a batch, and its seed, if it has one


class Batches:
    """Batches of normalised images, made on the device that trains.

    Without a `seed` the images come in their order. With one they are shuffled and augmented, and
    order and augmentation depend on the seed and the epoch alone: any epoch can be repeated.
    Shuffled batches all have the full size, unless there are fewer images than that.
    torchvision's transforms take one image at a time, so they run on the CPU, and so does reading
    image files: in processes beside the training if there are `workers`. How many there are, and
    whether images are read or in memory, changes no batch.
    Where several processes share the batches, each makes its rows of them, which together are the
    batch of one process alone; only torchvision's transforms draw other numbers then. In order,
    all have as many batches, and one without an image of a batch has an image without a target.

    Args:
        images: moved to `device` once, unless torchvision transforms them or files are read.
        mean: of each channel, in 0..1; subtracted.
        std: of each channel, in 0..1; divided by.
        batch_size: images, of all processes together.
        seed: of the order and the augmentation; None: neither.
        augmentation: None: none.
        channels_last: memory format of the batches.
        is_balanced: whether all classes are drawn alike, with replacement; with a seed alone.
        device: where the batches are wanted; None: where the images are.
        workers: processes that read files and run torchvision's transforms; 0: this one does.
        share: what of each batch is this process's.
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
        device: torch.device | None = None,
        workers: int = 0,
        share: Share = ALONE,
    ) -> None:
        wanted = augmentation or Augmentation()
        self._device = device = images.pixels.device if device is None else device
        self._transform = image_transform(wanted, (images.pixels.shape[2], images.pixels.shape[3]))
        self._mixture = mixture(wanted, len(images.classes))
        self._batch_size = min(batch_size, len(images))
        self._share = share
        # Images are mixed with the one before them, which may be another process's.
        self._before = int(self._mixture is not None and share.world > 1)
        self._rows = share.rows(self._batch_size, self._before)  # of shuffled batches
        # Where all is drawn: where the images are moved, or would be if they were in memory.
        self._drawn_on = device if self._transform is None else torch.device("cpu")
        self._workers: Workers | None = None
        if isinstance(images.pixels, FilePixels) or self._transform is not None:
            self._images = images.to(torch.device("cpu"))
            self._workers = Workers(
                Fetched(self._images, wanted, self._rows), workers, pins=device.type == "cuda"
            )
        else:
            self._images = images.to(device)
        if wanted.crops_files and not isinstance(images.pixels, FilePixels):
            raise SsrError("dataset.crop_from=file needs the files: type dataset.stream=true")
        self._scale = 1 / (255 * torch.tensor(std, device=device).view(1, -1, 1, 1))
        self._shift = -255 * torch.tensor(mean, device=device).view(1, -1, 1, 1) * self._scale
        self._seed = seed
        self._augmentation = wanted
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._weights = _weights(images.labels, self._drawn_on) if is_balanced else None
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

    def close(self) -> None:
        """End the workers."""
        if self._workers is not None:
            self._workers.close()

    def _in_order(self) -> Iterator[Batch]:
        for x, y in self._fetched(None, None):
            yield self._normalised(x), as_targets(y)

    def _shuffled(self, seed: int) -> Iterator[Batch]:
        draw = torch.Generator(self._drawn_on).manual_seed(_mixed(seed, self._epoch))
        count = len(self._images)
        if self._weights is None:
            order = torch.randperm(count, generator=draw, device=self._drawn_on)
        else:
            order = torch.multinomial(self._weights, count, replacement=True, generator=draw)
        by_image = self._transform is not None
        for number, (x, y) in enumerate(self._fetched(order, seed)):
            if not by_image:
                x, y = moved(x, y, self._augmentation, draw, self._rows)
            x, side = self._normalised(x), self._augmentation.cutout
            if side and by_image:
                hashed = _mixed(seed, self._epoch, number, "cutout")
                draw = torch.Generator(self._device).manual_seed(hashed)
            x = cutout(x, side, draw, self._rows) if side else x
            if chance := self._augmentation.erasing:
                x = erased(x, chance, _mixed(seed, self._epoch, number, "erasing"), self._rows)
            if self._mixture is not None:
                with seeded(_mixed(seed, self._epoch, number, "mixture")):
                    x, y = self._mixture(x, y)
                x, y = x[self._before :], y[self._before :]
                x = x.contiguous(memory_format=self._format)
            yield x, as_targets(y)

    def _fetched(self, order: Tensor | None, seed: int | None) -> Iterator[Batch]:
        """Fetch the images of each batch: from where they live, or by workers; None: in order."""
        pixels, labels = self._images.pixels, self._images.labels
        if self._workers is None:
            for number in range(len(self)):
                at, count = self._own(number, order)
                yield pixels[at], labels[at][:count]
            return
        index = torch.arange(len(self._images)) if order is None else order.cpu()
        parts = [self._own(number, None if order is None else index) for number in range(len(self))]
        tasks = [
            (
                (index[at] if isinstance(at, slice) else at).numpy(),
                None if seed is None else _mixed(seed, self._epoch, number),
            )
            for number, (at, _) in enumerate(parts)
        ]
        for (x, y, faults), (_, count) in zip(self._workers.serve(tasks), parts, strict=True):
            if isinstance(pixels, FilePixels):
                pixels.note(faults)
            y = y[:count]
            yield x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)

    def _own(self, number: int, order: Tensor | None) -> tuple[slice | Tensor, int]:
        """Say where this process's images of a batch are, and how many of them have a target.

        In order there is one at least, because all processes need a batch.
        """
        start = number * self._batch_size
        if order is not None:
            return self._rows.take(order[start : start + self._batch_size]), len(self._images)
        rows = self._share.rows(min(self._batch_size, len(self._images) - start))
        stop = max(rows.stop, rows.start + 1)
        return slice(start + rows.start, start + stop), rows.stop - rows.start

    def _normalised(self, x: Tensor) -> Tensor:
        return x.to(torch.float32, memory_format=self._format).mul_(self._scale).add_(self._shift)


class Fetched(Dataset[tuple[Tensor, Tensor, list[BadFile]]]):
    """Batches by their positions and a seed, on the CPU, and which files were bad.

    Args:
        images: on the CPU, or files.
        augmentation: of which crops and flips come first; where torchvision has nothing to do, the
            batch is augmented elsewhere.
        rows: which of a whole batch with a seed the positions are of; None: all.
    """

    def __init__(
        self, images: Images, augmentation: Augmentation, rows: Rows | None = None
    ) -> None:
        self._images = images
        self._augmentation = augmentation
        self._rows = rows

    def __getitem__(self, task: Task) -> tuple[Tensor, Tensor, list[BadFile]]:
        index, seed = torch.from_numpy(task[0]), task[1]
        pixels, y, faults = self._images.pixels, self._images.labels[index], list[BadFile]()
        if isinstance(pixels, FilePixels):
            crop = None
            if seed is not None and self._augmentation.crops_files:
                crop = partial(self._crop, seed)
            x, faults = pixels.read(index, crop)
        else:
            x = pixels[index]
        transform = image_transform(self._augmentation, (x.shape[2], x.shape[3]))
        if seed is None or transform is None:
            return x, y, faults
        draw = torch.Generator().manual_seed(seed)
        x, y = moved(x, y, self._augmentation, draw, self._rows)
        if self._rows is None or self._rows.is_all:
            return *transformed(x, y, transform, _mixed(seed, "images")), faults
        places = [_mixed(seed, "image", self._rows.place(n)) for n in range(len(x))]
        parts = [transformed(x[[n]], y[[n]], transform, own) for n, own in enumerate(places)]
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]), faults

    def _crop(self, seed: int, place: int, h: int, w: int) -> Box:
        """Draw for each place by itself: a file that is replaced changes no other image."""
        place = place if self._rows is None else self._rows.place(place)
        return file_crop(self._augmentation, h, w, _mixed(seed, "crops", place))


def as_targets(y: Tensor) -> Tensor:
    """Turn masks that are kept as bytes into numbers of classes; others are targets already."""
    return y.long() if y.dtype == torch.uint8 else y


def _weights(labels: Tensor, device: torch.device) -> Tensor:
    """Return weights by which all classes that there are, int64 `n`, are drawn alike on a device.

    In double precision, which Apple's GPUs do not have.
    """
    weights = 1 / torch.bincount(labels).double()[labels]
    return weights.to(device, torch.float32 if device.type == "mps" else torch.float64)


def _mixed(*parts: int | str) -> int:
    """Hash a seed, an epoch and more to 63 bits: seed 0 in epoch 1 has nothing of 1 in epoch 0."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


# Augmentation: each image has its own draw from a generator, so the same state of the generator
# gives the same batch. Numbers are drawn for all images of a batch, also where `x` holds but some
# `rows` of it; None: it is whole.


def moved(
    x: Tensor, y: Tensor, wanted: Augmentation, draw: torch.Generator, rows: Rows | None = None
) -> Batch:
    """Crop and flip images of bytes, and their masks where `y` is some."""
    channels = x.shape[1]
    if is_masks := y.dtype == torch.uint8:
        x = torch.cat([x, ~y[:, None]], 1)  # turned over, zeros beside an image are IGNORED
    if wanted.crop_padding:
        x = crop(x, wanted.crop_padding, draw, rows)
    if wanted.flip:
        x = flip(x, draw, rows)
    if wanted.vertical_flip:
        x = flip(x, draw, rows, dim=-2)
    return (x[:, :channels], ~x[:, channels]) if is_masks else (x, y)


def _all(x: Tensor) -> Rows:
    return Rows(0, len(x), len(x))


def crop(x: Tensor, padding: int, generator: torch.Generator, rows: Rows | None = None) -> Tensor:
    """Pad each image with zeros, then cut a random window of the original size out of it.

    On pixels before normalisation this is torchvision's `RandomCrop(size, padding)`: the border
    is black, as in the CIFAR experiments of He et al. (2016, section 4.2).

    Args:
        x: `b x c x h x w`.
        padding: pixels added on each side; all `(2 padding + 1)^2` windows are equally likely.
        generator: source of the draws, where `x` is.
        rows: that `x` holds of a batch; None: all.
    """
    (b, _, h, w), rows = x.shape, rows or _all(x)
    most = 2 * padding + 1
    corners = torch.randint(most, (2, rows.count), generator=generator, device=x.device)
    top, left = rows.take(corners, 1)
    windows = F.pad(x, [padding] * 4).unfold(2, h, 1).unfold(3, w, 1)
    return windows[torch.arange(b, device=x.device), :, top, left]


def flip(
    x: Tensor, generator: torch.Generator, rows: Rows | None = None, *, dim: int = -1
) -> Tensor:
    """Mirror each image with probability one half: left to right, or along another `dim`."""
    rows = rows or _all(x)
    coin = torch.rand(rows.count, 1, 1, 1, generator=generator, device=x.device)
    return torch.where(rows.take(coin) < 0.5, x.flip(dim), x)


def cutout(x: Tensor, side: int, generator: torch.Generator, rows: Rows | None = None) -> Tensor:
    """Set one square of each image to zero.

    On normalised images zero is the mean colour, as in DeVries and Taylor (2017). The square's
    centre is any pixel, so part of the square, of `side` pixels, may fall outside the image.
    """
    rows, stripes = rows or _all(x), []
    for length in x.shape[2:]:
        shape = (rows.count, 1)
        centre = torch.randint(length, shape, generator=generator, device=x.device)
        stripes.append(_stripe(length, side, rows.take(centre)))
    high, wide = stripes
    return x.masked_fill(high[:, None, :, None] & wide[:, None, None, :], 0)


def _stripe(length: int, side: int, centre: Tensor) -> Tensor:
    """Mark, as `b x length`, the positions that a stripe around each `centre` (`b x 1`) covers."""
    offset = torch.arange(length, device=centre.device) - (centre - side // 2)
    return (offset >= 0) & (offset < side)
