"""What is accurate enough: the baseline's accuracy less the drop that the user allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ssr_exp.config import Outcome
from ssr_exp.search.outcome import OutcomeScale


@dataclass(frozen=True)
class Enough:
    """The least accuracy, as measured and as predicted; a network must reach both.

    A measurement alone lets a lucky seed through; a prediction alone lets through what the user
    sees to be below the limit.

    Args:
        measured: in percent, mean over a network's trainings.
        predicted: on the surrogate's scale.
        threshold: on that scale, what a training yet to come must reach: the higher of both.
    """

    measured: float
    predicted: float
    threshold: float

    @classmethod
    def within(cls, drop: float, scale: OutcomeScale, accuracy: float, outcome: float) -> Enough:
        """Allow a drop.

        Args:
            drop: points of accuracy.
            scale: of predictions.
            accuracy: the baseline's, as measured, in percent.
            outcome: the baseline's, as predicted, on the scale.
        """
        measured = accuracy - drop
        if scale.outcome is Outcome.val_loss:  # a loss says nothing of points of accuracy
            return cls(measured, -math.inf, -math.inf)
        predicted = below(scale, outcome, drop)
        least = float(scale.forward(torch.tensor(max(measured, 0.0), dtype=torch.float64)))
        return cls(measured, predicted, max(least, predicted))

    def holds(self, accuracy: float | None, outcome: float) -> bool:
        """Say whether a network is accurate enough; one that was not measured, if expected to be.

        Args:
            accuracy: measured, in percent; None if it is being trained.
            outcome: predicted, on the surrogate's scale.
        """
        if accuracy is None:
            return outcome >= self.threshold
        return accuracy >= self.measured and outcome >= self.predicted


def below(scale: OutcomeScale, outcome: float, drop: float) -> float:
    """Lower an outcome on a scale of accuracy by points."""
    value = scale.back(torch.tensor(outcome, dtype=torch.float64)) - drop
    return float(scale.forward(value.clamp_min(0)))
