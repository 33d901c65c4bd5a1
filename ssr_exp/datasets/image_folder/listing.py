"""Find the images of a folder of class folders, and the split that the folder came with."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssr_exp.datasets.image_folder import layout, tree
from ssr_exp.datasets.image_folder.file_index import FileNames
from ssr_exp.datasets.image_folder.parts import LAYOUT
from ssr_exp.datasets.image_folder.tree import UNREAD, File, Folder
from ssr_exp.datasets.preprocessing import SUFFIXES, Preprocessing
from ssr_exp.datasets.reading import ImageOrigin
from ssr_exp.errors import SsrError, cause, in_one_line, one_line

HELD_OUT = ("val", "test")  # parts that nothing is learnt from
UNREADABLE = "damaged"  # why a file is left out
SURVEY = 2  # as `CACHE`, of what is kept of images that are streamed
CACHE = 3  # raised whenever decoded images become others, or are kept otherwise


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, in an order that does not depend on the file system.

    Files go part by part, class by class, by name.
    """

    files: FileNames  # paths below the folder
    stats: NDArray[np.int64]  # `n x 2`: size in bytes and time in ns of each
    labels: NDArray[np.int64]  # `n`: for each file the position of its class in `classes`
    classes: tuple[str, ...]  # names of the class folders, sorted
    parts: dict[str, int]  # how many files each has: `train`, `val`, `test`; or only `all`
    origin: ImageOrigin  # the folder, and what was noticed there
    unread: dict[str, str]  # by the class, in words, its images to learn that are not read

    def key(self, how: Preprocessing) -> str:
        """Hash what a cache of the decoded images depends on: its format, names, times, how."""
        pairs = zip(self.files, self.stats.tolist(), strict=True)
        rows = [(file, *stat) for file, stat in pairs]
        root, (h, w) = str(self.origin.root.resolve()), how.size
        size = h if h == w else how.size  # of a square its side, as before there were others
        asked = [CACHE, root, size if how.fit else None, rows, how.fit, how.background]
        asked += [] if how.crop_share == 1 else [how.crop_share]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]

    def streamed_key(self, how: Preprocessing) -> str:
        """Hash what is known of the images without keeping them depends on; quick for a million."""
        fit = [how.size if how.fit else None, how.fit, how.background, how.crop_share]
        asked = json.dumps([SURVEY, str(self.origin.root.resolve()), fit])
        sha = hashlib.sha256(asked.encode())
        for array in (self.files.text.numpy(), self.files.ends.numpy(), self.stats):
            sha.update(array.data)
        return sha.hexdigest()[:32]

    def without(self, left_out: Sequence[int]) -> Listing:
        """Leave out files, by their positions, that cannot be read.

        Raises:
            SsrError: if a part has no other.
        """
        if not left_out:
            return self
        stays = np.ones(len(self.files), np.bool_)
        stays[list(left_out)] = False
        ends = np.cumsum(list(self.parts.values()))
        starts = zip(self.parts, (0, *ends), ends, strict=False)
        parts = {part: int(stays[start:end].sum()) for part, start, end in starts}
        if empty := [part for part, count in parts.items() if not count]:
            raise SsrError(
                f"all {self.parts[empty[0]]:,} images of {empty[0]} in {self.origin.root} are "
                "damaged: replace them, or remove that folder"
            )
        origin = replace(self.origin, left_out=self.origin.left_out | {UNREADABLE: len(left_out)})
        return Listing(
            FileNames.of(self.files[i] for i in np.flatnonzero(stays).tolist()),
            self.stats[stays],
            self.labels[stays],
            self.classes,
            parts,
            origin,
            self.unread,
        )


