"""Decode image files into one tensor, in parallel."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp import terminal
from ssr_exp.datasets import contents, memory, preprocessing
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.images import hashed
from ssr_exp.datasets.preprocessing import DEPTH, DEPTHS, WHITE, Opened, Preprocessing
from ssr_exp.errors import SsrError, in_one_line, one_line

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

_CHUNK = 256  # images that a thread decodes before it reports
_MAX_THREADS = 8  # small images spend half of their time under Python's lock
_NAMED = 3  # files in an error
_MOST = 2 ** DEPTHS[-1] - 1
_NOT_READ = {b"ftyp": "HEIC, AVIF or a film", b"jp  ": "JPEG 2000", b"<svg": "SVG"}


@dataclass(frozen=True)
class Decoded:
    """Image files as pixels."""

    pixels: Tensor  # uint8, `n x c x h x w`; `c` is 1 if all images are grey and 3 otherwise
    preprocessing: Preprocessing  # how they became that; without mean and standard deviation
    hashes: Tensor  # int64, `n`, of the pixels of each: equal where these are
    contents: Contents
    masks: Tensor | None = None  # int16, `n x h x w`, as files hold them; None: there are none
    left_out: tuple[int, ...] = ()  # positions of files that are none of the `n`: they are bad


@in_one_line()
def decode(
    root: Path,
    files: Sequence[str],
    how: Preprocessing,
    allowed: int | None = None,
    *,
    beside: int = 0,
) -> Decoded:
    """Decode `files` below `root`.

    Args:
        root: folder that the paths start from.
        files: at least one path.
        how: its fit and background; its size, too, unless its fit is None: then all images have
            one size and keep it. Channels, depth and white are learnt from the images.
        allowed: how many files may be no readable images, and are left out; None: there is no key
            for that.
        beside: bytes that each pixel will take beside the image, as of a mask.

    Raises:
        SsrError: more files are not readable images, images differ in size without a fit, their
            numbers are in no known range, or there is no memory for all of them.
    """
    log.info("decoding %d images of %s", len(files), one_line(str(root)))
    start = time.monotonic()
    decoder = _Decoder(ImageReader(root, files, how, allowed), beside)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        decoder.fill(threads, range(len(files)), how)
        held = decoder.opened()
        learnt = learn(how, held, decoder.reader)
        decoder.fill(threads, changed(how, learnt, held), learnt)
    log.info("decoded %d images in %.1f s", len(files), time.monotonic() - start)
    return decoder.decoded(learnt)


class ImageReader:
    """Reads the images of one folder, and notes which files are none.

    Args:
        root: folder that the paths start from.
        files: at least one path.
        how: see `decode`.
        allowed: see `decode`.

    Raises:
        SsrError: if all are none.
    """

    def __init__(
        self, root: Path, files: Sequence[str], how: Preprocessing, allowed: int | None
    ) -> None:
        self.root, self.files, self.allowed = root, files, allowed
        self.failures: dict[int, str] = {}
        self._is_gone = False  # whether the disk did not give a file: such are not left out
        self.first, (self.h, self.w, _) = self._first(how)

    def read(self, i: int, how: Preprocessing) -> tuple[Pixels, Opened] | None:
        """Return one image as `h x w x 3`, and what its file holds; note where it cannot be.

        Raises:
            SsrError: if its size is not that of the first.
        """
        if (pair := self._read(i, how)) is not None:
            self._check_size(i, pair[0])
        return pair

    def check(self) -> None:
        """Refuse files that are no images, all at once.

        Raises:
            SsrError: names the first ones.
        """
        rows = sorted((i, f"{self.root / self.files[i]}", why) for i, why in self.failures.items())
        is_allowed = len(rows) <= (self.allowed or 0) and not self._is_gone
        if is_allowed and len(rows) < len(self.files):
            return
        can_skip = self.allowed is not None and not self._is_gone
        key = f"dataset.skip_corrupt={len(rows)} to leave"
        if len(rows) == 1:
            ((_, path, why),) = rows
            skip = f", or type {key} it out" if can_skip else ""
            raise SsrError(f"{path} cannot be read as an image ({why}): replace or remove it{skip}")
        if rows:
            named = "; ".join(f"{path} ({why})" for _, path, why in rows[:_NAMED])
            more = f"; and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
            skip = f" (or type {key} them out)" if can_skip else ""
            raise SsrError(
                f"{len(rows)} files cannot be read as an image: replace or remove them{skip}: "
                f"{named}{more}"
            )

    def left_out(self) -> tuple[int, ...]:
        """Name the files that are left out; returns their positions."""
        for i, why in sorted(self.failures.items()):
            log.warning("%s is left out: %s", one_line(str(self.root / self.files[i])), why)
        return tuple(sorted(self.failures))

    def _check_size(self, i: int, image: Pixels) -> None:
        h, w = self.h, self.w
        if image.shape[:2] != (h, w):
            raise SsrError(
                f"the images of {self.root} differ in size: {self.first} is {w} x {h} pixels and "
                f"{self.files[i]} {image.shape[1]} x {image.shape[0]}; type dataset.resize=32 (or "
                "another side) to scale all to one"
            )

    def _first(self, how: Preprocessing) -> tuple[str, tuple[int, ...]]:
        """Name the first image that can be read, and its shape: all have its size."""
        for i in range(len(self.files)):
            if (pair := self._read(i, how)) is not None:
                return self.files[i], pair[0].shape
        self.check()
        raise ValueError("there are no files")

    def _read(self, i: int, how: Preprocessing) -> tuple[Pixels, Opened] | None:
        path = self.root / self.files[i]
        try:
            return preprocessing.read(path, size=how.size if how.fit else None, how=how)
        except Exception as error:  # of a damaged file, Pillow may raise anything
            self.failures[i] = _why(path, error)
            self._is_gone |= isinstance(error, OSError) and error.errno is not None
            return None


class _Decoder:
    """The images of one folder while threads decode them."""

    def __init__(self, reader: ImageReader, beside: int) -> None:
        self.reader, count = reader, len(reader.files)
        can_stream = reader.allowed is not None  # as image folders can, and they alone
        self.pixels = _empty(count, reader.h, reader.w, beside, can_stream=can_stream)
        self.hashes = np.zeros(count, np.int64)
        self._opened: list[Opened | None] = [None] * count

    def fill(self, threads: ThreadPoolExecutor, index: Sequence[int], how: Preprocessing) -> None:
        """Decode the images at `index`, then refuse all files that are none at once.

        Raises:
            SsrError: names the first ones, or two that differ in size.
        """
        chunks = [index[i : i + _CHUNK] for i in range(0, len(index), _CHUNK)]
        done = threads.map(partial(self._fill, how=how), chunks)
        for _ in zip(terminal.progress(chunks, f"decoding by {_CHUNK}"), done, strict=True):
            pass
        self.reader.check()

    def _fill(self, index: Sequence[int], how: Preprocessing) -> None:
        array: Pixels = self.pixels.numpy()
        for i in index:
            if (pair := self.reader.read(i, how)) is not None:
                image, self._opened[i] = pair
                array[i] = image.transpose(2, 0, 1)
                self.hashes[i] = hashed(image)

    def opened(self) -> dict[int, Opened]:
        """What each file that is an image holds, by its position."""
        return {i: one for i, one in enumerate(self._opened) if one is not None}

    def decoded(self, learnt: Preprocessing) -> Decoded:
        """Put together what was decoded."""
        opened, pixels, hashes = self.opened(), self.pixels, torch.from_numpy(self.hashes)
        if left_out := self.reader.left_out():
            pixels, hashes = pixels[[*opened]], hashes[[*opened]]
        if all(one.is_grey for one in opened.values()):
            pixels = pixels[:, :1].contiguous()
        c, h, w = pixels.shape[1:]
        how = replace(learnt, channels=c, size=(h, w))
        counted = contents.count([*opened.values()], pixels)
        return Decoded(pixels, how, hashes, counted, left_out=left_out)


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
    for mark, kind in _NOT_READ.items():
        if mark in start[:300]:
            return f"it is {kind}, which is not read"
    return " ".join((str(error) or type(error).__name__).split())


def _empty(n: int, h: int, w: int, beside: int, *, can_stream: bool) -> Tensor:
    """Take the memory for `n x 3 x h x w` bytes, if the machine has it, and `beside` a pixel."""
    needed, most = (3 + beside) * n * h * w, memory.most_bytes()
    masks = ", with their masks" if beside else ""
    takes = f"{n:,} images of {w} x {h} pixels take {memory.in_words(needed)} of memory{masks}"
    stream = "dataset.stream=true to read them for each batch, or " if can_stream else ""
    remedy = f"type {stream}dataset.resize=32 (or another side) to scale them down"
    if needed > most:  # to be killed while they are decoded would say nothing
        raise SsrError(f"{takes}, more than this machine gives ({memory.in_words(most)}): {remedy}")
    if needed > (free := memory.free_bytes()):
        told = "%s, and %s are free: if this process is killed, %s"
        log.warning(told, takes, memory.in_words(free), remedy)
    try:
        return torch.empty(n, 3, h, w, dtype=torch.uint8)
    except RuntimeError:
        raise SsrError(f"{takes}, which this process is not given: {remedy}") from None


def learn(how: Preprocessing, opened: Mapping[int, Opened], reader: ImageReader) -> Preprocessing:
    """Choose the depth of grey images of more than 8 bits, and the white of floating-point ones.

    Cameras write 10 to 14 bits into files of 16, so the depth is the smallest usual one that holds
    the highest value of all images together.

    Args:
        how: without them.
        opened: by position, at least of such images.
        reader: of the files.

    Raises:
        SsrError: if numbers are negative, or too high.
    """
    for i, one in opened.items():
        most = 255 if one.is_float else _MOST
        if (one.is_float or one.is_deep) and (one.low < 0 or one.peak > most):
            allowed = "in 0 to 1 or in 0 to 255" if one.is_float else f"in 0 to {_MOST}"
            raise SsrError(
                f"{reader.root / reader.files[i]} has values from {one.low:g} to {one.peak:g}, so "
                "what is black and what is white is not known: scale all images alike, to values "
                f"{allowed}"
            )
    if deep := [one.peak for one in opened.values() if one.is_deep]:
        how = replace(how, depth=min(bits for bits in DEPTHS if max(deep) < 2**bits))
    if floats := [one.peak for one in opened.values() if one.is_float]:
        how = replace(how, white=1.0 if max(floats) <= 1 else 255.0)
    return how


def changed(before: Preprocessing, after: Preprocessing, opened: Mapping[int, Opened]) -> list[int]:
    """List the images that another depth or white makes other pixels of."""
    deep = after.depth not in (None, before.depth or DEPTH)
    floats = after.white not in (None, before.white or WHITE)
    return [i for i, one in opened.items() if (deep and one.is_deep) or (floats and one.is_float)]
