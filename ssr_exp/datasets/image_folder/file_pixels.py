"""Pixels that are read from image files when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.datasets import preprocessing
from ssr_exp.datasets.image_folder.file_index import FileIndex
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError, cause, one_line

log = logging.getLogger(__name__)

Box = tuple[int, int, int, int]  # left, upper, right and lower edge in pixels
Crop = Callable[[int, int, int], Box]  # of an image: its place in the batch, height and width


class BadFile(NamedTuple):
    """A file that gave no pixels."""

    path: str
    why: str
    is_gone: bool  # the disk did not give it; else it is no image any more


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Pixels of image files, uint8 `n x c x h x w`, that are decoded where a tensor is indexed.

    A file that turned bad since all were first read ends the training. Where `allowed` lets it
    pass, the nearest file of its class that can be read stands in for it: the batch keeps its size
    and its labels, and what is drawn for its other images.
    """

    files: FileIndex
    labels: Tensor  # int64, `n`
    how: Preprocessing  # as it was learnt from all files
    allowed: int = 0  # how many files may turn bad
    left_out: int = 0  # how many were bad from the start
    # Those that did, in the process that trains: of all parts of the data set, why by their paths.
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> torch.Size:
        """Images, channels, height and width."""
        return torch.Size((len(self), self.how.channels, *self.how.size))

    @property
    def device(self) -> torch.device:
        """Where the pixels are that an index gives."""
        return torch.device("cpu")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int | slice | Tensor) -> Tensor:
        """Decode one image, `c x h x w`, or several.

        Raises:
            SsrError: names a file that cannot be read.
        """
        index = torch.arange(len(self))[at]
        pixels, faults = self.read(index.reshape(-1))
        self.note(faults)
        return pixels if index.ndim else pixels[0]

    def subset(self, at: slice | Tensor) -> FilePixels:
        """Keep some images; nothing is read."""
        return replace(self, files=self.files[at], labels=self.labels[at])

    def read(self, index: Tensor, crop: Crop | None = None) -> tuple[Tensor, list[BadFile]]:
        """Decode images, and say which files were bad; `note` has to be told of these.

        Args:
            index: positions, int64 `b`.
            crop: chooses the part of the file's own pixels that is scaled to the size; None: it is
                fitted as `how` says.
        """
        pixels = torch.zeros((len(index), *self.shape[1:]), dtype=torch.uint8)
        faults: list[BadFile] = []
        for place, position in enumerate(index.tolist()):
            image = self._image(position, place, crop, faults)
            if image is not None:
                pixels.numpy()[place] = image.transpose(2, 0, 1)
        return pixels, faults

    def note(self, faults: Sequence[BadFile]) -> None:
        """Log the files that turned bad, each once.

        Raises:
            SsrError: if one is gone, or more turned bad than is allowed.
        """
        for fault in faults:
            path = one_line(fault.path)
            if fault.is_gone:
                raise SsrError(
                    f"{path} cannot be read any more ({fault.why}): bring the disk or the file "
                    "back and repeat the command, which goes on after the last whole epoch"
                )
            is_new = fault.path not in self.faults
            self.faults[fault.path] = fault.why
            if len(self.faults) > self.allowed:
                needed = self.left_out + len(self.faults)
                raise SsrError(
                    f"{path} cannot be read as an image any more ({fault.why}): bring it back as "
                    f"it was, or type dataset.skip_corrupt={needed} (another file there "
                    "makes another study)"
                )
            if is_new:
                log.warning("%s is bad (%s): another of its class stands in", path, fault.why)

    def _image(
        self, position: int, place: int, crop: Crop | None, faults: list[BadFile]
    ) -> NDArray[np.uint8] | None:
        """Read an image, `h x w x c`, or the nearest one that stands in for it."""
        chosen = None if crop is None else lambda h, w: crop(place, h, w)
        for tried, at in enumerate(self._nearest(position)):
            path = self.files[at]
            try:
                return preprocessing.pixels(path, self.how, crop=chosen)
            except Exception as error:  # of a damaged file, Pillow may raise anything
                is_gone = isinstance(error, OSError) and error.errno is not None
                faults.append(BadFile(str(path), _why(error), is_gone))
                if is_gone or tried >= self.allowed:
                    return None
        faults.append(BadFile(str(path), "and no image of its class can", is_gone=True))
        return None

    def _nearest(self, position: int) -> Iterator[int]:
        """List the images of a class, that at `position` first and those that lie next to it."""
        yield position
        same = torch.nonzero(self.labels == self.labels[position]).flatten()
        yield from same[torch.argsort((same - position).abs(), stable=True)[1:]].tolist()


def _why(error: Any) -> str:
    return " ".join((str(error) or cause(error)).split())
