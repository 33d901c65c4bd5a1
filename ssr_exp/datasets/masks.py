"""Images and masks that say the class of each pixel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import mask_files, mask_folder
from ssr_exp.datasets.image_folder.cache import cached
from ssr_exp.datasets.image_folder.decoding import Decoded, decode
from ssr_exp.datasets.image_folder.parts import ALL
from ssr_exp.datasets.images import IGNORED, Images, Indices, Pool, Target
from ssr_exp.datasets.mask_files import PADDED
from ssr_exp.datasets.mask_folder import MASKS, MaskListing, named
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import ImageOrigin
from ssr_exp.datasets.split import TEST_SEED, TEST_SHARE, drawn, share_in_words
from ssr_exp.errors import SsrError

MOST_CLASSES = 255
MAX_THREADS = 8
MANY, FEW, RARE, BRIGHT = 100, 4, 0.05, 200  # numbers; largest; share of the rest; of a number
LARGEST = np.iinfo(np.int16).max + 2
MASK_BYTES = 3  # of a pixel: its number in the file, int16, and its class, uint8

Values = NDArray[np.int16]
Colour = tuple[int, ...]


def pool(conf: DatasetConf, data_dir: Path, asked: Preprocessing, ignored: int | None) -> Pool:
    """Read a folder of images and masks.

    Args:
        conf: where it lies, and the names of its classes.
        data_dir: holds the cache of decoded images and masks.
        asked: how images are brought to a size; their masks follow, and what is beside a padded
            image counts nowhere.
        ignored: the number in masks of pixels that count nowhere; None: there is none.

    Raises:
        SsrError: files are missing, damaged or of other sizes, or hold classes that there are not.
    """
    if conf.root is None:
        raise SsrError(f"dataset=masks needs to know the folder: type {MASKS}")
    root = Path(conf.root).expanduser()
    listing = mask_folder.scan(root)
    decoded, digest = cached(
        data_dir / "cache" / f"{listing.key(root, asked)}.pt",
        lambda: _decoded(root, listing, asked),
    )
    assert decoded.masks is not None
    classes, labels = _classes(conf, decoded.masks, listing, root, ignored)
    files = tuple(root / path for path in listing.images)
    images = Images(decoded.pixels, labels, classes, files, Target.masks)
    parts, sources = _parts(listing)
    origin = ImageOrigin(
        sources, root, listing.left_out, warnings=listing.warnings, contents=decoded.contents
    )
    hashes, how = decoded.hashes.numpy(), decoded.preprocessing
    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    return Pool(images, digest, train, val, test, how, hashes, origin)


def _decoded(root: Path, listing: MaskListing, asked: Preprocessing) -> Decoded:
    decoded = decode(root, listing.images, asked, beside=MASK_BYTES)
    how = decoded.preprocessing
    masks: Values = np.empty((len(listing.masks), *how.size), np.int16)
    failures: dict[int, str] = {}
    colours: list[dict[int, Colour]] = [{} for _ in listing.masks]

    def fill(i: int) -> None:
        image, path = (root / name for name in (listing.images[i], listing.masks[i]))
        try:
            masks[i] = mask_files.fitted_numbers(path, image, how, colours[i])
        except Exception as error:  # of a damaged file, Pillow may raise anything
            failures[i] = " ".join((str(error) or type(error).__name__).split())

    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
        list(threads.map(fill, range(len(masks))))
    _check(failures, listing, root)
    _check_palettes(colours, listing, root)
    return replace(decoded, masks=torch.from_numpy(masks))


def _check(failures: dict[int, str], listing: MaskListing, root: Path) -> None:
    if failures:
        words = [f"{listing.masks[i]}: {failures[i]}" for i in sorted(failures)]
        raise SsrError(
            f"{len(words):,} of {len(listing.masks):,} masks of {root} cannot be used: a mask is a "
            f"grey or palette PNG of its image's size, whose pixels are numbers of classes "
            f"({named(words)})"
        )


def _check_palettes(colours: Sequence[dict[int, Colour]], listing: MaskListing, root: Path) -> None:
    """Refuse palettes of their own in each file, as programs make them of colours.

    Raises:
        SsrError: if a colour is at other places in two files, whose numbers are no classes then.
    """
    first: dict[Colour, tuple[int, int]] = {}
    for number, held in enumerate(colours):
        for at, colour in held.items():
            place, other = first.setdefault(colour, (at, number))
            if place != at:
                raise SsrError(
                    f"the palettes of the masks of {root} differ: the colour {colour} is number "
                    f"{place} in {listing.masks[other]} and {at} in {listing.masks[number]}, so "
                    "numbers say no class: write grey PNGs whose pixels are numbers of classes, or "
                    "all masks with one palette"
                )


def _check_smooth(masks: Tensor, there: Sequence[int], targets: Sequence[str], root: Path) -> None:
    """Refuse masks whose edges were smoothed: greys between two classes are no classes.

    Raises:
        SsrError: if there are many numbers from dark to bright, most of them in few pixels.
    """
    if len(there) <= MANY or max(there) < BRIGHT or len(there) <= len(targets):
        return
    counts = np.zeros(LARGEST, np.int64)
    for mask in masks.numpy():
        counts += np.bincount(mask.ravel().astype(np.int64) + 1, minlength=LARGEST)
    largest = np.sort(counts[1:])[::-1]
    if largest[FEW:].sum() < RARE * largest.sum():
        raise SsrError(
            f"the masks of {root} hold {len(there)} numbers, nearly all of them in few pixels, as "
            "smoothed edges do: resize masks without smoothing (nearest), or round them to the "
            "numbers of classes"
        )


def _classes(
    conf: DatasetConf, masks: Tensor, listing: MaskListing, root: Path, ignored: int | None
) -> tuple[tuple[str, ...], Tensor]:
    """Name the classes, and turn numbers in masks into positions of classes, uint8."""
    held = [np.unique(mask) for mask in masks.numpy()]
    there = [int(v) for v in np.unique(np.concatenate(held)) if v not in (PADDED, ignored)]
    numbers, names = there, tuple(map(str, there))
    if conf.targets:
        numbers, names = _named(conf.targets, there, ignored)
    _check_smooth(masks, there, conf.targets, root)
    if beyond := [v for v in there if v not in numbers]:
        at = next(i for i, values in enumerate(held) if beyond[0] in values)
        raise SsrError(
            f"the masks of {root} hold class {beyond[0]} (in {listing.masks[at]}), and "
            f"dataset.targets names {len(conf.targets)}, {_range(numbers)}: "
            f"name all, or type task.ignore_index={beyond[0]} if these pixels count nowhere"
        )
    if not there:
        raise SsrError(
            f"all pixels of the masks of {root} are {ignored}, which task.ignore_index leaves out: "
            "nothing can be learnt from them"
        )
    if len(there) < 2:  # however many are named: any network would name it everywhere
        found = np.unique(np.concatenate(held)).tolist()
        both = f", and {ignored}, which task.ignore_index leaves out" if ignored in found else ""
        advice = "type task.ignore_index=null, and it is a class" if both else "two are needed"
        raise SsrError(f"the masks of {root} hold {there[0]} alone{both}: {advice}")
    if len(numbers) > MOST_CLASSES:
        raise SsrError(
            f"the masks of {root} hold {len(numbers):,} numbers, and there are at most "
            f"{MOST_CLASSES} classes: are they masks of instances, or pictures?"
        )
    table = np.full(max(*numbers, ignored or 0) + 2, IGNORED, np.uint8)  # the last one: PADDED
    table[numbers] = np.arange(len(numbers))
    labels = np.empty(masks.shape, np.uint8)
    for i, mask in enumerate(masks.numpy()):
        labels[i] = table[mask]
    return names, torch.from_numpy(labels)


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} {'and' if len(numbers) == 2 else 'to'} {numbers[-1]}"


def _named(
    targets: Sequence[str], there: Sequence[int], ignored: int | None
) -> tuple[list[int], tuple[str, ...]]:
    """Give the numbers from 0 their names; those of masks of black and white are 0 and 255."""
    if len(set(targets)) < len(targets):
        raise SsrError(f"dataset.targets={targets} names a class twice: name each once")
    numbers = [0, 255] if len(targets) == 2 and 255 in there and ignored is None else None
    pairs = [
        (number, name)
        for number, name in zip(numbers or range(len(targets)), targets, strict=True)
        if number != ignored
    ]
    return [number for number, _ in pairs], tuple(name for _, name in pairs)


def _parts(listing: MaskListing) -> tuple[dict[str, Indices], dict[str, str]]:
    """Take the parts that a folder came with, or draw a tenth of it as test."""
    ends = np.cumsum(list(listing.parts.values()))
    index: dict[str, Indices] = {
        part: np.arange(end - count, end, dtype=np.int64)
        for (part, count), end in zip(listing.parts.items(), ends, strict=True)
    }
    if ALL not in index:
        return index, dict.fromkeys(index, "by its folder")
    train, test = drawn(index[ALL], fraction=TEST_SHARE, seed=TEST_SEED)
    said = share_in_words(len(test), len(index[ALL]), asked=TEST_SHARE)
    return {"train": train, "test": test}, {"test": f"{said} of all"}
