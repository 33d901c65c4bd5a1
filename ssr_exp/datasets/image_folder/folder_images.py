"""The images of a folder: as tensors where memory holds them, else read for each batch."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssr_exp import messages
from ssr_exp.config import CropFrom, DatasetConf
from ssr_exp.datasets import memory
from ssr_exp.datasets.image_folder import listing
from ssr_exp.datasets.image_folder.cache import cached, regrouped, surveyed
from ssr_exp.datasets.image_folder.decoding import Decoded, decode
from ssr_exp.datasets.image_folder.file_index import FileIndex
from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.datasets.image_folder.listing import Listing
from ssr_exp.datasets.image_folder.parts import ALL
from ssr_exp.datasets.image_folder.survey import Survey, survey
from ssr_exp.datasets.images import Images, Indices, Pool
from ssr_exp.datasets.preprocessing import Preprocessing, size_of
from ssr_exp.datasets.split import (
    TEST_SEED,
    TEST_SHARE,
    check_enough,
    hold_out_val,
    share_in_words,
    stratified,
)
from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

Parts = tuple[dict[str, Indices], dict[str, str]]  # positions and source, in words, of each part


def pool(conf: DatasetConf, data_dir: Path, asked: Preprocessing) -> Pool:
    """Read a folder of class folders, or what was kept of it: all pixels, or what is known of them.

    Args:
        conf: where it lies, and how it is split.
        data_dir: holds the cache.
        asked: how images are brought to a size.

    Raises:
        SsrError: it is absent or damaged, or cannot be split.
    """
    if conf.root is None:
        raise SsrError("image_folder needs to know the folder: type dataset.root=DIR")
    root = Path(conf.root).expanduser()
    listed = listing.scan(root)
    _check_enough(listed, conf)  # before all are decoded
    if is_streamed(conf, root, listed, asked):
        return _streamed(conf, data_dir, root, listed, asked)
    decoded, digest = cached(
        data_dir / "cache" / f"{listed.key(asked)}.pt",
        lambda: decode(root, listed.files, asked, conf.skip_corrupt),
        conf.skip_corrupt,
    )
    listed = listed.without(decoded.left_out)
    labels, files = torch.from_numpy(listed.labels), FileIndex.of(root, listed.files)
    images = Images(decoded.pixels, labels, listed.classes, files)
    return _pool(conf, listed, images, decoded, digest)


def _streamed(
    conf: DatasetConf, data_dir: Path, root: Path, listed: Listing, asked: Preprocessing
) -> Pool:
    """Learn what is to be known of all images, and keep none."""
    labels, files = torch.from_numpy(listed.labels), FileIndex.of(root, listed.files)
    images = Images(FilePixels(files, labels, asked), labels, listed.classes, files)
    members = _members(conf, images, _parts(listed, images, conf))
    path = data_dir / "cache" / f"{listed.streamed_key(asked)}.pt"
    known, names = surveyed(
        path,
        listed.files,
        lambda: survey(root, listed.files, asked, members, conf.skip_corrupt),
        conf.skip_corrupt,
    )
    stays = torch.from_numpy(np.setdiff1d(np.arange(len(names)), known.left_out))
    labels, files = labels[stays], FileIndex(root, names, stays)
    allowed = conf.skip_corrupt - len(known.left_out)
    pixels = FilePixels(files, labels, known.preprocessing, allowed, len(known.left_out))
    images = Images(pixels, labels, listed.classes, files)
    listed = listed.without(known.left_out)
    members = _members(conf, images, _parts(listed, images, conf))
    counted = regrouped(path, known, members, pixels.__getitem__)
    return replace(
        _pool(conf, listed, images, known, known.digest),
        count=lambda index: counted.histogram(torch.from_numpy(index), pixels.__getitem__),
    )


def _pool(
    conf: DatasetConf, listed: Listing, images: Images, read: Decoded | Survey, digest: str
) -> Pool:
    parts, sources = _parts(listed, images, conf)
    return Pool(
        images,
        digest,
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        preprocessing=read.preprocessing,
        hashes=read.hashes.numpy(),
        origin=replace(listed.origin, sources=sources, contents=read.contents),
    )


def is_streamed(conf: DatasetConf, root: Path, listed: Listing, asked: Preprocessing) -> bool:
    """Choose whether images are read for each batch; says so, and how much memory they would take.

    They give the same batches either way.
    """
    h, w = asked.size if asked.fit else _first_size(root, listed)
    needed, free = 3 * h * w * len(listed.files), memory.free_bytes()
    told, why = needed > conf.memory * free, ""
    if conf.crop_from is CropFrom.file:
        told, why = True, " (dataset.crop_from=file)"
    elif conf.stream != "auto":
        told, why = conf.stream, f" (dataset.stream={str(conf.stream).lower()})"
    needs, may, has = map(memory.in_words, (needed, conf.memory * free, free))
    size = f"{len(listed.files):,} images of {w} x {h} pixels take {needs} as tensors"
    way = ("read from their files for each batch" if told else "kept in memory") + why
    if messages.is_first(size + way):
        share = f"{conf.memory:.0%} of the free {has}, may be taken (dataset.memory)"
        log.info("%s, and %s, %s: they are %s", size, may, share, way)
    return told


def _first_size(root: Path, listed: Listing) -> tuple[int, int]:
    """Read the size of the first image: without a fit all have it."""
    for name in listed.files:
        with suppress(Exception):
            return size_of(root / name)
    return 0, 0


def _members(conf: DatasetConf, images: Images, parts: Parts) -> Tensor:
    """Put the images of train, val and test into groups of their own, uint8: see `Survey`."""
    (index, _), members = parts, torch.zeros(len(images), dtype=torch.uint8)
    val = index.get("val")
    if val is None:
        with suppress(SsrError):  # it is refused where it counts
            fraction, seed = conf.val_fraction, conf.split_seed
            _, val = hold_out_val(images, index["train"], fraction=fraction, seed=seed)
    for group, part in enumerate((val, index.get("test")), 1):
        if part is not None:
            members[torch.from_numpy(part)] = group
    return members


def _parts(listed: Listing, images: Images, conf: DatasetConf) -> Parts:
    """Take the parts that a folder came with, or split off a tenth of it as test.

    Returns:
        Positions and source, in words, of train, of val if it came with one, and of test.

    Raises:
        SsrError: a class has too few images.
    """
    index = _index(listed)
    is_split, sources = ALL in index, listed.origin.sources
    _check_enough(listed, conf)
    if is_split:
        train, test = stratified(images, index[ALL], fraction=TEST_SHARE, seed=TEST_SEED)
        said = share_in_words(len(test), len(index[ALL]), asked=TEST_SHARE)
        index, sources = {"train": train, "test": test}, {"test": f"{said} of all"}
    return index, sources


def _index(listed: Listing) -> dict[str, Indices]:
    """Say which positions each part of a folder has."""
    ends = np.cumsum(list(listed.parts.values()))
    return {
        name: np.arange(end - count, end, dtype=np.int64)
        for (name, count), end in zip(listed.parts.items(), ends, strict=True)
    }


def _check_enough(listed: Listing, conf: DatasetConf) -> None:
    """Refuse classes that have too few images for the parts that are split off."""
    is_split = ALL in listed.parts
    needed = {
        "train": True,
        "val": "val" not in listed.parts and not conf.train_on_val,
        "test": is_split,
    }
    labels = listed.labels[_index(listed)[ALL if is_split else "train"]]
    check_enough(listed.classes, labels, [n for n in needed if needed[n]], listed.unread)
