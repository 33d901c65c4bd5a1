"""Keep decoded pixels in a file, so that a folder of images is decoded once."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ssr_exp.training.images import digest

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


def cached(path: Path, decode: Callable[[], Tensor]) -> tuple[Tensor, str]:
    """Read pixels from `path`, or decode them and write them there.

    Of several processes that ask at once, one decodes and the others wait for its file. A damaged
    file is made anew. Where the file cannot be written, the pixels come back all the same.

    Args:
        path: the cache file; its name says what it holds.
        decode: makes the pixels, uint8.

    Returns:
        The pixels, mapped from the file where it existed, and their `images.digest`.
    """
    found = _read(path)
    if found is not None:
        return found
    with _locked(path) as writable:
        found = _read(path) if writable else None
        if found is not None:
            return found
        pixels = decode()
        key = digest(pixels)
        if writable:
            _write(path, pixels, key)
        return pixels, key


def _read(path: Path) -> tuple[Tensor, str] | None:
    try:
        held = torch.load(path, weights_only=True, mmap=True)
        pixels, key = held["pixels"], held["digest"]
        if pixels.dtype is torch.uint8 and pixels.ndim == 4 and digest(pixels) == key:
            return pixels, key
    except FileNotFoundError:
        return None
    except _UNREADABLE:
        pass
    log.warning("the cache file %s is damaged: the images are decoded again", path)
    return None


def _write(path: Path, pixels: Tensor, key: str) -> None:
    unfinished = path.with_suffix(".tmp")
    try:
        torch.save({"pixels": pixels, "digest": key}, unfinished)
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
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
