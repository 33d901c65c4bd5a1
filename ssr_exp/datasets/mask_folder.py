"""Find images and their masks in a folder, and the parts that they came in."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ssr_exp import terminal
from ssr_exp.datasets.image_folder import tree
from ssr_exp.datasets.image_folder.parts import ALL, PARTS, listed, part_of
from ssr_exp.datasets.image_folder.tree import File, Folder
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError, cause, in_one_line

MASKS = "dataset=masks dataset.root=DIR"
LAYOUT = (
    "DIR/images and DIR/masks with files of the same names, or both below DIR/train with DIR/val "
    "and DIR/test beside it or not"
)
CACHE = 3  # raised whenever decoded masks become others, or are kept otherwise
NAMED = 3  # files in an error
_MASK_WORDS = frozenset(
    "annotation annotations annots ground groundtruth gt label labels mask masks seg segmentation"
    " segmentations trimap trimaps".split()
)
_IMAGE_WORDS = frozenset("image images img imgs input inputs jpegimages photos pictures".split())
# What stands between words of a name, as in `ped_masks`, `PedMasks` or `PNGImages`.
_WORDS = re.compile(r"[ _.-]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ADDED = re.compile(r"[ _-](mask|masks|label|labels|gt|seg|segmentation|annotation)$", re.I)

Key = tuple[str, str]  # of a part, and the name that an image and its mask share


@dataclass(frozen=True)
class MaskListing:
    """Image files and their masks, in an order that does not depend on the file system."""

    images: tuple[str, ...]  # paths below the folder
    masks: tuple[str, ...]
    stats: tuple[tuple[int, int], ...]  # size in bytes and time in ns, of each image and each mask
    parts: dict[str, int]  # how many images each has: `train`, `val`, `test`; or only `all`
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def key(self, root: Path, how: Preprocessing) -> str:
        """Hash what a cache of the decoded images and masks depends on."""
        asked = [CACHE, str(root.resolve()), how.size if how.fit else None, how.fit, how.background]
        asked += [] if how.crop_share == 1 else [how.crop_share]
        rows = [*zip((*self.images, *self.masks), self.stats, strict=True)]
        text = json.dumps([*asked, len(self.images), rows])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@in_one_line()
def scan(root: Path) -> MaskListing:
    """List the images below a folder that have a mask, each with its mask.

    The innermost folder whose name says so decides whether a file is a mask (`masks`,
    `train_masks`, `annotations`) or an image, and of which part it is (`train`, `images/val`,
    `test_images`). Image and mask have the same name up to the suffix; a mask's may end with
    `_mask` and the like, and where no folder decides, that does. A val or test without any masks
    is left out.

    Raises:
        SsrError: the folder cannot be read, holds no masks, or some images or masks have no other.
    """
    try:
        if not root.is_dir():
            raise SsrError(f"there is no folder {root}: type dataset.root=DIR, holding {LAYOUT}")
        return _listing(root, tree.read(root))
    except (OSError, ValueError, RecursionError) as error:
        raise SsrError(
            f"cannot read the folder {str(root)!r:.200} ({cause(error)}): type dataset.root=DIR, "
            f"holding {LAYOUT}"
        ) from error


def _listing(root: Path, top: Folder) -> MaskListing:
    left_out: Counter[str] = Counter()
    images, masks = dict[Key, tuple[str, File]](), dict[Key, tuple[str, File]]()
    for path, file in _files(top, left_out):
        is_mask, part, name = _roles(path)
        _add(masks if is_mask else images, (part, name), path, file, root)
    if not images or not masks:
        what = "images" if masks else "masks"
        kinds = f" (but {', '.join(sorted(left_out))})" if left_out else ""
        raise SsrError(
            f"{root} holds no {what}{kinds}: it must hold {LAYOUT}; masks are PNG files whose "
            "pixels are numbers of classes"
        )
    masks = _renamed(images, masks)
    warnings = []
    for part in {part for part, _ in images} - {part for part, _ in masks} - {"train", ALL}:
        gone = [key for key in images if key[0] == part]
        images = {key: at for key, at in images.items() if key[0] != part}
        warnings.append(f"the {len(gone):,} images of {part} have no masks: they are left out")
    _check_pairs(root, images, masks)
    _check_parts(root, images)
    order = sorted(images, key=lambda key: (PARTS.index(key[0]) if key[0] != ALL else 0, key[1]))
    pairs = [(images[key], masks[key]) for key in order]
    files = [*(image for image, _ in pairs), *(mask for _, mask in pairs)]
    counts = Counter(part for part, _ in order)
    return MaskListing(
        tuple(path for (path, _), _ in pairs),
        tuple(path for _, (path, _) in pairs),
        tuple((file.size, file.mtime_ns) for _, file in files),
        dict(counts),
        dict(left_out.most_common()),
        tuple(warnings),
    )


def _files(top: Folder, left_out: Counter[str]) -> Iterator[tuple[str, File]]:
    for where, folder in top.walk():
        left_out.update(folder.left_out)
        for file in folder.files:
            if file.is_image and not file.fault:
                yield f"{where}{file.name}", file
            else:
                left_out[file.fault or file.kind] += 1


def _roles(path: str) -> tuple[bool, str, str]:
    """Tell whether a file is a mask, of which part it is, and what it shares with its other."""
    is_mask, part, rest = None, None, list[str]()
    *folders, _ = PurePosixPath(path).parts
    for name in reversed(folders):
        words = {word.casefold() for word in (name, *_WORDS.split(name))}
        parts = [part_of(name), *filter(None, map(part_of, sorted(words)))]
        says = bool(words & _MASK_WORDS), bool(words & _IMAGE_WORDS)
        if is_mask is None and any(says):
            is_mask = says[0]
        if part is None:
            part = next(filter(None, parts), None)
        if not any(says) and not any(parts):
            rest.append(name)
    stem = PurePosixPath(path).stem
    if is_mask is None:
        is_mask = _ADDED.search(stem) is not None
    # Systems write accents in several forms, which are one name.
    return is_mask, part or ALL, unicodedata.normalize("NFC", "/".join([*reversed(rest), stem]))


def _add(where: dict[Key, tuple[str, File]], key: Key, path: str, file: File, root: Path) -> None:
    if (other := where.setdefault(key, (path, file))[0]) != path:
        raise SsrError(
            f"{root} has {other} and {path}, which have one name: leave one of them, as a mask "
            "belongs to the image of its name"
        )


def _renamed(
    images: Mapping[Key, object], masks: dict[Key, tuple[str, File]]
) -> dict[Key, tuple[str, File]]:
    """Take `_mask` and the like off the names of masks that no image has."""
    renamed = dict[Key, tuple[str, File]]()
    for (part, name), at in masks.items():
        shorter = (part, _ADDED.sub("", name))
        is_other = (part, name) not in images and shorter in images and shorter not in masks
        renamed[shorter if is_other else (part, name)] = at
    return renamed


def _check_pairs(
    root: Path, images: Mapping[Key, tuple[str, File]], masks: Mapping[Key, tuple[str, File]]
) -> None:
    for what, mine, other, theirs in (
        ("images", images, "mask", masks),
        ("masks", masks, "image", images),
    ):
        if lone := [path for key, (path, _) in mine.items() if key not in theirs]:
            raise SsrError(
                f"{len(lone):,} of {len(mine):,} {what} of {root} have no {other} of the same name "
                f"({named(sorted(lone))}): add it, or remove them; a folder must hold {LAYOUT}"
            )


def _check_parts(root: Path, images: Mapping[Key, tuple[str, File]]) -> None:
    parts = {part for part, _ in images}
    if ALL in parts and len(parts) > 1:
        path = next(path for (part, _), (path, _) in images.items() if part == ALL)
        raise SsrError(
            f"{root} holds images of {listed(sorted(parts - {ALL}))}, and {path}, which is in no "
            "part: move it into one"
        )
    if parts != {ALL} and "train" not in parts:
        raise SsrError(f"{root} holds images of {listed(sorted(parts))} alone: add a train folder")


def named(paths: Iterable[str]) -> str:
    """Name the first files, and count the others."""
    return terminal.first_of(list(paths), NAMED)
