"""Find the images of a folder of class folders, and the split that the folder came with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError, cause

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    ".bmp .gif .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()
)  # lower case
PARTS = ("train", "val", "test")
_LAYOUT = "DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE with DIR/val and DIR/test beside it or not"


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, in an order that does not depend on the file system.

    Attributes:
        root: the folder.
        files: paths below `root`, part by part, class by class, by name.
        labels: for each file the position of its class in `classes`.
        classes: names of the class folders, sorted.
        parts: for each part (`train`, `val`, `test`; or only `all`) how many of `files` it has,
            in their order.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    parts: dict[str, int]

    def key(self, how: Preprocessing) -> str:
        """Hash what a cache of the decoded images depends on: names, sizes, times, how."""
        found = [os.stat(self.root / file) for file in self.files]
        rows = [
            (file, one.st_size, one.st_mtime_ns)
            for file, one in zip(self.files, found, strict=True)
        ]
        resize = how.size[0] if how.fit else None
        text = json.dumps([str(self.root.resolve()), resize, rows, how.fit, how.background])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def scan(root: Path) -> Listing:
    """List the images of `root/CLASS`, or of `root/train/CLASS` and `root/val` and `root/test`.

    Images may lie deeper inside a class folder. Hidden files and other kinds of files are left
    out.

    Raises:
        SsrError: the folder is missing or empty, has no or only one class, has a class without
            images, or its parts differ in their classes; a class's name is no text, or what has
            an image's name is no file that can be read, such as a pipe or a broken link.
    """
    try:
        if not root.is_dir():
            raise SsrError(f"there is no folder {root}: type dataset.root=DIR, holding {_LAYOUT}")
        return _scanned(root)
    except (OSError, ValueError) as error:  # not allowed, or a name that no disk can hold
        raise SsrError(
            f"cannot read the folder {str(root)!r:.200} ({cause(error)}): type dataset.root=DIR, "
            f"holding {_LAYOUT}"
        ) from error


def _scanned(root: Path) -> Listing:
    parts = _parts(root)
    classes = _classes(parts[0][1])
    for name, folder in parts[1:]:
        _same_classes(parts[0][0], classes, name, folder)
    files: list[str] = []
    labels: list[int] = []
    counts: dict[str, int] = {}
    for name, folder in parts:
        before = len(files)
        for label, class_name in enumerate(classes):
            found = _images(root, folder / class_name)
            files += found
            labels += [label] * len(found)
        counts[name] = len(files) - before
    return Listing(root, tuple(files), tuple(labels), classes, counts)


def _parts(root: Path) -> list[tuple[str, Path]]:
    """Return the parts that a folder came with; a folder that holds images only is a class."""
    folders = _subfolders(root)
    given = [(name, root / name) for name in PARTS if name in folders and _subfolders(root / name)]
    names = [name for name, _ in given]
    if not given:
        return [("all", root)]
    if "train" not in names:
        raise SsrError(
            f"{root} has {' and '.join(names)} but no train folder: add {root / 'train'}, or type "
            f"dataset.root={root / names[0]} to split that one"
        )
    unused = sorted(set(folders) - set(names))
    if unused:
        log.warning("%s has a train folder: its folders %s are not used", root, ", ".join(unused))
    return given


def _classes(folder: Path) -> tuple[str, ...]:
    names = _subfolders(folder)
    if not names:
        raise SsrError(f"{folder} has no class folders: dataset.root=DIR must hold {_LAYOUT}")
    if len(names) == 1:
        raise SsrError(
            f"{folder} has one class, '{names[0]}', but at least two are needed: "
            f"dataset.root=DIR must hold {_LAYOUT}"
        )
    for name in names:
        if not _is_text(name):
            raise SsrError(
                f"the class folder {name!r} in {folder} is not named in UTF-8: rename it"
            )
    return tuple(names)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same_classes(first: str, classes: tuple[str, ...], name: str, folder: Path) -> None:
    others = set(_subfolders(folder))
    missing, extra = sorted(set(classes) - others), sorted(others - set(classes))
    if missing or extra:
        raise SsrError(
            f"{folder.parent} has different classes in {first} and {name} "
            f"(only in {first}: {', '.join(missing) or 'none'}; only in {name}: "
            f"{', '.join(extra) or 'none'}): both must hold the same class folders"
        )


def _images(root: Path, folder: Path) -> list[str]:
    """List the images below a class folder, as sorted paths below `root`."""
    found: list[str] = []
    others: Counter[str] = Counter()
    for path in _files(folder):
        if path.suffix.lower() not in SUFFIXES:
            others[path.suffix.lower() or "no suffix"] += 1
        elif not stat.S_ISREG(os.stat(path).st_mode):  # a pipe, which nobody may ever write to
            raise SsrError(f"{path} is no file that holds an image: remove it")
        else:
            found.append(path.relative_to(root).as_posix())
    if not found:
        raise SsrError(_no_images(folder, others))
    return sorted(found)


def _files(folder: Path) -> Iterator[Path]:
    """List all files below a folder, hidden ones left out; each folder once, whatever links say."""
    seen: set[tuple[int, int]] = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        here = os.stat(where)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where, name) for name in names if not name.startswith("."))


def _no_images(folder: Path, others: Counter[str]) -> str:
    holds = f"only {others.total()} files of other kinds ({', '.join(sorted(others))})"
    return (
        f"class folder {folder} has no images, {holds if others else 'it is empty'}: add images "
        f"({', '.join(sorted(SUFFIXES))}) or remove the folder"
    )


def _subfolders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in `folder`, hidden ones left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
