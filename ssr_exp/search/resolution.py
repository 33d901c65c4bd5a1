"""What a val set can tell apart; where that is too little, it is said before and after a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ssr_exp.config import SearchConfig


@dataclass(frozen=True)
class ValSet:
    """The images that networks are compared by.

    Args:
        classes: how many of each class there are.
    """

    classes: Mapping[str, int]

    @property
    def point(self) -> float:
        """One image in points of accuracy."""
        return 100 / max(sum(self.classes.values()), 1)

    def too_coarse(self, conf: SearchConfig) -> list[str]:
        """Warn of an allowed drop that is less than two images."""
        drop, images = conf.objective.max_drop, sum(self.classes.values())
        if not images or drop >= 2 * self.point:
            return []
        least = math.ceil(20 * self.point) / 10
        return [
            f"objective.max_drop={drop:g} is less than two of the {images:,} val images "
            f"({self.point:.2g} points each), so what is within it is chance: add val images, or "
            f"type objective.max_drop={least:g} or more"
        ]

    def learnt_nothing(self, accuracy: float) -> list[str]:
        """Warn of a baseline, whose accuracy is in percent, that only names the largest class."""
        images = sum(self.classes.values())
        largest = max(self.classes, key=self.classes.__getitem__, default="")
        share = 100 * self.classes[largest] / images if images else 0.0
        # One image more would tell, however its share is rounded.
        if not images or accuracy > share + self.point / 2:
            return []
        return [
            f"the baseline scores {accuracy:.2f} % on val, and always naming its largest class "
            f"({largest}) scores {share:.2f} %: it has learnt nothing, so comparing with it "
            "says nothing; train longer, or look at images and labels"
        ]
