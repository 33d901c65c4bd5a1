"""Find the parts of a data set in a folder, train, val and test, by the names of its folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ssr_exp.datasets.image_folder.tree import Folder
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
_ADDED = re.compile(r"([ _-]?(set|data|images|imgs|split)|[ _-]*\d)+$")  # also 2017, 1
_ASIDE = frozenset("extra gallery query unlabeled unlabelled unsup unsupervised".split())
WRAPPERS = frozenset(
    "data dataset image images img imgs jpeg jpegimages jpg photos pictures png raw".split()
)


@dataclass
class Layout:
    """Where the images of a folder are."""

    parts: dict[str, Folder]  # what holds the classes of each part; only `all`: to be split
    sources: dict[str, str]  # for each part the path of that folder below the root
    classes: tuple[str, ...] = ()  # names of the class folders, sorted; the same in all parts
    left_out: Counter[str] = field(default_factory=Counter)  # in no class, by the reason
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # what may be wrong


def part_of(name: str) -> str | None:
    """Say which part a folder's name stands for: `Training`, `test_set`, `val2017`; or none."""
    return _PART.get(_plain(name))


def _plain(name: str) -> str:
    return _ADDED.sub("", name.casefold())


def find(root: Folder) -> Layout:
    """Find the parts that a folder came with; a folder that holds images only is a class.

    Raises:
        SsrError: if it is not clear which they are.
    """
    where, folder = _unwrapped(root)
    named = _named(folder.holders)
    given = {name: part for name, part in named.items() if folder.folders[name].holders}
    others = [name for name in folder.holders if name not in given]
    if given:
        _check_parts(folder, given, [name for name in others if name not in named])
        layout = Layout({}, {})
        for name, part in given.items():
            further, layout.parts[part] = _unwrapped(folder.folders[name], any_name=True)
            layout.sources[part] = f"{where}{name}/{further}"
        if others:
            layout.warnings.append(
                f"the images in {listed(others)} are not used: {listed(given)} hold the classes"
            )
    else:
        _check_classes(folder, named)
        layout = Layout({ALL: folder}, {ALL: where})
        layout.warnings += [
            f"{name} is taken for a class: it holds images, as the other classes do; if it is a "
            f"part of the data set, move it out of {folder.path}"
            for name in named
        ]
    if where:
        layout.notes.append(f"the images are those below {where}")
    return layout


def _unwrapped(folder: Folder, *, any_name: bool = False) -> tuple[str, Folder]:
    """Go into single folders around everything, as archives have them; returns the way there.

    Args:
        folder: where to begin.
        any_name: go into one with a part's name, too.
    """
    where = ""
    while not folder.images and len(folder.holders) == 1:
        ((name, inner),) = folder.holders.items()
        alone = len(folder.folders) == 1 or name.casefold() in WRAPPERS
        if not alone or inner.images or not inner.holders or (part_of(name) and not any_name):
            break
        where, folder = f"{where}{name}/", inner
    return where, folder


def _named(names: Iterable[str]) -> dict[str, str]:
    """Tell which names stand for parts, train first: `Train`, or `seg_train` beside `seg_test`."""
    named = {name: part for name in names if (part := part_of(name))}
    if not named:
        groups: dict[str, dict[str, str]] = {}
        for name in names:
            before, _, last = re.sub(r"[ -]", "_", name).rpartition("_")
            if part := part_of(last):
                groups.setdefault(before, {})[name] = part
        named = next(iter(_of_several_parts(groups).values()), {})
    return dict(sorted(named.items(), key=lambda pair: PARTS.index(pair[1])))


def _of_several_parts(groups: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {stem: parts for stem, parts in groups.items() if len(set(parts.values())) > 1}


def _check_classes(folder: Folder, named: Mapping[str, str]) -> None:
    """Refuse folders of images that may be parts without class folders.

    A part beside another part, or beside one other folder alone, is hardly a class.
    """
    groups = _split_classes(folder.holders)
    if len(groups) > 1 or (groups and not named):
        (stem, parts), *_ = groups.items()
        raise SsrError(
            f"the folders {listed(name for group in groups.values() for name in group)} of "
            f"{folder.path} hold images, and are named as parts of {listed(groups)}: if they are, "
            f"move {listed(parts)} to {listed(f'{part}/{stem}' for part in parts.values())}, and "
            "so on; if each is a class, rename them without the names of parts"
        )
    aside = [name for name in folder.holders if _plain(name) in _ASIDE]
    count, several = len(folder.holders), len(set(named.values())) > 1
    if named and (count < 3 or aside or len(named) == count or several):
        names = [*named, *aside]
        rest = [name for name in folder.holders if name not in names]
        beside = f", beside {listed(rest)}" if rest else ""
        folders, hold = ("folders", "hold") if len(names) > 1 else ("folder", "holds")
        raise SsrError(
            f"the {folders} {listed(names)} of {folder.path} {hold} images and no class folders"
            f"{beside}: if these are parts of a data set, sort their images into class folders, as "
            f"dataset.root=DIR must hold {LAYOUT}, or move out of {folder.path} what is not to be "
            "used; if these are classes, rename them, so that none has the name of a part"
        )


def _split_classes(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Find classes that came in parts: `cat_train` and `cat_test`, or `train_cat`, `test_cat`."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        words = re.split(r"[ _-]", name)
        for part, rest in ((part_of(words[-1]), words[:-1]), (part_of(words[0]), words[1:])):
            if part and rest and not part_of(name):
                groups.setdefault("_".join(rest), {})[name] = part
                break
    return _of_several_parts(groups)


def _check_parts(folder: Folder, given: Mapping[str, str], strangers: list[str]) -> None:
    """Refuse parts that are there twice, no train, and what may be a part or a class."""
    for part in PARTS:
        names = [name for name in given if given[name] == part]
        if len(names) > 1:
            raise SsrError(
                f"{folder.path} has {listed(names)}, which are all names of {part}: keep one of "
                "them, or put their images together"
            )
    first = next(iter(given))
    if "train" not in given.values():
        raise SsrError(
            f"{folder.path} has {listed(given)} but no train folder: add "
            f"{folder.path / 'train'}, or type dataset.root={folder.path / first} to split that one"
        )
    if len(given) == 1 and strangers:
        raise SsrError(
            f"{folder.path} has {first} with folders of images in it, and beside it "
            f"{listed(strangers)}: type dataset.root={folder.path / first} to split what is in "
            f"{first}; if {first} is a class like the others, rename it"
        )


def listed(names: Iterable[str], most: int = 5) -> str:
    """Join names with commas and `and`; of many, the first ones."""
    shown = list(names)
    if len(shown) > most:
        return f"{', '.join(shown[:most])} and {len(shown) - most} others"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
