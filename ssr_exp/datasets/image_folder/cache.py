"""Keep decoded pixels in a file, so that a folder of images is decoded once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from ssr_exp import files
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.image_folder.decoding import Decoded
from ssr_exp.datasets.images import digest
from ssr_exp.datasets.preprocessing import Preprocessing

log = logging.getLogger(__name__)


def cached(path: Path, decode: Callable[[], Decoded]) -> tuple[Decoded, str]:
    """Read images from `path`, or decode them and write them there.

    Of several processes that ask at once, one decodes and the others wait for its file. A damaged
    file is made anew. Where the file cannot be written, the images come back all the same.

    Returns:
        The images, their pixels mapped from the file where it existed, and their `images.digest`.
    """
    if (cached := _read(path)) is not None:
        return cached
    with _locked(path) as writable:
        if writable and (cached := _read(path, warn=False)) is not None:
            return cached
        decoded = decode()
        key = digest(decoded.pixels)
        if writable:
            _write(path, decoded, key)
        return decoded, key


def _read(path: Path, *, warn: bool = True) -> tuple[Decoded, str] | None:
    """Read a file, if it is what is written here, and undamaged."""
    try:
        content = torch.load(path, weights_only=True, mmap=True)
        pixels, hashes, key = content["pixels"], content["hashes"], content["digest"]
        how = TypeAdapter(Preprocessing).validate_json(content["how"])
        contents = TypeAdapter(Contents).validate_json(content["contents"])
        masks = content.get("masks")
        c, *size = pixels.shape[1:]
        is_described = pixels.dtype is torch.uint8 and (c, tuple(size)) == (how.channels, how.size)
        is_hashed = hashes.dtype is torch.int64 and hashes.shape == pixels.shape[:1]
        is_masked = masks is None or digest(masks) == content["masks_digest"]
        if is_described and is_hashed and is_masked and digest(pixels) == key:
            return Decoded(pixels, how, hashes, contents, masks), key
    except FileNotFoundError:
        return None
    except Exception as error:  # damage shows in many ways
        log.debug("%s: %s", path, error)
    if warn:
        log.warning("the cache file %s is damaged: the images are decoded again", path)
    return None


def _write(path: Path, decoded: Decoded, key: str) -> None:
    unfinished = path.with_suffix(".tmp")
    try:
        content = {
            "pixels": decoded.pixels,
            "hashes": decoded.hashes,
            "how": json.dumps(asdict(decoded.preprocessing)),
            "contents": json.dumps(asdict(decoded.contents)),
            "digest": key,
        }
        if decoded.masks is not None:
            content |= {"masks": decoded.masks, "masks_digest": digest(decoded.masks)}
        with files.replacing(path, unfinished):
            torch.save(content, unfinished)
    except (OSError, RuntimeError) as error:
        _warn(path, error)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a cache file; yields False, after a warning, where none can be had."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process that decodes the same images")
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        _warn(path, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _warn(path: Path, error: Exception) -> None:
    log.warning("cannot keep the decoded images in %s, going on without: %s", path, error)
