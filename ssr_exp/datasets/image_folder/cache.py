"""Keep decoded pixels, or what is known of them, in a file: a folder of images is read once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from torch import Tensor

from ssr_exp import files
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.image_folder.decoding import Decoded
from ssr_exp.datasets.image_folder.file_index import FileNames
from ssr_exp.datasets.image_folder.survey import Survey
from ssr_exp.datasets.images import digest
from ssr_exp.datasets.preprocessing import Preprocessing

log = logging.getLogger(__name__)

Content = dict[str, Any]  # of a file
Kept = TypeVar("Kept")


def cached(path: Path, decode: Callable[[], Decoded], allowed: int = 0) -> tuple[Decoded, str]:
    """Read images from `path`, or decode them and write them there.

    Args:
        path: of the file.
        decode: returns the images.
        allowed: how many files may have been left out; with more, they are decoded again.

    Returns:
        The images, their pixels mapped from the file where it existed, and their `images.digest`.
    """

    def made() -> tuple[Decoded, str]:
        decoded = decode()
        return decoded, digest(decoded.pixels)

    return _kept(path, made, _images, _of_images, allowed)


def surveyed(
    path: Path, names: FileNames, look: Callable[[], Survey], allowed: int = 0
) -> tuple[Survey, FileNames]:
    """Read from `path` what is known of images, or look at them and write it there.

    Args:
        path: of the file.
        names: of the images.
        look: returns what is known.
        allowed: as in `cached`.

    Returns:
        It, and the names, which all processes share where the file existed: they are mapped.
    """
    return _kept(path, lambda: (look(), names), _survey, _of_survey, allowed)


def regrouped(
    path: Path, known: Survey, members: Tensor, read: Callable[[Tensor], Tensor]
) -> Survey:
    """Know the pixels of other groups, for which some images are read again, once.

    Args:
        path: of the file of `surveyed`, beside which they are kept.
        known: what is known.
        members: uint8, the group of each image.
        read: see `Survey.histogram`.
    """
    if torch.equal(known.members, members):
        return known
    beside = path.with_stem(f"{path.stem}-{digest(members)[:16]}")
    counts = _kept(beside, lambda: known.regrouped(members, read), _counts, _of_counts, 0)
    return replace(known, members=members, counts=counts)


def _counts(content: Content) -> Tensor:
    counts: Tensor = content["counts"]
    if digest(counts) != content["digest"]:
        raise ValueError("it is not what was written")
    return counts


def _of_counts(counts: Tensor) -> Content:
    return {"counts": counts, "digest": digest(counts)}


def _kept(
    path: Path,
    make: Callable[[], Kept],
    parse: Callable[[Content], Kept],
    content: Callable[[Kept], Content],
    allowed: int,
) -> Kept:
    """Read a file, or make what it holds and write it.

    Of several processes that ask at once, one makes it and the others wait for its file. A damaged
    file is made anew. Where the file cannot be written, what was made comes back all the same.
    """
    if (kept := _parsed(path, parse, allowed)) is not None:
        return kept
    with _locked(path) as writable:
        if writable and (kept := _parsed(path, parse, allowed, warn=False)) is not None:
            return kept
        kept = make()
        if writable:
            _write(path, content(kept))
        return kept


def _parsed(
    path: Path, parse: Callable[[Content], Kept], allowed: int, *, warn: bool = True
) -> Kept | None:
    """Read a file, if it is what is written here, and undamaged."""
    try:
        content = torch.load(path, weights_only=True, mmap=True)
        return parse(content) if len(content.get("left_out", ())) <= allowed else None
    except FileNotFoundError:
        return None
    except Exception as error:  # damage shows in many ways
        log.debug("%s: %s", path, error)
    if warn:
        log.warning("the cache file %s is damaged: the images are decoded again", path)
    return None


def _images(content: Content) -> tuple[Decoded, str]:
    pixels, hashes, key = content["pixels"], content["hashes"], content["digest"]
    how, contents = _described(content)
    masks = content.get("masks")
    c, *size = pixels.shape[1:]
    is_described = pixels.dtype is torch.uint8 and (c, tuple(size)) == (how.channels, how.size)
    is_hashed = hashes.dtype is torch.int64 and hashes.shape == pixels.shape[:1]
    is_masked = masks is None or digest(masks) == content["masks_digest"]
    if not (is_described and is_hashed and is_masked and digest(pixels) == key):
        raise ValueError("it is not what was written")
    left_out = tuple(content.get("left_out", ()))
    return Decoded(pixels, how, hashes, contents, masks, left_out), key


def _of_images(kept: tuple[Decoded, str]) -> Content:
    decoded, key = kept
    content = _description(decoded) | {"pixels": decoded.pixels, "digest": key}
    if decoded.masks is not None:
        content |= {"masks": decoded.masks, "masks_digest": digest(decoded.masks)}
    return content


def _survey(content: Content) -> tuple[Survey, FileNames]:
    if _checksums(content) != content["checksums"]:
        raise ValueError("it is not what was written")
    how, contents = _described(content)
    known = Survey(
        how,
        content["digest"],
        content["hashes"],
        contents,
        content["members"],
        content["counts"],
        tuple(content["left_out"]),
    )
    return known, FileNames(content["text"], content["ends"])


def _of_survey(kept: tuple[Survey, FileNames]) -> Content:
    known, names = kept
    content = _description(known) | {"digest": known.digest, "text": names.text}
    content |= {"members": known.members, "counts": known.counts, "ends": names.ends}
    return content | {"checksums": _checksums(content)}


def _checksums(content: Content) -> dict[str, str]:
    return {name: digest(part) for name, part in content.items() if isinstance(part, Tensor)}


def _description(kept: Decoded | Survey) -> Content:
    """Return what is written of images in memory and of others."""
    return {
        "hashes": kept.hashes,
        "how": json.dumps(asdict(kept.preprocessing)),
        "contents": json.dumps(asdict(kept.contents)),
        "left_out": list(kept.left_out),
    }


def _described(content: Content) -> tuple[Preprocessing, Contents]:
    how = TypeAdapter(Preprocessing).validate_json(content["how"])
    return how, TypeAdapter(Contents).validate_json(content["contents"])


def _write(path: Path, content: Content) -> None:
    unfinished = path.with_suffix(".tmp")
    try:
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
            # Of a disk without flock, the lock of a process that was killed elsewhere stays.
            log.info(
                "waiting for another process that decodes the same images: if there is none, "
                "remove %s",
                lock.lock_file,
            )
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
