"""Tell from a folder what its classes are, and refuse what is not clear."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ssr_exp.datasets.image_folder import parts
from ssr_exp.datasets.image_folder.parts import LAYOUT, WRAPPERS, Layout, listed, part_of
from ssr_exp.datasets.image_folder.tree import BROKEN, OTHERS, UNREAD, Folder, Inode
from ssr_exp.errors import SsrError

_FEW = 10  # images of a folder, of which one may lie beside the folders in it
_MASKS = frozenset(
    "annotation annotations ground_truth groundtruth gt label labels mask masks seg segmentation"
    " segmentationclass segmentations trimaps".split()
)  # beside images
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


def find(root: Folder) -> Layout:
    """Find parts and classes.

    Raises:
        SsrError: if there are none, or it is not clear what they are.
    """
    layout = parts.find(root)
    (first, top), *others = layout.parts.items()
    layout.classes = _classes(top)
    for part, inner in others:
        _check_same_classes(first, layout.classes, part, inner)
    for inner in layout.parts.values():
        _check_nested(inner)
        layout.notes += [note for note in _pooled(inner) if note not in layout.notes]
    layout.left_out = _left_out(root, layout)
    return layout


def _classes(folder: Folder) -> tuple[str, ...]:
    names = sorted(folder.folders)
    _check_content(folder, names)
    if len(names) < 2:
        has = (
            f"one class, '{names[0]}', but at least two are needed" if names else "no class folders"
        )
        raise SsrError(f"{folder.path} has {has}: dataset.root=DIR must hold {LAYOUT}")
    for name in filter(_NOT_UTF8.search, names):
        raise SsrError(
            f"the class folder {name!r} in {folder.path} is not named in UTF-8: rename it"
        )
    for same in alike(names):
        raise SsrError(
            f"the class folders {listed(same)} in {folder.path} differ in capital letters or "
            "accents alone: put their images together, or rename one"
        )
    return tuple(names)


def _check_content(folder: Folder, names: list[str]) -> None:
    """Refuse what would leave out a class, or take masks for one."""
    for file in folder.files:
        if file.fault == BROKEN and file.kind not in OTHERS:
            raise SsrError(
                f"the link {file.name} in {folder.path} leads nowhere, and it may be a class: mend "
                "it or remove it"
            )
    plain = {name.casefold() for name in names}
    if plain & _MASKS and plain & WRAPPERS and plain <= _MASKS | WRAPPERS:
        raise SsrError(
            f"the folders {listed(names)} in {folder.path} are named as images and their "
            f"masks or labels, and not as classes: dataset.root=DIR must hold {LAYOUT}; if they "
            "are classes, rename them"
        )


def alike(names: Iterable[str]) -> list[list[str]]:
    """List the names that are the same for a reader, or for another disk."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _check_same_classes(first: str, classes: tuple[str, ...], part: str, folder: Folder) -> None:
    missing = sorted(set(classes) - set(folder.folders))
    extra = sorted(set(folder.folders) - set(classes))
    if missing or extra:
        differ = "; names differ in capital letters or accents" if alike(missing + extra) else ""
        raise SsrError(
            f"{folder.path.parent} has different classes in {first} and {part} "
            f"(only in {first}: {_quoted(missing)}; only in {part}: {_quoted(extra)}{differ}): "
            "both must hold the same class folders, an empty one where val or test has no images"
        )


def _quoted(names: Iterable[str]) -> str:
    """List names; one with blanks around it is quoted, so that they are visible."""
    return ", ".join(repr(n) if n != n.strip() else n for n in names) or "none"


def _pooled(folder: Folder) -> Iterator[str]:
    """Say which classes hold folders whose images are taken together."""
    pooled = [(name, one.holders) for name, one in folder.folders.items() if len(one.holders) > 1]
    if pooled:
        name, holders = pooled[0]
        more = f", and so do {len(pooled) - 1} more classes" if len(pooled) > 1 else ""
        yield (
            f"class {name} holds the folders {listed(holders)}{more}: the images of each class "
            "are taken together"
        )


def _check_nested(folder: Folder) -> None:
    """Refuse classes that hold few images but the same folders: those may be the classes."""
    levels = {name: [one] for name, one in folder.folders.items()}
    while levels := {name: deep for name, ones in levels.items() if (deep := _deeper(ones))}:
        _check_level(folder, levels)
        levels = {
            n: [f for one in deep for f in one.holders.values()] for n, deep in levels.items()
        }


def _deeper(folders: Iterable[Folder]) -> list[Folder]:
    """List the folders whose images lie deeper, but for a few: each once, whatever links say."""
    deep = {one.inode: one for one in folders if one.images <= max(1, one.total // _FEW)}
    return [one for one in deep.values() if one.holders]


def _check_level(folder: Folder, level: Mapping[str, list[Folder]]) -> None:
    """Refuse classes, in `folder`, of which the folders of one level hold the same folders."""
    inner = {name: {n for one in ones for n in one.holders} for name, ones in level.items()}
    counts = Counter(name for names in inner.values() for name in names)
    outer = sorted(o for o, names in inner.items() if all(counts[name] > 1 for name in names))
    repeated = sorted({name for o in outer for name in inner[o]})
    if len(repeated) < 2:
        return  # such as CLASS/images/IMAGE
    if all(part_of(name) for name in repeated):
        advice = f"move them up, to {repeated[0]}/{outer[0]} and {repeated[1]}/{outer[0]} and so on"
    else:
        first = max(level[outer[0]], key=lambda one: len(one.holders))
        advice = (
            f"if {listed(repeated)} are the classes, type dataset.root={first.path} to take "
            f"those of {first.path.relative_to(folder.path)} alone, or put the images of each "
            f"together in one folder; if {listed(outer)} are, move their images out of the "
            "folders within"
        )
    few = "few" if any(folder.folders[name].images for name in outer) else "no"
    raise SsrError(
        f"in {folder.path} {listed(outer)} hold {few} images but the same folders "
        f"{listed(repeated)}, so what the classes are is not clear: {advice}"
    )


def _left_out(root: Folder, layout: Layout) -> Counter[str]:
    """Count the images that belong to no class, and what is hidden or of kinds that are not read.

    What lies in class folders is not counted.
    """
    visited = {one.inode for part in layout.parts.values() for one in part.folders.values()}
    above = {inode for way in layout.sources.values() for inode in _way(root, way)}
    left_out: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder.inode not in visited:
            visited.add(folder.inode)
            waiting += folder.folders.values()
            where = "beside the class folders" if folder.inode in above else "in other folders"
            left_out[where] += folder.images
            left_out += folder.left_out
            left_out.update(file.kind for file in folder.files if file.kind in UNREAD)
    return +left_out


def _way(folder: Folder, way: str) -> Iterator[Inode]:
    yield folder.inode
    for name in filter(None, way.split("/")):
        folder = folder.folders[name]
        yield folder.inode
