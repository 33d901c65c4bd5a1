"""What is learnt of image files in one pass over them, where no memory holds them all.

It is what a tensor of all of them would say: the same digest, hashes, statistics and contents.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssr_exp import terminal
from ssr_exp.datasets.contents import Contents, Counting
from ssr_exp.datasets.image_folder.decoding import ImageReader, changed, learn
from ssr_exp.datasets.image_folder.file_index import FileNames
from ssr_exp.datasets.images import hashed, histogram
from ssr_exp.datasets.preprocessing import Opened, Preprocessing
from ssr_exp.errors import in_one_line, one_line

log = logging.getLogger(__name__)

MOST_THREADS = 32
CHUNK, CHUNK_BYTES = 256, 2**24  # images that a thread decodes at a time, and their pixels


@dataclass(frozen=True)
class Survey:
    """What one pass found of the `n` images that it could read.

    Pixels are counted in groups, so that those of a part are known, and of several together.
    """

    preprocessing: Preprocessing  # how they become pixels; without mean and standard deviation
    digest: str  # `images.digest` of a tensor of all
    hashes: Tensor  # int64, `n`, of the pixels of each
    contents: Contents
    members: Tensor  # uint8, `n`: the group of each
    counts: Tensor  # int64, `groups x c x 256`: the `histogram` of each group
    left_out: tuple[int, ...] = ()  # positions of files that are none of the `n`

    def regrouped(self, members: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        """Count other groups: of each its `histogram`, int64 `groups x c x 256`.

        Args:
            members: uint8, `n`, the group of each, from 0.
            read: see `histogram`.
        """
        groups = range(int(members.max()) + 1)
        index = ((members == group).nonzero().flatten() for group in groups)
        return torch.stack([self.histogram(some, read) for some in index])

    def histogram(self, index: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        """Count the 256 values in each channel of some images: int64, `c x 256`.

        Of a group that is asked for in part, the smaller part is read once more.

        Args:
            index: positions, int64.
            read: returns the pixels at positions, `b x c x h x w`.
        """
        asked = torch.zeros(len(self.members), dtype=torch.bool)
        asked[index] = True
        total = torch.zeros_like(self.counts[0])
        for group, counts in enumerate(self.counts):
            inside = self.members == group
            some, others = (inside & asked).nonzero(), (inside & ~asked).nonzero()
            if len(some) < len(others):
                total += _counted(some.flatten(), read, like=counts)
            else:
                total += counts - _counted(others.flatten(), read, like=counts)
        return total


def _counted(index: Tensor, read: Callable[[Tensor], Tensor], *, like: Tensor) -> Tensor:
    total = torch.zeros_like(like)
    for some in index.split(CHUNK) if len(index) else ():
        total += histogram(read(some))
    return total


@in_one_line()
def survey(
    root: Path, files: FileNames, how: Preprocessing, members: Tensor, allowed: int = 0
) -> Survey:
    """Read all images once, and once more where it turns out that they are to be read otherwise.

    That is where some files are left out, or the depth or white of others was not the usual one.

    Args:
        root: folder that the paths start from.
        files: of images.
        how: see `decoding.decode`.
        members: uint8, the group of each, from 0.
        allowed: how many files may be no readable images, and are left out.

    Raises:
        SsrError: as `decoding.decode` does.
    """
    log.info("looking at %d images of %s", len(files), one_line(str(root)))
    start = time.monotonic()
    looked = _Pass(ImageReader(root, files, how, allowed), how, members)
    if left_out := looked.reader.left_out():
        stays = np.setdiff1d(np.arange(len(files)), left_out)
        files, members = FileNames.of(files[int(i)] for i in stays), members[stays]
        looked = _Pass(ImageReader(root, files, how, 0), how, members)
    learnt = learn(how, looked.odd, looked.reader)
    if changed(how, learnt, looked.odd):
        looked = _Pass(looked.reader, learnt, members)
    log.info("looked at %d images in %.1f s", len(files), time.monotonic() - start)
    return looked.survey(learnt, left_out)


class _Pass:
    """One look at all images, in their order."""

    def __init__(self, reader: ImageReader, how: Preprocessing, members: Tensor) -> None:
        self.reader, self._how, self._members = reader, how, members
        self._count = len(reader.files)
        self._hashes = np.zeros(self._count, np.int64)
        self._counts = torch.zeros((int(members.max()) + 1, 3, 256), dtype=torch.int64)
        self.odd: dict[int, Opened] = {}  # images of more than 8 bits, by position
        self._is_grey, self._counting = True, Counting()
        shapes = ((self._count, channels, reader.h, reader.w) for channels in (1, 3))
        self._digests = [hashlib.sha256(str(shape).encode()) for shape in shapes]
        self._look()

    def _look(self) -> None:
        size = max(1, min(CHUNK, CHUNK_BYTES // (3 * self.reader.h * self.reader.w)))
        count = min(MOST_THREADS, os.cpu_count() or 1)
        chunks = [range(i, min(i + size, self._count)) for i in range(0, self._count, size)]
        with ThreadPoolExecutor(count) as threads:
            done = _in_order(threads, self._decoded, chunks, ahead=2 * count)
            shown = terminal.progress(chunks, f"looking at images by {size}")
            for _, chunk in zip(shown, done, strict=True):
                self._take(*chunk)
        self.reader.check()

    def _decoded(self, index: range) -> tuple[Tensor, Tensor, dict[int, Opened]]:
        """Decode some images, `b x 3 x h x w`, count their pixels, and say what files hold."""
        pixels = torch.empty((len(index), 3, self.reader.h, self.reader.w), dtype=torch.uint8)
        opened: dict[int, Opened] = {}
        for i in index:
            if (pair := self.reader.read(i, self._how)) is not None:
                pixels.numpy()[len(opened)] = pair[0].transpose(2, 0, 1)
                self._hashes[i], opened[i] = hashed(pair[0]), pair[1]
        pixels, counts = pixels[: len(opened)], torch.zeros_like(self._counts)
        groups = self._members[[*opened]]
        for group in groups.unique().tolist():
            counts[group] += histogram(pixels[groups == group])
        return pixels, counts, opened

    def _take(self, pixels: Tensor, counts: Tensor, opened: dict[int, Opened]) -> None:
        """Add what was decoded, in the order of the images."""
        self._counts += counts
        self._counting.add([*opened.values()], pixels)
        self._is_grey = self._is_grey and all(one.is_grey for one in opened.values())
        self.odd |= {i: one for i, one in opened.items() if one.is_deep or one.is_float}
        for channels, sha in zip((1, 3), self._digests, strict=True):
            if self._is_grey or channels == 3:
                sha.update(pixels[:, :channels].contiguous().numpy().data)

    def survey(self, how: Preprocessing, left_out: tuple[int, ...]) -> Survey:
        """Put together what was seen."""
        channels = 1 if self._is_grey else 3
        return Survey(
            replace(how, channels=channels, size=(self.reader.h, self.reader.w)),
            self._digests[0 if self._is_grey else 1].hexdigest(),
            torch.from_numpy(self._hashes),
            self._counting.contents(),
            self._members,
            self._counts[:, :channels].contiguous(),
            left_out,
        )


def _in_order(
    threads: ThreadPoolExecutor, work: Callable[[Any], Any], items: Sequence[Any], *, ahead: int
) -> Iterator[Any]:
    """Work on items in threads, and yield in their order; so many at most wait to be taken."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(threads.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
