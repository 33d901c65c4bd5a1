"""The scale that an outcome is predicted on, and what is accurate enough there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssr_exp.config import Outcome, Scale

# Points that are added at both ends of 0..100 %, so that 100 % is finite on a logit scale: with few
# images in val a network without an error is common, and says little.
MARGIN = 0.25


@dataclass(frozen=True)
class OutcomeScale:
    """Maps an outcome to the surrogate's scale and back; higher is better there.

    Equal steps on it are equally hard to win.

    Args:
        outcome: `val_acc` in percent, or `val_loss` in nats (then the scale is `-log(loss)`).
        scale: of accuracies.
    """

    outcome: Outcome = Outcome.val_acc
    scale: Scale = Scale.logit

    def forward(self, values: Tensor) -> Tensor:
        """Map percent (or nats) to the scale, any shape."""
        if self.outcome is Outcome.val_loss:
            return -values.clamp_min(1e-6).log()
        if self.scale is Scale.identity:
            return values
        share = (values + MARGIN) / (100 + 2 * MARGIN)
        return torch.logit(share) if self.scale is Scale.logit else -torch.log1p(-share)

    def back(self, values: Tensor) -> Tensor:
        """Map from the scale to percent, 0 to 100 (or nats), any shape."""
        if self.outcome is Outcome.val_loss:
            return (-values).exp()
        if self.scale is Scale.identity:
            return values.clamp(0, 100)
        share = torch.sigmoid(values) if self.scale is Scale.logit else -torch.expm1(-values)
        return (share * (100 + 2 * MARGIN) - MARGIN).clamp(0, 100)

    def lowered(self, outcome: float, points: float) -> float:
        """Lower an accuracy, given on the scale, by points of percent."""
        value = self.back(torch.tensor(outcome, dtype=torch.float64)) - points
        return float(self.forward(value.clamp_min(0)))


@dataclass(frozen=True)
class Threshold:
    """The least accuracy, as measured and as predicted; a network must reach both.

    A measurement alone lets a lucky seed through; a prediction alone lets through what the user
    sees to be below the limit.

    Args:
        measured: in percent, mean over a network's trainings.
        predicted: on the surrogate's scale.
        untrained: on that scale, what a training yet to come must reach: the higher of both.
    """

    measured: float
    predicted: float
    untrained: float

    @classmethod
    def from_baseline(
        cls, scale: OutcomeScale, accuracy: float, outcome: float, *, drop: float
    ) -> Threshold:
        """Allow a drop of points: the baseline's accuracy is in percent, its outcome predicted."""
        measured = accuracy - drop
        if scale.outcome is Outcome.val_loss:  # a loss says nothing of points of accuracy
            return cls(measured, -math.inf, -math.inf)
        predicted = scale.lowered(outcome, drop)
        least = float(scale.forward(torch.tensor(max(measured, 0.0), dtype=torch.float64)))
        return cls(measured, predicted, max(least, predicted))

    def is_reached(self, accuracy: float | None, outcome: float) -> bool:
        """Say whether a network is accurate enough; one in training, if it is expected to be.

        Its accuracy is in percent, None in training; its outcome is predicted, on the scale.
        """
        if accuracy is None:
            return outcome >= self.untrained
        return accuracy >= self.measured and outcome >= self.predicted
