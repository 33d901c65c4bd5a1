"""Scenes of handwritten digits on a textured ground, with their masks: segmentation to try.

They are drawn from scikit-learn's digits with numbers whose stream is frozen (NEP 19) and whole
numbers alone, so they are the same on all machines. No digit stands in two parts.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ssr_exp.datasets.images import Images, Target

SIDE = 24  # pixels
SIZES = {"train": 1000, "val": 300, "test": 300}  # scenes
CLASSES = ("background", "zero", "one", "two")
MOST_DIGITS = 3  # of a scene
SOLID = 6  # of 16: darkness from which a pixel of a digit is of its class
SEED = 0

Pixels = NDArray[np.int64]


def scenes() -> tuple[Images, dict[str, int]]:
    """Draw all scenes, part after part; returns how many each part has, too."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    draw = np.random.RandomState(SEED)
    are_named = bunch.target < len(CLASSES) - 1
    digits, labels = (a[are_named].astype(np.int64) for a in (bunch.images, bunch.target))
    order = draw.permutation(len(digits))
    ends = np.cumsum(list(SIZES.values())) * len(order) // sum(SIZES.values())
    pairs = [
        _scene(draw, digits[some], labels[some])
        for count, some in zip(SIZES.values(), np.split(order, ends[:-1]), strict=True)
        for _ in range(count)
    ]
    pixels, masks = (
        torch.from_numpy(np.stack(each).astype(np.uint8)) for each in zip(*pairs, strict=True)
    )
    return Images(pixels[:, None], masks, CLASSES, target=Target.masks), SIZES


def _scene(draw: np.random.RandomState, digits: Pixels, labels: Pixels) -> tuple[Pixels, Pixels]:
    """Draw one scene and its mask, `SIDE x SIDE` each: later digits cover earlier ones."""
    image, mask = _ground(draw), np.zeros((SIDE, SIDE), np.int64)
    for _ in range(draw.randint(1, MOST_DIGITS + 1)):
        one, factor = draw.randint(len(digits)), draw.randint(1, 3)
        ink = digits[one].repeat(factor, 0).repeat(factor, 1)
        side, brightness = len(ink), draw.randint(170, 256)
        top, left = draw.randint(SIDE - side + 1, size=2)
        at = slice(top, top + side), slice(left, left + side)
        image[at] += (brightness - image[at]) * ink // 16
        mask[at] = np.where(ink >= SOLID, labels[one] + 1, mask[at])
    return image, mask


def _ground(draw: np.random.RandomState) -> Pixels:
    """Draw a texture: a slope, coarse spots and fine grain, from 0 to 140."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    slope = (draw.randint(-2, 3) * rows + draw.randint(-2, 3) * columns) // 2
    spots = draw.randint(50, size=(SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
    grain = draw.randint(30, size=(SIDE, SIDE))
    level: Pixels = draw.randint(20, 60) + slope + spots + grain
    return level.clip(0, 140)
