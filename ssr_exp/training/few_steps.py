"""What is said of trainings with too few steps to learn much: few images in large batches."""

from __future__ import annotations

import math
from dataclasses import replace

from ssr_exp.config import Config
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.reading import Reading
from ssr_exp.datasets.user_data import UserData

AN_EPOCH, IN_ALL = 10, 100  # steps below which both are few
SMALLEST = 8  # batch that is named


def reading(conf: Config, splits: Splits | UserData) -> Reading:
    """Return what was read of the images, with a warning where a training is short of steps.

    Batches of the user's own data are theirs, and nothing is said of them.
    """
    if not isinstance(splits, Splits):
        return splits.reading
    images, epochs = len(splits.train), conf.trainer.max_epochs
    size = min(conf.recipe.batch_size, images)
    steps = max(images // size, 1)
    if steps >= AN_EPOCH or steps * epochs >= IN_ALL:
        return splits.reading
    smaller = max(2 ** math.floor(math.log2(max(images / AN_EPOCH, 1))), SMALLEST)
    named = f"recipe.batch_size={smaller}, or " if smaller < size else ""
    said = (
        f"a training has {steps * epochs} steps, {steps} of {size} images an epoch, and learns "
        f"little in so few: type {named}a larger trainer.max_epochs"
    )
    return replace(splits.reading, warnings=(*splits.reading.warnings, said))
