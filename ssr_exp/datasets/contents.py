"""What the files of a folder hold, counted: sizes, kinds of pixels, frames, plain pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ssr_exp.datasets.preprocessing import Opened

Size = tuple[int, int]  # height and width in pixels

_KINDS = {"1": "black and white", "L": "grey", "P": "palette", "F": "floating-point", "RGB": "RGB"}
_ALPHA = {"RGBA": "RGB", "RGBa": "RGB", "LA": "grey", "La": "grey", "PA": "palette"}

SAMPLE = 64  # pixels of an image that are looked at first


@dataclass(frozen=True)
class Contents:
    """What image files hold, before they are fitted to a size."""

    kinds: dict[str, int]  # how many files there are of each kind of pixels, in words
    smallest: Size  # the size of the fewest pixels
    largest: Size
    sizes: int  # how many different ones there are
    not_square: int = 0  # how many images are not
    transparent: int = 0  # how many show the background somewhere
    animated: int = 0  # how many hold more than one frame or page
    plain: int = 0  # how many have one colour, and nothing else
    # The position of the first file of each of the last three, where there is one.
    examples: dict[str, int] = field(default_factory=dict)


class Counting:
    """Counts images in their order, some at a time."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._shapes: Counter[Size] = Counter()
        self._odd = {"transparent": 0, "animated": 0, "plain": 0}
        self._examples: dict[str, int] = {}
        self._count = 0

    def add(self, opened: Sequence[Opened], pixels: Tensor) -> None:
        """Count what was opened; `pixels`, uint8, `n x c x h x w`, are what became of it."""
        self._kinds.update(map(_kind, opened))
        self._shapes.update(one.size for one in opened)
        odd = {
            "transparent": [i for i, one in enumerate(opened) if one.is_transparent],
            "animated": [i for i, one in enumerate(opened) if one.is_animated],
            "plain": plain(pixels),
        }
        for name, index in odd.items():
            self._odd[name] += len(index)
            if index:
                self._examples.setdefault(name, self._count + index[0])
        self._count += len(opened)

    def contents(self) -> Contents:
        """Return what was counted."""
        shapes = self._shapes
        return Contents(
            kinds=dict(self._kinds.most_common()),
            smallest=min(shapes, key=lambda size: size[0] * size[1]),
            largest=max(shapes, key=lambda size: size[0] * size[1]),
            sizes=len(shapes),
            not_square=sum(count for (h, w), count in shapes.items() if h != w),
            **self._odd,
            examples={name: self._examples[name] for name in self._odd if name in self._examples},
        )


def count(opened: Sequence[Opened], pixels: Tensor) -> Contents:
    """Count all images at once, as `Counting.add` does."""
    counting = Counting()
    counting.add(opened, pixels)
    return counting.contents()


def plain(pixels: Tensor) -> list[int]:
    """List the images whose pixels are all the same."""
    if not len(pixels):
        return []
    rows = pixels.numpy().reshape(len(pixels), pixels.shape[1], -1)
    some = rows[:, :, :: max(1, rows.shape[2] // SAMPLE)]  # nearly all images differ there already
    alike = np.flatnonzero((some == some[:, :, :1]).all((1, 2)))
    return [int(i) for i in alike if (rows[i] == rows[i, :, :1]).all()]


def _kind(one: Opened) -> str:
    if one.is_deep:
        return "grey of more than 8 bits"
    kind = "colours of 16 bits" if one.is_cut else _ALPHA.get(one.mode) or _KINDS.get(one.mode)
    return (kind or one.mode) + (" with transparency" if one.mode in _ALPHA else "")
