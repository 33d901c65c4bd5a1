"""Decode image files into one tensor, in parallel."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ssr_exp.datasets import contents, preprocessing
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.image_folder import value_ranges
from ssr_exp.datasets.images import hashed
from ssr_exp.datasets.preprocessing import Opened, Preprocessing
from ssr_exp.errors import SsrError, in_one_line, one_line

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

_CHUNK = 256  # images that a thread decodes before it reports
_MAX_THREADS = 8  # small images spend half of their time under Python's lock
_LOG_EVERY_S = 10.0
_NAMED = 3  # files in an error


@dataclass(frozen=True)
class Decoded:
    """Image files as pixels.

    Attributes:
        pixels: uint8, `n x c x h x w`; `c` is 1 if all images are grey and 3 otherwise.
        preprocessing: how they became that; without mean and standard deviation.
        hashes: int64, `n`, of the pixels of each: equal where these are.
        contents: what the files hold.
    """

    pixels: Tensor
    preprocessing: Preprocessing
    hashes: Tensor
    contents: Contents


@in_one_line()
def decode(root: Path, files: Sequence[str], how: Preprocessing) -> Decoded:
    """Decode `files` below `root`.

    Args:
        root: folder that the paths start from.
        files: at least one path.
        how: its fit and background; its size, too, unless its fit is None: then all images have
            one size and keep it. Channels, depth and white are learnt from the images.

    Raises:
        SsrError: files are not readable images, images differ in size without a fit, or their
            numbers are in no known range.
    """
    work = _Work(root, files, how)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        parts = [range(i, min(i + _CHUNK, len(files))) for i in range(0, len(files), _CHUNK)]
        _watch(threads.map(partial(work.fill, how=how), parts), len(files), root)
        work.check()
        learnt = value_ranges.learn(how, work.opened, root, files)
        again = value_ranges.changed(how, learnt, work.opened)
        rest = [again[i : i + _CHUNK] for i in range(0, len(again), _CHUNK)]
        sum(threads.map(partial(work.fill, how=learnt), rest))
        work.check()  # a file may be gone by now
    return work.done(learnt)


class _Work:
    """The images of one folder while threads decode them."""

    def __init__(self, root: Path, files: Sequence[str], how: Preprocessing) -> None:
        self.root, self.files = root, files
        self.failures: dict[int, str] = {}
        self.first = self._first(how)
        h, w, _ = self.first[1].shape
        self.pixels = _empty(len(files), h, w)
        self.hashes = np.zeros(len(files), np.int64)
        self.opened = [Opened("", (0, 0), is_grey=False)] * len(files)

    def fill(self, index: Sequence[int], how: Preprocessing) -> int:
        """Decode the images at `index`; returns how many they are."""
        array: Pixels = self.pixels.numpy()
        for i in index:
            if (found := self._read(i, how)) is not None:
                image, self.opened[i] = found
                _same_size(self.root, self.first, (self.files[i], image))
                array[i] = image.transpose(2, 0, 1)
                self.hashes[i] = hashed(image)
        return len(index)

    def check(self) -> None:
        """Refuse files that are no images, all at once.

        Raises:
            SsrError: names the first ones.
        """
        if not self.failures:
            return
        rows = sorted(self.failures.items())
        paths = {i: self.root / self.files[i] for i, _ in rows[:_NAMED]}
        named = "; ".join(f"{paths[i]} ({why})" for i, why in rows[:_NAMED])
        if len(rows) == 1:
            ((i, why),) = rows
            raise SsrError(f"{paths[i]} cannot be read as an image ({why}): replace or remove it")
        more = f"; and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        raise SsrError(
            f"{len(rows)} files cannot be read as an image: replace or remove them: {named}{more}"
        )

    def done(self, learnt: Preprocessing) -> Decoded:
        """Put together what was decoded."""
        is_grey = all(one.is_grey for one in self.opened)
        pixels = self.pixels[:, :1].contiguous() if is_grey else self.pixels
        c, h, w = pixels.shape[1:]
        how = replace(learnt, channels=c, size=(h, w))
        held = contents.count(self.opened, pixels)
        return Decoded(pixels, how, torch.from_numpy(self.hashes), held)

    def _first(self, how: Preprocessing) -> tuple[str, Pixels]:
        """Read the first image that can be read: all have its size."""
        for i in range(len(self.files)):
            if (found := self._read(i, how)) is not None:
                return self.files[i], found[0]
        self.check()
        raise ValueError("there are no files")

    def _read(self, i: int, how: Preprocessing) -> tuple[Pixels, Opened] | None:
        """Return one image as `h x w x 3`, and what its file holds; note where it cannot be."""
        path = self.root / self.files[i]
        try:
            return preprocessing.read(path, size=how.size if how.fit else None, how=how)
        except Exception as error:  # of a damaged file, Pillow may raise anything
            self.failures[i] = _why(path, error)
            return None


def _why(path: Path, error: Exception) -> str:
    """Say why a file is no image: what it is instead, or what its reader says."""
    try:
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
    except OSError:
        start = b"?"
    if not start:
        return "it is empty"
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is an HTML page"
    known = {b"ftyp": "HEIC, AVIF or a film", b"jp  ": "JPEG 2000", b"<svg": "SVG"}
    for mark, kind in known.items():
        if mark in start[:300]:
            return f"it is {kind}, which is not read"
    return " ".join((str(error) or type(error).__name__).split())


def _empty(n: int, h: int, w: int) -> Tensor:
    """Take the memory for `n x 3 x h x w` bytes."""
    try:
        return torch.empty(n, 3, h, w, dtype=torch.uint8)
    except RuntimeError:
        raise SsrError(
            f"{n:,} images of {w} x {h} pixels take {3 * n * h * w / 2**30:,.0f} GiB of memory, "
            "more than there is: type dataset.resize=32 (or another side) to scale them down"
        ) from None


def _same_size(root: Path, one: tuple[str, Pixels], other: tuple[str, Pixels]) -> None:
    (h, w, _), (h2, w2, _) = one[1].shape, other[1].shape
    if (h, w) != (h2, w2):
        raise SsrError(
            f"the images of {root} differ in size: {one[0]} is {w} x {h} pixels and {other[0]} "
            f"{w2} x {h2}; type dataset.resize=32 (or another side) to scale all to one"
        )


def _watch(done: Iterable[int], total: int, root: Path) -> None:
    """Show how many images are done: as a bar on a terminal, else as a line now and then."""
    console = Console(stderr=True)
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    log.info("decoding %d images of %s", total, one_line(str(root)))
    start = said = time.monotonic()
    count = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        for step in done:
            count += step
            bar.advance(task, step)
            if not console.is_terminal and time.monotonic() - said > _LOG_EVERY_S:
                said = time.monotonic()
                log.info("decoded %d of %d images", count, total)
    log.info("decoded %d images in %.1f s", total, time.monotonic() - start)
