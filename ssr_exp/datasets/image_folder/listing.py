"""Find the images of a folder of class folders, and the split that the folder came with."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ssr_exp.datasets.image_folder import layout, tree
from ssr_exp.datasets.image_folder.parts import LAYOUT
from ssr_exp.datasets.image_folder.tree import SUFFIXES, UNREAD, File, Folder
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import ImageOrigin
from ssr_exp.errors import SsrError, cause, in_one_line, one_line

CACHE = 2  # raised whenever decoded images become others, or are kept otherwise


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, in an order that does not depend on the file system.

    Files go part by part, class by class, by name.
    """

    files: tuple[str, ...]  # paths below the folder
    stats: tuple[tuple[int, int], ...]  # size in bytes and time in ns of each
    labels: tuple[int, ...]  # for each file the position of its class in `classes`
    classes: tuple[str, ...]  # names of the class folders, sorted
    parts: dict[str, int]  # how many files each has: `train`, `val`, `test`; or only `all`
    origin: ImageOrigin  # the folder, and what was noticed there

    def key(self, how: Preprocessing) -> str:
        """Hash what a cache of the decoded images depends on: its format, names, times, how."""
        rows = [(file, *stat) for file, stat in zip(self.files, self.stats, strict=True)]
        root, (h, w) = str(self.origin.root.resolve()), how.size
        size = h if h == w else how.size  # of a square its side, as before there were others
        asked = [CACHE, root, size if how.fit else None, rows, how.fit, how.background]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


@in_one_line()
def scan(root: Path) -> Listing:
    """List the images of `root/CLASS`, or of `root/train/CLASS` and `root/val` and `root/test`.

    Parts may have any of their usual names. Images may lie deeper inside a class folder. Hidden
    files and those of other kinds are left out, and counted.

    Raises:
        SsrError: the folder is missing or cannot be read, what its parts or classes are is not
            clear, a class has no images, or what has an image's name is no file, such as a pipe.
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
    labels: list[int] = []
    counts: dict[str, int] = {}
    for part, folder in split.parts.items():
        before = len(files)
        for label, name in enumerate(split.classes):
            files += _images(folder.folders[name], f"{split.sources[part]}{name}/", split.left_out)
            labels += [label] * (len(files) - len(labels))
        counts[part] = len(files) - before
    return Listing(
        tuple(path for path, _ in files),
        tuple((file.size, file.mtime_ns) for _, file in files),
        tuple(labels),
        split.classes,
        counts,
        ImageOrigin(
            {part: path.rstrip("/") for part, path in split.sources.items()},
            root,
            dict(split.left_out.most_common()),
            tuple(map(one_line, split.notes)),
            tuple(map(one_line, [*split.warnings, *_unread(split.left_out)])),
        ),
    )


def _images(folder: Folder, prefix: str, left_out: Counter[str]) -> list[tuple[str, File]]:
    """List the images below a class folder with their paths below the root, sorted by these."""
    images: list[tuple[str, File]] = []
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
                images.append((f"{where}{file.name}", file))
            else:
                others[file.kind] += 1
    if not images:
        holds = f"only {others.total()} files of other kinds ({', '.join(sorted(others))})"
        raise SsrError(
            f"class folder {folder.path} has no images, {holds if others else 'it is empty'}: add "
            f"images ({', '.join(sorted(SUFFIXES))}) or remove the folder"
        )
    left_out.update(others)
    return sorted(images)


def _unread(left_out: Counter[str]) -> list[str]:
    """Warn of images that are left out because their kind is not read."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if kind in UNREAD)
    if not kinds:
        return []
    return [
        f"images of kinds that are not read are left out ({kinds}): convert them to PNG or JPEG"
    ]
