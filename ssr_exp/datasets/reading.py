"""What was read of a data set: one short block on screen, and plain data for the study's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ssr_exp import terminal
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import one_line


class _Counts(BaseModel):
    """What is read of a reading that a study's file keeps."""

    parts: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}


_NAMED = 10  # classes whose images are counted one by one on screen


@dataclass(frozen=True)
class ImageOrigin:
    """Where the images of a data set come from."""

    sources: dict[str, str]  # of each part, in words
    root: Path = Path()  # the folder that the names of files start from
    left_out: dict[str, int] = field(default_factory=dict)  # how many files, by kind or reason
    notes: tuple[str, ...] = ()  # what is to be said of it
    warnings: tuple[str, ...] = ()  # likewise, where it may be wrong
    contents: Contents | None = None  # what the files hold, if there are files


@dataclass(frozen=True)
class Reading:
    """What was read of a data set."""

    name: str
    # For each part how many images each class has; of masks, how many pixels.
    parts: dict[str, dict[str, int]]
    sources: dict[str, str]  # for each part where it comes from, in words
    pixels: str  # what kind of images they are, and what was done to them, in words
    sizes: dict[str, int] = field(default_factory=dict)  # of parts, where images have no one class
    targets: str = ""  # what is learnt there, in words
    left_out: dict[str, int] = field(default_factory=dict)  # how many files, by kind or reason
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # what may be wrong
    folder: str = field(default="", compare=False)  # of the images on this machine, if any

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
            f"{self.name}: {self.targets or _counts(classes)}",
            "; ".join(self._part(name) for name in self.parts),
            self.pixels,
            *([f"left out: {left_out}"] if left_out else []),
            *self.notes,
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return [one_line(line) for line in lines if line]

    def on_screen(self) -> str:
        """Say it with the folder, which nobody else is told."""
        first, *rest = self.lines()
        return "\n".join([f"{first} ({one_line(self.folder)})" if self.folder else first, *rest])

    def fields(self) -> dict[str, Any]:
        """Return what a study keeps of it: all but the folder, which is the machine's."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}

    def count(self, part: str) -> int:
        """Count the images of a part; 0: there are none, or nobody knows how many."""
        return self.sizes.get(part) or sum(self.parts.get(part, {}).values())

    def _part(self, name: str) -> str:
        images = self.count(name)
        words = [self.sources[name]] if self.sources.get(name) else []
        if name == "val" and not self.sizes:
            words.append(f"one image is {100 / images:.2g} points")
        said = f" ({', '.join(words)})" if words else ""
        return f"{name} {images:,}{said}"


def counts_of(fields: Mapping[str, Any]) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Read how many images a study's file says there were; nothing where it does not say.

    Returns:
        Of each part by class, and the sizes of parts whose images have no one class.
    """
    try:
        counts = _Counts.model_validate(fields)
    except ValidationError:
        return {}, {}
    return counts.parts, counts.sizes


def print_all(readings: Iterable[Reading]) -> None:
    """Say what was read, each of the same once."""
    for text in dict.fromkeys(reading.on_screen() for reading in readings):
        terminal.console().print(text)


def _counts(classes: Counter[str]) -> str:
    return f"{classes.total():,} images of {len(classes)} classes: {_shown(classes)}"


def _shown(classes: Counter[str]) -> str:
    if len(classes) <= _NAMED:
        return ", ".join(f"{name} {count:,}" for name, count in sorted(classes.items()))
    (most, high), *_, (least, low) = classes.most_common()
    return f"{low:,} ({least}) to {high:,} ({most}) each"


def describe_pixels(contents: Contents | None, how: Preprocessing) -> str:
    """Say what kind of images they are, and how they were brought to their size."""
    h, w = how.size
    grey = "grey" if how.channels == 1 else "RGB"
    if contents is None:
        return f"{w} x {h} pixels, {grey}"
    (height, width), (most_h, most_w) = contents.smallest, contents.largest
    words = [f"{width} x {height} pixels"]
    if contents.sizes > 1:
        words = [f"{width} x {height} to {most_w} x {most_h} pixels ({contents.sizes} sizes)"]
    words.append(_kinds(contents, how))
    if contents.sizes > 1 or contents.smallest != how.size or how.crop_share < 1:
        words.append(_fitted(contents, how))
    if len(contents.kinds) > 1 or grey not in contents.kinds:
        words.append(f"read as {grey} of 8 bits")
    return ", ".join(words)


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
    h, w = how.size
    to, shape = f"to {w} x {h}", "a square" if h == w else "that shape"
    if how.crop_share < 1:
        return f"of which {100 * how.crop_share:g} % of the centre's sides is scaled {to}"
    if _is_scaled(contents, how):
        return f"scaled {to}"
    centre = "square" if h == w else "of that shape"
    keep = "dataset.fit=stretch or pad keep all"
    return {
        "crop": f"of which the centre {centre} is scaled {to} ({keep})",
        "stretch": f"stretched {to}",
        "pad": f"padded to {shape} and scaled {to}",
    }[how.fit or "crop"]


def _is_scaled(contents: Contents, how: Preprocessing) -> bool:
    """Say whether all images are known to have the shape that they are brought to."""
    (h, w), (height, width) = how.size, contents.smallest
    if h == w:
        return not contents.not_square
    return contents.sizes == 1 and height * w == width * h
