"""Find the images of a folder of class folders, and the split that the folder came with."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ssr_exp.datasets.image_folder import layout, tree
from ssr_exp.datasets.image_folder.layout import LAYOUT
from ssr_exp.datasets.image_folder.tree import SUFFIXES, UNREAD, File, Folder
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError, cause, in_one_line, one_line

CACHE = 2  # raised whenever decoded images become others, or are kept otherwise


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
        stats: size in bytes and time of each file, in ns.
        sources: for each part the folder below `root` that it is.
        left_out: how many files are not among them, by kind or reason.
        notes: what is to be said of them.
        warnings: likewise, where it may be wrong.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    parts: dict[str, int]
    stats: tuple[tuple[int, int], ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def key(self, how: Preprocessing) -> str:
        """Hash what a cache of the decoded images depends on: its format, names, times, how."""
        rows = [(file, *stat) for file, stat in zip(self.files, self.stats, strict=True)]
        asked = [CACHE, str(self.root.resolve()), how.size[0] if how.fit else None, rows]
        asked += [how.fit, how.background]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


@in_one_line()
def scan(root: Path) -> Listing:
    """List the images of `root/CLASS`, or of `root/train/CLASS` and `root/val` and `root/test`.

    Parts may have any of their usual names. Images may lie deeper inside a class folder. Hidden
    files and those of other kinds are left out, and counted.

    Raises:
        SsrError: the folder is missing or empty, has no or only one class, has a class without
            images, its parts differ in their classes, or what its classes are is not clear; a
            class's name is no text, or what has an image's name is no file that can be read, such
            as a pipe or a broken link.
    """
    try:
        if not root.is_dir():
            raise SsrError(f"there is no folder {root}: type dataset.root=DIR, holding {LAYOUT}")
        return _scanned(root)
    except (OSError, ValueError, RecursionError) as error:  # not allowed, or no name for a disk
        raise SsrError(
            f"cannot read the folder {str(root)!r:.200} ({cause(error)}): type dataset.root=DIR, "
            f"holding {LAYOUT}"
        ) from error


def _scanned(root: Path) -> Listing:
    found = layout.find(tree.read(root))
    files: list[tuple[str, File]] = []
    labels: list[int] = []
    counts: dict[str, int] = {}
    left_out = found.left_out
    for part, folder in found.parts.items():
        before = len(files)
        for label, name in enumerate(found.classes):
            own = _images(folder.folders[name], f"{found.sources[part]}{name}/", left_out)
            files += own
            labels += [label] * len(own)
        counts[part] = len(files) - before
    return Listing(
        root,
        tuple(path for path, _ in files),
        tuple(labels),
        found.classes,
        counts,
        stats=tuple((file.size, file.mtime_ns) for _, file in files),
        sources=found.sources,
        left_out=dict(left_out.most_common()),
        notes=tuple(map(one_line, found.notes)),
        warnings=tuple(map(one_line, (*found.warnings, *_unread(left_out)))),
    )


def _images(folder: Folder, prefix: str, left_out: Counter[str]) -> list[tuple[str, File]]:
    """List the images below a class folder with their paths below the root, sorted by these."""
    found: list[tuple[str, File]] = []
    others: Counter[str] = Counter()
    for where, inner in folder.walk(prefix):
        left_out.update(inner.left_out)
        for file in inner.files:
            if file.fault and file.kind in SUFFIXES:
                raise SsrError(
                    f"{inner.path / file.name} is no file that holds an image ({file.fault}): "
                    "remove it"
                )
            if file.is_image:
                found.append((f"{where}{file.name}", file))
            else:
                others[file.kind] += 1
    if not found:
        raise SsrError(_no_images(folder, others))
    left_out.update(others)
    return sorted(found)


def _no_images(folder: Folder, others: Counter[str]) -> str:
    holds = f"only {others.total()} files of other kinds ({', '.join(sorted(others))})"
    return (
        f"class folder {folder.path} has no images, {holds if others else 'it is empty'}: add "
        f"images ({', '.join(sorted(SUFFIXES))}) or remove the folder"
    )


def _unread(left_out: Counter[str]) -> list[str]:
    """Warn of images that are left out because their kind is not read."""
    kinds = {kind: count for kind, count in left_out.items() if kind in UNREAD}
    if not kinds:
        return []
    words = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return [
        f"images of kinds that are not read are left out ({words}): convert them to PNG or JPEG"
    ]
