"""What images can tell apart; where that is too little, it is said before and after a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.stats import norm
from torch import Tensor

ASSUMED = 95.0  # percent: a baseline's accuracy, as long as none is known
ALIKE = 0.1  # of that error is the same for all trainings of a network: see `variance`
MORE = "add val images (dataset.val_fraction, where val is split off)"  # a remedy
FEWEST = 2  # images that a drop should be worth: one of them is chance at any confidence


@dataclass(frozen=True)
class ValSet:
    """The images that networks are compared by.

    Args:
        classes: how many of each class there are.
        tested: how many images finalists are tested on; 0: not known, or none.
        count: how many there are, where nobody knows their classes; 0: that is not known either.
    """

    classes: Mapping[str, int]
    tested: int = 0
    count: int = 0

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(self.classes.values()) or self.count

    @property
    def point(self) -> float:
        """One image in points of accuracy."""
        return 100 / max(self.images, 1)

    def too_coarse(
        self,
        drop: float,
        *,
        confidence: float = 0.5,
        accuracy: float | None = None,
        key: str = "objective.max_drop",
    ) -> list[str]:
        """Warn of an allowed drop, in points, that the images cannot tell from none.

        That is one that a network which loses nothing is not within with this confidence, as the
        images happen to fall; or one that is less than two of them.

        Args:
            drop: that is allowed.
            confidence: which the answer is to have.
            accuracy: of the baseline, in percent; None: it is not known yet.
            key: which sets the drop.
        """
        spread = _spread(confidence, accuracy, least_wrong(self.images))
        tells = max(100 * FEWEST, math.sqrt(self.images) * spread) / max(self.images, 1)
        if not self.images or drop >= tells - 1e-9:
            return []
        needed = _needed(drop, confidence, accuracy) if drop > 0 else 0.0
        advice = f"type {key}={math.ceil(10 * tells - 1e-9) / 10:g} or more"
        remedy = f"about {math.ceil(needed - 1e-9):,} would: {MORE}, or {advice}"
        if drop <= 0:
            remedy = f"no number of them would: {advice}"
        known = ASSUMED if accuracy is None else accuracy
        return [
            f"{self.images:,} val images ({self.point:.2g} points each) cannot tell "
            f"{key}={drop:g} from no drop with objective.confidence={confidence:g} "
            f"where a baseline gets {known:.3g} % right, so what is within it is partly chance; "
            f"{remedy}"
        ]

    def learnt_nothing(self, accuracy: float) -> list[str]:
        """Warn of a baseline, whose accuracy is in percent, that only names the largest class."""
        if not sum(self.classes.values()):
            return []
        largest = max(self.classes, key=self.classes.__getitem__)
        share = 100 * self.classes[largest] / self.images
        # One image more would tell, however its share is rounded.
        if accuracy > share + self.point / 2:
            return []
        return [
            f"the baseline scores {accuracy:.2f} % on val, and always naming its largest class "
            f"({largest}) scores {share:.2f} %: it has learnt nothing, so comparing with it "
            "says nothing; train longer (trainer.max_epochs), in more steps (a smaller "
            "recipe.batch_size), or look at images and labels"
        ]

    def noise(self, accuracy: float) -> float:
        """Return the binomial error of an accuracy on val: its standard deviation, in points.

        Most of it is luck of the training, as `difference_variance` says, so it stands for what
        one training's accuracy differs by from another's at least, and is rather too large.
        """
        least = 100 * least_wrong(self.images)
        known = min(max(accuracy, least), 100 - least)
        return math.sqrt(known * (100 - known) / max(self.images, 1))

    def variance(self, accuracy: Tensor, other: Tensor, seeds: Tensor) -> Tensor:
        """Return by how much differences of accuracies may be off, in squared points; any shape.

        Of the difference on val and, where finalists are tested, of that on test. `seeds` is the
        variance that two trainings have, which counts already: most of the images' error is that
        other trainings get others wrong. At least a share of `ALIKE` is not.
        """
        total = torch.zeros_like(accuracy)
        for size in (size for size in (self.images, self.tested) if size):
            one = difference_variance(accuracy, other, least=least_wrong(size))
            total = total + torch.maximum(one / size - seeds, ALIKE * one / size)
        return total


def least_wrong(images: int) -> float:
    """Return the share that may be wrong at least where none of so many images is.

    That is Laplace's rule of succession: no error in 50 images is not an error rate of 0.
    """
    return 1 / (images + 2)


def difference_variance(accuracy: Tensor, other: Tensor, *, least: float = 0.0) -> Tensor:
    """Return the variance of a difference of accuracies on one image, in squared points.

    Both networks see the same images, so only those count on which they disagree: a share of `v`
    gives a variance of `v - d^2` at a difference of `d` (as in McNemar's test). Two trainings
    disagree on about as many images as one of them gets wrong, be they of one network or of two
    (Jiang et al. 2022, "Assessing Generalization of SGD via Disagreement"); errors that are
    independent would give twice that. At `least` this share is taken to be wrong.
    """
    wrong, d = ((200 - accuracy - other) / 200).clamp_min(least), (accuracy - other) / 100
    return 1e4 * (torch.maximum(wrong, d.abs()) - d**2).clamp_min(0)


def _needed(drop: float, confidence: float, accuracy: float | None) -> float:
    """Return how many images tell a drop, in points, from none."""
    by_accuracy = (_spread(confidence, accuracy, 0.0) / drop) ** 2
    alone = _spread(confidence, 100.0, 1.0) / drop  # of n images, of which 1 / (n + 2) is wrong
    return max(100 * FEWEST / drop, by_accuracy, math.sqrt(1 + alone**2) - 1)


def _spread(confidence: float, accuracy: float | None, least: float) -> float:
    """Return how far, in points, a difference on one image may seem off at a confidence.

    `least` is the share that is taken to be wrong at least.
    """
    known = torch.tensor(ASSUMED if accuracy is None else accuracy, dtype=torch.float64)
    sigma = math.sqrt(float(difference_variance(known, known, least=least)))
    return max(float(norm.ppf(confidence)), 0.0) * sigma
