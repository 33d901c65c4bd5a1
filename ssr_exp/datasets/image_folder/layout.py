"""Tell from a folder what its parts are, train, val and test, and what its classes are."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ssr_exp.datasets.image_folder.tree import BROKEN, OTHERS, UNREAD, Folder, Inode
from ssr_exp.errors import SsrError

LAYOUT = "DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE with DIR/val and DIR/test beside it or not"
PARTS = ("train", "val", "test")
ALL = "all"  # the one part of a folder that is split here
_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "holdout", "hold-out", "hold_out"),
}
_PART = {name: part for part, names in _NAMES.items() for name in names}
_ADDED = re.compile(r"([ _-]?(set|data|images|imgs|split)|[ _-]*\d+)+$")  # also 2017, 1
_ASIDE = frozenset("extra gallery query unlabeled unlabelled unsup unsupervised".split())
_FEW = 10  # images of a folder, of which one may lie beside the folders in it
_MASKS = frozenset(
    "annotation annotations ground_truth groundtruth gt label labels mask masks seg segmentation"
    " segmentationclass segmentations trimaps".split()
)  # beside images
_WRAPPERS = frozenset(
    "data dataset image images img imgs jpeg jpegimages jpg photos pictures png raw".split()
)


@dataclass
class Layout:
    """Where the images of a folder are.

    Args:
        parts: for each part the folder that holds its classes; only `all` where it is to be split.
        sources: for each part the path of that folder below the root.
        classes: names of the class folders, sorted; the same in all parts.
        left_out: images that belong to no class, by the reason.
        notes: what is to be said of it.
        warnings: likewise, where it may be wrong.
    """

    parts: dict[str, Folder]
    sources: dict[str, str]
    classes: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find(root: Folder) -> Layout:
    """Find parts and classes.

    Raises:
        SsrError: if there are none, or it is not clear what they are.
    """
    where, folder = _unwrapped(root)
    found = _parts(folder, where)
    for part, inner in found.parts.items():
        further, found.parts[part] = _unwrapped(inner, any_name=True)
        found.sources[part] += further
    if where:
        found.notes.append(f"the images are those below {where}")
    (first, top), *others = found.parts.items()
    found.classes = _classes(top)
    for part, inner in others:
        _same_classes(first, found.classes, part, inner)
    for inner in found.parts.values():
        _check_nested(inner)
        found.notes += [note for note in _pooled(inner) if note not in found.notes]
    found.left_out = _left_out(root, found)
    return found


def part_of(name: str) -> str | None:
    """Say which part a folder's name stands for: `Training`, `test_set`, `val2017`; or none."""
    return _PART.get(_ADDED.sub("", name.casefold()))


def _unwrapped(folder: Folder, *, any_name: bool = False) -> tuple[str, Folder]:
    """Go into single folders around everything, as archives have them; returns the way there.

    Args:
        folder: where to begin.
        any_name: go into one with a part's name, too.
    """
    where = ""
    while not folder.images and len(folder.holders) == 1:
        ((name, inner),) = folder.holders.items()
        alone = len(folder.folders) == 1 or name.casefold() in _WRAPPERS
        if not alone or inner.images or not inner.holders or (part_of(name) and not any_name):
            break
        where, folder = f"{where}{name}/", inner
    return where, folder


def _parts(folder: Folder, where: str) -> Layout:
    """Find the parts that a folder came with; a folder that holds images only is a class."""
    named = _named(folder.holders)
    given = {name: part for name, part in named.items() if folder.folders[name].holders}
    others = [name for name in folder.holders if name not in given]
    if not given:
        return _unsplit(folder, where, named)
    _check_parts(folder, given, [name for name in others if name not in named])
    found = Layout(
        {part: folder.folders[name] for name, part in given.items()},
        {part: f"{where}{name}/" for name, part in given.items()},
    )
    if others:
        found.warnings.append(
            f"the images in {_listed(others)} are not used: {_listed(given)} hold the classes"
        )
    return found


def _named(names: Iterable[str]) -> dict[str, str]:
    """Tell which names stand for parts, train first: `Train`, or `seg_train` beside `seg_test`."""
    found = {name: part for name in names if (part := part_of(name))}
    if not found:
        groups: dict[str, dict[str, str]] = {}
        for name in names:
            before, _, last = re.sub(r"[ -]", "_", name).rpartition("_")
            if part := part_of(last):
                groups.setdefault(before, {})[name] = part
        found = next((own for own in groups.values() if len(set(own.values())) > 1), {})
    return dict(sorted(found.items(), key=lambda pair: PARTS.index(pair[1])))


