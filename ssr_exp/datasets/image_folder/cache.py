"""Keep decoded pixels in a file, so that a folder of images is decoded once."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from ssr_exp import files
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.image_folder.decoding import Decoded
from ssr_exp.datasets.images import digest
from ssr_exp.datasets.preprocessing import Preprocessing

log = logging.getLogger(__name__)

_UNREADABLE = (
    OSError,
    RuntimeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
)


def cached(path: Path, decode: Callable[[], Decoded]) -> tuple[Decoded, str]:
    """Read images from `path`, or decode them and write them there.

    Of several processes that ask at once, one decodes and the others wait for its file. A damaged
    file is made anew. Where the file cannot be written, the images come back all the same.

    Args:
        path: the cache file; its name says what it holds.
        decode: makes the images.

    Returns:
        The images, their pixels mapped from the file where it existed, and their `images.digest`.
    """
    found = _read(path)
    if found is not None:
        return found
    with _locked(path) as writable:
        found = _read(path, warn=False) if writable else None
        if found is not None:
            return found
        decoded = decode()
        key = digest(decoded.pixels)
        if writable:
            _write(path, decoded, key)
        return decoded, key


def _read(path: Path, *, warn: bool = True) -> tuple[Decoded, str] | None:
    try:
        held = torch.load(path, weights_only=True, mmap=True)
        decoded, key = _checked(held), held["digest"]
        if digest(decoded.pixels) == key:
            return decoded, key
    except FileNotFoundError:
        return None
    except _UNREADABLE:
        pass
    if warn:
        log.warning("the cache file %s is damaged: the images are decoded again", path)
    return None


def _checked(held: dict[str, Any]) -> Decoded:
    """Take what a file holds, if it is what is written here.

    Raises:
        ValueError: if it is something else, or damaged.
    """
    pixels, hashes = held["pixels"], held["hashes"]
    how = TypeAdapter(Preprocessing).validate_json(held["how"])
    contents = TypeAdapter(Contents).validate_json(held["contents"])
    c, *size = pixels.shape[1:]
    if pixels.dtype is not torch.uint8 or (c, tuple(size)) != (how.channels, how.size):
        raise ValueError("its pixels are not those that it describes")
    if hashes.dtype is not torch.int64 or hashes.shape != pixels.shape[:1]:
        raise ValueError("its hashes are not those of its images")
    return Decoded(pixels, how, hashes, contents)


def _write(path: Path, decoded: Decoded, key: str) -> None:
    unfinished = path.with_suffix(".tmp")
    try:
        held = {
            "pixels": decoded.pixels,
            "hashes": decoded.hashes,
            "how": json.dumps(asdict(decoded.preprocessing)),
            "contents": json.dumps(asdict(decoded.contents)),
            "digest": key,
        }
        with files.replacing(path, unfinished):
            torch.save(held, unfinished)
    except (OSError, RuntimeError) as error:
        log.warning("cannot keep the decoded images in %s, going on without: %s", path, error)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a cache file; yields False, after a warning, where none can be had."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock)
    except (OSError, NotImplementedError) as error:
        log.warning("cannot keep the decoded images in %s, going on without: %s", path, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _acquire(lock: FileLock) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that decodes the same images")
        lock.acquire()