@in_one_line()
def scan(root: Path) -> Listing:
    """List the images of `root/CLASS`, or of `root/train/CLASS` and `root/val` and `root/test`.

    Parts may have any of their usual names. Images may lie deeper inside a class folder. Hidden
    files and those of other kinds are left out, and counted.

    Raises:
        SsrError: the folder is missing or cannot be read, what its parts or classes are is not
            clear, a class has no images to learn, or what has the name of an image is no file, such
            as a pipe.
    """
    try:
        if not root.is_dir():
            raise SsrError(f"there is no folder {root}: type dataset.root=DIR, holding {LAYOUT}")
        return _listing(root)
    except (OSError, ValueError, RecursionError) as error:  # not allowed, or no name for a disk
        raise SsrError(
            f"cannot read the folder {str(root)!r:.200} ({cause(error)}): type dataset.root=DIR, "
            f"holding {LAYOUT}"
        ) from error


def _listing(root: Path) -> Listing:
    split = layout.find(tree.read(root))
    files: list[tuple[str, File]] = []
    sizes: list[int] = []  # of each class of each part
    counts: dict[str, int] = {}
    unread: dict[str, str] = {}
    for part, folder in split.parts.items():
        before = len(files)
        for name in split.classes:
            inner, prefix = folder.folders[name], f"{split.sources[part]}{name}/"
            images, others = _images(inner, prefix, is_learnt=part not in HELD_OUT)
            split.left_out.update(others)
            if part not in HELD_OUT and (words := _not_read(others)):
                unread[name] = words
            sizes.append(len(images))
            files += images
        counts[part] = len(files) - before
    labels = np.tile(np.arange(len(split.classes)), len(counts))
    return Listing(
        FileNames.of(path for path, _ in files),
        np.array([(file.size, file.mtime_ns) for _, file in files], np.int64).reshape(-1, 2),
        np.repeat(labels, sizes),
        split.classes,
        counts,
        ImageOrigin(
            {part: path.rstrip("/") for part, path in split.sources.items()},
            root,
            dict(split.left_out.most_common()),
            tuple(map(one_line, split.notes)),
            tuple(map(one_line, [*split.warnings, *_unread(split.left_out)])),
        ),
        unread,
    )


def _images(
    folder: Folder, prefix: str, *, is_learnt: bool
) -> tuple[list[tuple[str, File]], Counter[str]]:
    """List the images below a class folder with their paths below the root, sorted by these.

    Of a class that is learnt there are some; val and test may have none, in an empty folder. Files
    that are left out are counted, by their kind.
    """
    images: list[tuple[str, File]] = []
    others, left_out = Counter[str](), Counter[str]()
    for where, inner in folder.walk(prefix):
        left_out.update(inner.left_out)
        for file in inner.files:
            if file.fault and file.kind in SUFFIXES:
                raise SsrError(
                    f"{inner.path / file.name} is no file that holds an image ({file.fault}): "
                    "remove it"
                )
            if file.is_image:
                images.append((f"{where}{file.name}", file))
            else:
                others[file.kind] += 1
    if not images and (others or is_learnt):
        holds = f"only {others.total()} files of other kinds ({', '.join(sorted(others))})"
        removal = "remove the folder" if is_learnt else "leave the folder empty"
        unread = f"; {words}," if (words := _not_read(others)) else ":"
        raise SsrError(
            f"class folder {folder.path} has no images, {holds if others else 'it is empty'}"
            f"{unread} add images ({', '.join(sorted(SUFFIXES))}) or {removal}"
        )
    return sorted(images), left_out + others


def _not_read(others: Counter[str]) -> str:
    """Say which images of a class are not read, and what helps; empty: none are."""
    kinds = {kind: count for kind, count in sorted(others.items()) if kind in UNREAD}
    if not kinds:
        return ""
    are = "is not read: convert it" if sum(kinds.values()) == 1 else "are not read: convert them"
    return f"{', '.join(f'{n} {kind}' for kind, n in kinds.items())} {are} to PNG or JPEG"


def _unread(left_out: Counter[str]) -> list[str]:
    """Warn of images that are left out because their kind is not read."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if kind in UNREAD)
    if not kinds:
        return []
    return [
        f"images of kinds that are not read are left out ({kinds}): convert them to PNG or JPEG"
    ]