def _unsplit(folder: Folder, where: str, named: Mapping[str, str]) -> Layout:
    """Take all folders for classes, unless some may be parts that have no class folders.

    A part beside another part, or beside one other folder alone, is hardly a class.
    """
    groups = _parts_of_classes(folder.holders)
    if len(groups) > 1 or (groups and not named):
        raise SsrError(_split_classes(folder, groups))
    aside = [name for name in folder.holders if _ADDED.sub("", name.casefold()) in _ASIDE]
    few = len(folder.holders) < 3
    if named and (few or aside or len(named) == len(folder.holders) or _several(named)):
        raise SsrError(_flat_parts(folder, [*named, *aside]))
    found = Layout({ALL: folder}, {ALL: where})
    found.warnings += [
        f"{name} is taken for a class: it holds images, as the other classes do; if it is a part "
        f"of the data set, move it out of {folder.path}"
        for name in named
    ]
    return found


def _several(named: Mapping[str, str]) -> bool:
    return len(set(named.values())) > 1


def _flat_parts(folder: Folder, names: list[str]) -> str:
    rest = [name for name in folder.holders if name not in names]
    beside = f", beside {_listed(rest)}" if rest else ""
    folders, hold = ("folders", "hold") if len(names) > 1 else ("folder", "holds")
    return (
        f"the {folders} {_listed(names)} of {folder.path} {hold} images and no class folders"
        f"{beside}: if these are parts of a data set, sort their images into class folders, as "
        f"dataset.root=DIR must hold {LAYOUT}, or move out of {folder.path} what is not to be "
        "used; if these are classes, rename them, so that none has the name of a part"
    )


