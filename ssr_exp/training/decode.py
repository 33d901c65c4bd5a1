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

from ssr_exp.datasets import preprocessing
from ssr_exp.datasets.preprocessing import Opened, Preprocessing
from ssr_exp.errors import SsrError
from ssr_exp.training import ranges

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

_CHUNK = 256  # images that a thread decodes before it reports
_MAX_THREADS = 8  # small images spend half of their time under Python's lock
_LOG_EVERY_S = 10.0


@dataclass(frozen=True)
class Decoded:
    """Image files as pixels.

    Attributes:
        pixels: uint8, `n x c x h x w`; `c` is 1 if all images are grey and 3 otherwise.
        preprocessing: how they became that; without mean and standard deviation.
    """

    pixels: Tensor
    preprocessing: Preprocessing


def decode(root: Path, files: Sequence[str], how: Preprocessing) -> Decoded:
    """Decode `files` below `root`.

    Args:
        root: folder that the paths start from.
        files: at least one path.
        how: its fit and background; its size, too, unless its fit is None: then all images have
            one size and keep it. Channels, depth and white are learnt from the images.

    Raises:
        SsrError: a file is not a readable image, images differ in size without a fit, or their
            numbers are in no known range.
    """
    first, _ = _read(root / files[0], how)
    h, w, _ = first.shape
    pixels = _empty(len(files), h, w)
    array: Pixels = pixels.numpy()
    opened: list[Opened] = [Opened("", (0, 0), is_grey=False)] * len(files)

    def fill(index: Sequence[int], how: Preprocessing) -> int:
        for i in index:
            image, opened[i] = _read(root / files[i], how)
            _same_size(root, (files[0], first), (files[i], image))
            array[i] = image.transpose(2, 0, 1)
        return len(index)

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        parts = [range(i, min(i + _CHUNK, len(files))) for i in range(0, len(files), _CHUNK)]
        _watch(threads.map(partial(fill, how=how), parts), len(files), root)
        learnt = ranges.learn(how, opened, root, files)
        again = ranges.changed(how, learnt, opened)
        rest = [again[i : i + _CHUNK] for i in range(0, len(again), _CHUNK)]
        sum(threads.map(partial(fill, how=learnt), rest))
    grey = all(one.is_grey for one in opened)
    kept = pixels[:, :1].contiguous() if grey else pixels
    return Decoded(kept, replace(learnt, channels=kept.shape[1], size=(h, w)))


def _empty(n: int, h: int, w: int) -> Tensor:
    """Take the memory for `n x 3 x h x w` bytes."""
    try:
        return torch.empty(n, 3, h, w, dtype=torch.uint8)
    except RuntimeError:
        raise SsrError(
            f"{n:,} images of {w} x {h} pixels take {3 * n * h * w / 2**30:,.0f} GiB of memory, "
            "more than there is: type dataset.resize=32 (or another side) to scale them down"
        ) from None


def _read(path: Path, how: Preprocessing) -> tuple[Pixels, Opened]:
    """Return one image as `h x w x 3`, and what its file holds."""
    try:
        return preprocessing.read(path, size=how.size if how.fit else None, how=how)
    except Exception as error:  # of a damaged file, Pillow may raise anything
        why = str(error) or type(error).__name__
        raise SsrError(
            f"{path} cannot be read as an image ({why}): replace or remove it"
        ) from error


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
    log.info("decoding %d images of %s", total, root)
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
