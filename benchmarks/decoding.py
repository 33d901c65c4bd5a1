"""How long a folder of images takes to be decoded and looked at, beside plain decoding."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks import measure
from benchmarks.measure import Contestant, Figure
from ssr_exp import terminal
from ssr_exp.datasets.image_folder import decoding
from ssr_exp.datasets.preprocessing import FORMATS, GREY, MOST_PIXELS, Preprocessing

PART = "decoding"
MOST = 1.1  # of plain decoding's time
CHUNK = 256  # images that a thread decodes at a time


@dataclass(frozen=True)
class Size:
    """How much is measured: images of 32x32 as they are, and photographs that are scaled."""

    small: int = 1500
    large: int = 150
    rounds: int = 15


SMOKE = Size(small=20, large=4, rounds=1)


def measured(size: Size) -> list[Figure]:
    """Decode folders of two kinds, with and without all that is looked at."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_folder(Path(folder), "PNG 32 x 32", size.small, (32, 32), None, size.rounds),
            *_folder(
                Path(folder), "JPEG 500 x 375 to 224", size.large, (500, 375), 224, size.rounds
            ),
        ]


def _folder(
    root: Path, name: str, count: int, shape: tuple[int, int], resize: int | None, rounds: int
) -> list[Figure]:
    files = [f"{name.split()[0]}{number}.{name.split()[0].lower()}" for number in range(count)]
    draw = np.random.default_rng(0)
    for file in files:
        small = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize(shape, Image.Resampling.BICUBIC).save(root / file)
    side = resize or 0
    how = Preprocessing(channels=3, size=(side, side), fit="crop" if resize else None)
    contestants: dict[str, Callable[[], object]] = {
        "now": partial(decoding.decode, root, files, how),
        "plain": partial(plain, root, files, resize),
    }
    assert torch.equal(decoding.decode(root, files, how).pixels, plain(root, files, resize))
    timed = {who: _on_processor(work) for who, work in contestants.items()}
    seconds = measure.interleaved(timed, rounds=rounds)
    return [
        measure.rate(PART, f"{name}: images for a second of one core", seconds["now"], count),
        measure.ratio(
            PART, f"{name}: over plain decoding", seconds["now"], seconds["plain"], at_most=MOST
        ),
    ]


def _on_processor(work: Callable[[], object]) -> Contestant:
    """Count the seconds that all threads spend on processors: those of other jobs do not count."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return once


def plain(root: Path, files: Sequence[str], resize: int | None) -> torch.Tensor:
    """Decode files into one tensor, as was done before they were looked at."""
    first, _ = _read(root / files[0], resize)
    h, w, _ = first.shape
    pixels = torch.empty(len(files), 3, h, w, dtype=torch.uint8)
    array = pixels.numpy()
    grey = np.zeros(len(files), dtype=np.bool_)

    def fill(start: int) -> int:
        for i in range(start, min(start + CHUNK, len(files))):
            image, grey[i] = _read(root / files[i], resize)
            if image.shape != first.shape:
                raise ValueError(files[i])
            array[i] = image.transpose(2, 0, 1)
        return CHUNK

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        chunks = range(0, len(files), CHUNK)
        for _ in zip(terminal.progress(chunks, "decoding"), threads.map(fill, chunks), strict=True):
            pass
    return pixels[:, :1].contiguous() if grey.all() else pixels


def _read(path: Path, resize: int | None) -> tuple[np.ndarray, bool]:
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(path)
        ImageOps.exif_transpose(image, in_place=True)
        rgb = (image if not image.mode.startswith("I;16") else _shifted(image)).convert("RGB")
        if resize is not None and rgb.size != (resize, resize):
            rgb = ImageOps.fit(rgb, (resize, resize), Image.Resampling.BILINEAR)
        return np.asarray(rgb), image.mode in GREY


def _shifted(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
