"""What was read of a data set: one short block on screen, and plain data for the study's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ssr_exp import terminal
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import one_line

_NAMED = 10  # classes whose images are counted one by one on screen


@dataclass(frozen=True)
class ImageOrigin:
    """Where the images of a data set come from.

    Attributes:
        sources: of each part, in words.
        root: the folder that the names of files start from.
        left_out: how many files are not read, by kind or reason.
        notes: what is to be said of it.
        warnings: likewise, where it may be wrong.
        contents: what the files hold; None where there are none.
    """

    sources: dict[str, str]
    root: Path = Path()
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    contents: Contents | None = None


@dataclass(frozen=True)
class Reading:
    """What was read of a data set.

    Attributes:
        name: of the data set.
        parts: for each part how many images each class has.
        sources: for each part where it comes from, in words.
        pixels: what kind of images they are, and what was done to them, in words.
        left_out: how many files are not among them, by kind or reason.
        notes: what else is to be said.
        warnings: what may be wrong.
        folder: where the images lie on this machine; empty where they have no files.
    """

    name: str
    parts: dict[str, dict[str, int]]
    sources: dict[str, str]
    pixels: str
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    folder: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Say it in some lines."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Say it: classes, parts, pixels, what is left out, and what may be wrong."""
        classes: Counter[str] = Counter()
        for counts in self.parts.values():
            classes.update(counts)
        left_out = ", ".join(f"{reason} ({count:,})" for reason, count in self.left_out.items())
        lines = [
            f"{self.name}: {classes.total():,} images of {len(classes)} classes: {_shown(classes)}",
            "; ".join(self._part(name) for name in self.parts),
            self.pixels,
            *([f"left out: {left_out}"] if left_out else []),
            *self.notes,
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return [one_line(line) for line in lines]

    def on_screen(self) -> str:
        """Say it with the folder, which nobody else is told."""
        first, *rest = self.lines()
        return "\n".join([f"{first} ({one_line(self.folder)})" if self.folder else first, *rest])

    def fields(self) -> dict[str, Any]:
        """Return what a study keeps of it: all but the folder, which is the machine's."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}

    def _part(self, name: str) -> str:
        images = sum(self.parts[name].values())
        words = [self.sources[name]] if self.sources.get(name) else []
        if name == "val":
            words.append(f"one image is {points(images)} points")
        said = f" ({', '.join(words)})" if words else ""
        return f"{name} {images:,}{said}"


def print_all(readings: Iterable[Reading]) -> None:
    """Say what was read, each of the same once."""
    for text in dict.fromkeys(reading.on_screen() for reading in readings):
        terminal.console().print(text)


def points(images: int) -> str:
    """Say how many points of accuracy one of so many images is."""
    return f"{100 / images:.2g}"


def _shown(classes: Counter[str]) -> str:
    if len(classes) <= _NAMED:
        return ", ".join(f"{name} {count:,}" for name, count in sorted(classes.items()))
    (most, high), *_, (least, low) = classes.most_common()
    return f"{low:,} ({least}) to {high:,} ({most}) each"


def pixels(contents: Contents | None, how: Preprocessing) -> str:
    """Say what kind of images they are, and how they were brought to their size."""
    h, w = how.size
    grey = "grey" if how.channels == 1 else "RGB"
    if contents is None:
        return f"{w} x {h} pixels, {grey}"
    words = [_sizes(contents), _kinds(contents, how)]
    if contents.sizes > 1 or contents.smallest != how.size:
        words.append(_fitted(contents, how))
    if len(contents.kinds) > 1 or grey not in contents.kinds:
        words.append(f"read as {grey} of 8 bits")
    return ", ".join(words)


def _sizes(contents: Contents) -> str:
    (h, w), (height, width) = contents.smallest, contents.largest
    if contents.sizes == 1:
        return f"{w} x {h} pixels"
    return f"{w} x {h} to {width} x {height} pixels ({contents.sizes} sizes)"


def _kinds(contents: Contents, how: Preprocessing) -> str:
    ranges = {}
    if how.depth is not None:
        ranges["grey of more than 8 bits"] = f"grey of {how.depth} bits"
    if how.white is not None:
        ranges["floating-point"] = f"floating-point from 0 to {how.white:g}"
    named = {ranges.get(kind, kind): count for kind, count in contents.kinds.items()}
    if len(named) == 1:
        return next(iter(named))
    return ", ".join(f"{count:,} {kind}" for kind, count in named.items())


def _fitted(contents: Contents, how: Preprocessing) -> str:
    to = f"to {how.size[1]} x {how.size[0]}"
    if not contents.not_square:
        return f"scaled {to}"
    return {
        "crop": f"of which the centre square is scaled {to} (dataset.fit=stretch or pad keep all)",
        "stretch": f"stretched {to}",
        "pad": f"padded to a square and scaled {to}",
    }[how.fit or "crop"]