def _parts_of_classes(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Find classes that came in parts: `cat_train` and `cat_test`, or `train_cat`, `test_cat`."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        words = re.split(r"[ _-]", name)
        for part, rest in ((part_of(words[-1]), words[:-1]), (part_of(words[0]), words[1:])):
            if part and rest and not part_of(name):
                groups.setdefault("_".join(rest), {})[name] = part
                break
    return {stem: own for stem, own in groups.items() if _several(own)}


def _split_classes(folder: Folder, groups: Mapping[str, Mapping[str, str]]) -> str:
    (stem, own), *_ = groups.items()
    to = [f"{part}/{stem}" for part in own.values()]
    names = [name for group in groups.values() for name in group]
    return (
        f"the folders {_listed(names)} of {folder.path} hold images, and are named as parts of "
        f"{_listed(groups)}: if they are, move {_listed(own)} to {_listed(to)}, and so on; if each "
        "is a class, rename them without the names of parts"
    )


def _check_parts(folder: Folder, given: Mapping[str, str], strangers: list[str]) -> None:
    """Refuse parts that are there twice, no train, and what may be a part or a class."""
    for part in PARTS:
        names = [name for name, own in given.items() if own == part]
        if len(names) > 1:
            raise SsrError(
                f"{folder.path} has {_listed(names)}, which are all names of {part}: keep one of "
                "them, or put their images together"
            )
    first = next(iter(given))
    if "train" not in given.values():
        raise SsrError(
            f"{folder.path} has {_listed(given)} but no train folder: add "
            f"{folder.path / 'train'}, or type dataset.root={folder.path / first} to split that one"
        )
    if len(given) == 1 and strangers:
        raise SsrError(
            f"{folder.path} has {first} with folders of images in it, and beside it "
            f"{_listed(strangers)}: type dataset.root={folder.path / first} to split what is in "
            f"{first}; if {first} is a class like the others, rename it"
        )


def _pooled(folder: Folder) -> Iterator[str]:
    """Say which classes hold folders whose images are taken together."""
    deep = {name: list(one.holders) for name, one in folder.folders.items()}
    pooled = [name for name, inner in deep.items() if len(inner) > 1]
    if pooled:
        more = f", and so do {len(pooled) - 1} more classes" if len(pooled) > 1 else ""
        yield (
            f"class {pooled[0]} holds the folders {_listed(deep[pooled[0]])}{more}: the images of "
            "each class are taken together"
        )


def _check_content(folder: Folder, names: Iterable[str]) -> None:
    """Refuse what would leave out a class, or take masks for one."""
    for file in folder.files:
        if file.fault == BROKEN and file.kind not in OTHERS:
            raise SsrError(
                f"the link {file.name} in {folder.path} leads nowhere, and it may be a class: mend "
                "it or remove it"
            )
    plain = {name.casefold() for name in names}
    if plain & _MASKS and plain & _WRAPPERS and plain <= _MASKS | _WRAPPERS:
        raise SsrError(
            f"the folders {_listed(sorted(names))} in {folder.path} are named as images and their "
            f"masks or labels, and not as classes: dataset.root=DIR must hold {LAYOUT}; if they "
            "are classes, rename them"
        )


def _classes(folder: Folder) -> tuple[str, ...]:
    names = sorted(folder.folders)
    _check_content(folder, names)
    if not names:
        raise SsrError(f"{folder.path} has no class folders: dataset.root=DIR must hold {LAYOUT}")
    if len(names) == 1:
        raise SsrError(
            f"{folder.path} has one class, '{names[0]}', but at least two are needed: "
            f"dataset.root=DIR must hold {LAYOUT}"
        )
    for name in names:
        if not _is_text(name):
            raise SsrError(
                f"the class folder {name!r} in {folder.path} is not named in UTF-8: rename it"
            )
    for alike in _alike(names):
        raise SsrError(
            f"the class folders {_listed(alike)} in {folder.path} differ in capital letters or "
            "accents alone: put their images together, or rename one"
        )
    return tuple(names)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _alike(names: Iterable[str]) -> list[list[str]]:
    """List the names that are the same for a reader, or for another disk."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _same_classes(first: str, classes: tuple[str, ...], part: str, folder: Folder) -> None:
    others = set(folder.folders)
    missing, extra = sorted(set(classes) - others), sorted(others - set(classes))
    if missing or extra:
        differ = "; names differ in capital letters or accents" if _alike(missing + extra) else ""
        raise SsrError(
            f"{folder.path.parent} has different classes in {first} and {part} "
            f"(only in {first}: {_quoted(missing)}; only in {part}: {_quoted(extra)}{differ}): "
            "both must hold the same class folders"
        )


def _quoted(names: Iterable[str]) -> str:
    """List names; one with blanks around it is quoted, so that they are seen."""
    return ", ".join(repr(n) if n != n.strip() else n for n in names) or "none"


def _check_nested(folder: Folder) -> None:
    """Refuse classes that hold few images but the same folders: those may be the classes."""
    levels = {name: [one] for name, one in folder.folders.items()}
    while levels := {name: own for name, ones in levels.items() if (own := _further(ones))}:
        inner = {name: {n for one in own for n in one.holders} for name, own in levels.items()}
        _check_level(folder, inner, levels)
        levels = {n: [f for one in own for f in one.holders.values()] for n, own in levels.items()}


def _further(folders: Iterable[Folder]) -> list[Folder]:
    """List the folders whose images lie deeper, but for a few: each once, whatever links say."""
    found = {one.inode: one for one in folders if one.images <= max(1, one.total // _FEW)}
    return [one for one in found.values() if one.holders]


def _check_level(
    folder: Folder, inner: Mapping[str, set[str]], holders: Mapping[str, list[Folder]]
) -> None:
    """Refuse classes that hold the same folders at one level.

    Args:
        folder: holds the classes.
        inner: for each class the names of the folders.
        holders: likewise the folders that hold them.
    """
    counts = Counter(name for names in inner.values() for name in names)
    outer = sorted(o for o, names in inner.items() if all(counts[name] > 1 for name in names))
    repeated = sorted({name for o in outer for name in inner[o]})
    if len(repeated) < 2:
        return  # such as CLASS/images/IMAGE
    if all(part_of(name) for name in repeated):
        advice = f"move them up, to {repeated[0]}/{outer[0]} and {repeated[1]}/{outer[0]} and so on"
    else:
        first = max(holders[outer[0]], key=lambda one: len(one.holders))
        advice = (
            f"if {_listed(repeated)} are the classes, type dataset.root={first.path} to take "
            f"those of {first.path.relative_to(folder.path)} alone, or put the images of each "
            f"together in one folder; if {_listed(outer)} are, move their images out of the "
            "folders within"
        )
    few = "few" if any(folder.folders[name].images for name in outer) else "no"
    raise SsrError(
        f"in {folder.path} {_listed(outer)} hold {few} images but the same folders "
        f"{_listed(repeated)}, so what the classes are is not clear: {advice}"
    )


def _left_out(root: Folder, found: Layout) -> Counter[str]:
    """Count the images that belong to no class, and what is hidden or of kinds that are not read.

    What lies in class folders is not counted.
    """
    seen = {one.inode for part in found.parts.values() for one in part.folders.values()}
    above = {inode for way in found.sources.values() for inode in _way(root, way)}
    left_out: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder.inode not in seen:
            seen.add(folder.inode)
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


def _listed(names: Iterable[str], most: int = 5) -> str:
    """Join names with commas and `and`; of many, the first ones."""
    shown = list(names)
    if len(shown) > most:
        return f"{', '.join(shown[:most])} and {len(shown) - most} others"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
