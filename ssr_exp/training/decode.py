"""Decode image files into one tensor, in parallel."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

_CHUNK = 256  # images that a thread decodes before it reports
_MAX_THREADS = 8  # small images spend half of their time under Python's lock
_LOG_EVERY_S = 10.0
# What is opened, whatever a file's name is: PostScript, for one, would be run by a program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MOST_PIXELS = 89_478_485  # of one image, where Pillow starts to warn: 256 MiB of RGB
_GREY = frozenset(("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"))


def decode(root: Path, files: Sequence[str], resize: int | None) -> Tensor:
    """Decode `files` below `root`.

    Args:
        root: folder that the paths start from.
        files: at least one path.
        resize: side in pixels to which each image is scaled, its centre square if it is not
            square; None: all images have one size and keep it.

    Returns:
        uint8, `n x c x h x w`; `c` is 1 if all images are grey and 3 otherwise.

    Raises:
        SsrError: a file is not a readable image, or images differ in size without `resize`.
    """
    first, _ = _read(root / files[0], resize)
    h, w, _ = first.shape
    pixels = _empty(len(files), h, w)
    array: Pixels = pixels.numpy()
    grey = np.zeros(len(files), dtype=np.bool_)

    def fill(start: int) -> int:
        stop = min(start + _CHUNK, len(files))
        for i in range(start, stop):
            image, grey[i] = _read(root / files[i], resize)
            _same_size(root, (files[0], first), (files[i], image))
            array[i] = image.transpose(2, 0, 1)
        return stop - start

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        _watch(threads.map(fill, range(0, len(files), _CHUNK)), len(files), root)
    return pixels[:, :1].contiguous() if grey.all() else pixels


def _empty(n: int, h: int, w: int) -> Tensor:
    """Take the memory for `n x 3 x h x w` bytes."""
    try:
        return torch.empty(n, 3, h, w, dtype=torch.uint8)
    except RuntimeError:
        raise SsrError(
            f"{n:,} images of {w} x {h} pixels take {3 * n * h * w / 2**30:,.0f} GiB of memory, "
            "more than there is: type dataset.resize=32 (or another side) to scale them down"
        ) from None


def _read(path: Path, resize: int | None) -> tuple[Pixels, bool]:
    """Return one image as `h x w x 3`, and whether it is grey."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"it says that it has {image.width} x {image.height} pixels")
            ImageOps.exif_transpose(image, in_place=True)
            rgb = _eight_bits(image).convert("RGB")
            if resize is not None and rgb.size != (resize, resize):
                rgb = ImageOps.fit(rgb, (resize, resize), Image.Resampling.BILINEAR)
            return np.asarray(rgb), image.mode in _GREY
    except Exception as error:  # of a damaged file, Pillow may raise anything
        why = str(error) or type(error).__name__
        raise SsrError(
            f"{path} cannot be read as an image ({why}): replace or remove it"
        ) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey down, which Pillow's own conversion would clip."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


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
