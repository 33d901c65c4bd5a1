"""What a data set is once it was read: pixels and labels."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssr_exp.datasets import preprocessing
from ssr_exp.datasets.image_folder.file_index import FileIndex
from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import ImageOrigin, Reading

Indices = NDArray[np.int64]  # positions of images, ascending
IGNORED = 255  # in masks: pixels that are neither learnt nor measured


class Target(StrEnum):
    """What is said of an image."""

    one_class = "one class"  # int64, `n`, positions in `classes`
    labels = "labels"  # float32, `n x len(classes)`, 1 where a label holds and 0 else
    numbers = "numbers"  # float32, `n x len(classes)`
    masks = "masks"  # uint8, `n x h x w`, positions in `classes`, or `IGNORED`


@dataclass(frozen=True)
class Images:
    """Images of one size, and what is said of each."""

    # uint8, `n x c x h x w`, `c` 1 (grey) or 3 (RGB); what is no tensor decodes what is indexed
    pixels: Tensor | FilePixels
    labels: Tensor  # as `target` says
    classes: tuple[str, ...]  # the names of classes, labels or numbers; of masks at most 255
    # of each image; none for data sets that have no image files
    files: tuple[Path, ...] | FileIndex = ()
    target: Target = Target.one_class

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Indices) -> Images:
        """Keep the images at `index`; a contiguous range shares memory with this object."""
        start, stop = int(index[0]), int(index[-1]) + 1
        if stop - start == len(index):
            at: Any = slice(start, stop)
        else:
            at = torch.from_numpy(index)
        if isinstance(self.files, FileIndex):
            files: tuple[Path, ...] | FileIndex = self.files[at]
        else:
            files = tuple(self.files[i] for i in index) if self.files else ()
        pixels = self.pixels
        pixels = pixels.subset(at) if isinstance(pixels, FilePixels) else pixels[at]
        return replace(self, pixels=pixels, labels=self.labels[at], files=files)

    def to(self, device: torch.device) -> Images:
        """Move to a device what is in memory; on the same device nothing is copied."""
        pixels = self.pixels if isinstance(self.pixels, FilePixels) else self.pixels.to(device)
        return replace(self, pixels=pixels, labels=self.labels.to(device))


@dataclass(frozen=True)
class Pool:
    """All images of a data set, and the split that it came with."""

    images: Images
    digest: str  # `digest` of their pixels
    train: Indices  # may be trained on or held out as `val`
    val: Indices | None  # came as val; None: split them off `train`
    test: Indices | None  # came as test; None: there are none
    preprocessing: Preprocessing  # how they became pixels; without mean and standard deviation
    hashes: NDArray[np.int64]  # `n`, of the pixels of each: equal where these are
    origin: ImageOrigin
    groups: NDArray[np.int64] | None = None  # `n`: equal where images stay together in a split
    # The `histogram` of pixels at positions, where no memory holds them all; None: it does.
    count: Callable[[Indices], Tensor] | None = None


@dataclass(frozen=True)
class Splits:
    """A data set, ready to be trained on.

    Attributes:
        name: as in the configuration.
        train: images to learn from.
        val: images that search sees, never part of `train` or `test`; None: learnt from, too.
        test: images to look at once, or None.
        mean: of each channel of `train`'s pixels, in 0..1.
        std: likewise the standard deviation; 1 for a channel that never changes.
        fingerprint: hex hash of pixels, labels, classes and the split; the same wherever and
            under whatever file names the images lie.
        preprocessing: how an image file becomes what the network takes.
        reading: what was read, to be said on screen and kept with the study.
    """

    name: str
    train: Images
    val: Images | None
    test: Images | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    preprocessing: Preprocessing
    reading: Reading

    @property
    def num_classes(self) -> int:
        """How many classes, labels or numbers there are: as many as a network puts out."""
        return len(self.train.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of classes, labels or numbers."""
        return self.train.classes

    @property
    def has_test(self) -> bool:
        """Whether there are test images."""
        return self.test is not None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image."""
        c, h, w = self.train.pixels.shape[1:]
        return c, h, w

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Splits:
        """Have images normalised by another mean and standard deviation of each channel."""
        how = replace(self.preprocessing, mean=mean, std=std)
        return replace(self, mean=mean, std=std, preprocessing=how)


def digest(pixels: Tensor) -> str:
    """Hash shape and content of a tensor of whole numbers on the CPU, in hex."""
    sha = hashlib.sha256(str(tuple(pixels.shape)).encode())
    sha.update(pixels.contiguous().numpy().data)
    return sha.hexdigest()


def hashed(image: NDArray[np.uint8]) -> int:
    """Hash the pixels of an image to 63 bits, to find doubles: two checksums, side by side.

    A cryptographic hash gives Python's lock away for every small image, and threads that decode
    then wait for each other.
    """
    content = np.ascontiguousarray(image).data
    return zlib.crc32(content) << 31 ^ zlib.adler32(content)


def fingerprint(pool: Pool, *, train: Indices, val: Indices | None) -> str:
    """Hash a data set and how it is split, in hex; see `Splits.fingerprint`."""
    sha = hashlib.sha256(json.dumps([pool.digest, pool.images.classes]).encode())
    empty = np.empty(0, dtype=np.int64)
    parts = [empty if part is None else part for part in (train, val, pool.test)]
    labels = pool.images.labels.numpy()
    for part in (labels, *parts):
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part.astype({"f": "<f8", "u": "u1"}.get(part.dtype.kind, "<i8")).data)
    return sha.hexdigest()


def histogram(pixels: Tensor) -> Tensor:
    """Count the 256 values in each channel of `n x c x h x w` pixels: int64, `c x 256`."""
    counts = [torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)]
    return torch.stack(counts)


def moments(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in 0..1, from its `histogram`.

    Counts are exact, so they are the same on any machine.
    """
    share = counts.double() / counts[0].sum()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std < 1e-6, torch.ones_like(std), std)
    return tuple(mean.tolist()), tuple(std.tolist())


def resize(pixels: Tensor, how: Preprocessing) -> Tensor:
    """Fit images, uint8, `n x c x h x w`, to the size of `how`, as files of them would be."""
    c = pixels.shape[1]
    fitted = []
    for array in pixels.permute(0, 2, 3, 1).contiguous().numpy():
        image = Image.fromarray(array[:, :, 0] if c == 1 else array)  # Pillow's grey is h x w
        fitted.append(np.array(preprocessing.fitted(image, how.size, how)))
    stacked = torch.from_numpy(np.stack(fitted)).reshape(-1, *how.size, c)
    return stacked.permute(0, 3, 1, 2).contiguous()
