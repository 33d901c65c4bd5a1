"""The scale that an outcome is predicted on, and what is good enough there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssr_exp.config import Scale
from ssr_exp.errors import SsrError
from ssr_exp.runs import verdict
from ssr_exp.runs.score import ACCURACY, Score

# Share of the bounds' distance that is added at both ends, so that a network without an error is
# finite on a logit scale: with few images in val that is common, and says little. Of accuracies
# 0.25 points.
MARGIN = 0.0025
ROUNDING = 1e-12  # of values, as a share of their size: what floating point makes of equal ones
EVEN = verdict.EVEN  # confidence: what looks good enough is
NEEDED_BOUNDS = {Scale.logit: 2, Scale.log_error: 2, Scale.log: 1, Scale.identity: 0}


@dataclass(frozen=True)
class OutcomeScale:
    """Maps an outcome to the surrogate's scale and back; higher is better there.

    Equal steps on it are equally hard to win: between two bounds it is the logit of the share,
    from one the logarithm of the distance, without any the outcome itself. The scale of an outcome
    and of its image under an affine map, bounds and direction included, differ by an affine map.

    Args:
        outcome: what is predicted: the score, or a loss.
        kind: of scale; `auto` as above.
        least: distance to a single bound below which outcomes are alike, above 0.
    """

    outcome: Score = ACCURACY
    kind: Scale = Scale.auto
    least: float = 1e-6

    @classmethod
    def from_values(cls, outcome: Score, kind: Scale, values: Tensor) -> OutcomeScale:
        """Choose the scale of outcomes that were measured, any shape.

        Raises:
            SsrError: if that kind of scale needs bounds that the outcome does not have.
        """
        scale = cls(outcome, resolved(outcome, kind))
        if scale.kind is not Scale.log:
            return scale
        distances = scale._distance(values)
        positive = distances[distances > 0]
        return cls(outcome, Scale.log, float(positive.min()) / 2 if len(positive) else 1.0)

    def forward(self, values: Tensor) -> Tensor:
        """Map outcomes, in their unit, to the scale, any shape."""
        kind = resolved(self.outcome, self.kind)
        if kind is Scale.identity:
            return self.outcome.sign * values
        if kind is Scale.log:
            return self._towards_bound() * self._distance(values).clamp_min(self.least).log()
        share = self._share(values)
        return torch.logit(share) if kind is Scale.logit else -torch.log1p(-share)

    def back(self, values: Tensor, *, clamped: bool = True) -> Tensor:
        """Map from the scale to outcomes in their unit, any shape; `clamped`: within the bounds."""
        kind, (low, high) = resolved(self.outcome, self.kind), self.outcome.limits
        if kind is Scale.identity:
            outcomes = self.outcome.sign * values
            return outcomes.clamp(low, high) if clamped else outcomes
        if kind is Scale.log:
            distance = (self._towards_bound() * values).exp()
            return low + distance if math.isfinite(low) else high - distance
        share = torch.sigmoid(values) if kind is Scale.logit else -torch.expm1(-values)
        share = share if self.outcome.sign > 0 else 1 - share
        span, margin = high - low, MARGIN * (high - low)
        outcomes = low + share * (span + 2 * margin) - margin
        return outcomes.clamp(low, high) if clamped else outcomes

    def lowered(self, value: float, drop: float) -> float:
        """Make an outcome, given on the scale, worse by a drop in its unit."""
        outcome = float(self.back(torch.tensor(value, dtype=torch.float64)))
        return self.at(self.outcome.lowered(outcome, drop))

    def at(self, value: float) -> float:
        """Map one outcome, in its unit, to the scale."""
        return float(self.forward(torch.tensor(value, dtype=torch.float64)))

    def _share(self, values: Tensor) -> Tensor:
        """Return how much of the way from the worst bound to the best one is gone."""
        low, high = self.outcome.limits
        margin = MARGIN * (high - low)
        share = (values - low + margin) / (high - low + 2 * margin)
        return share if self.outcome.sign > 0 else 1 - share

    def _distance(self, values: Tensor) -> Tensor:
        low, high = self.outcome.limits
        return values - low if math.isfinite(low) else high - values

    def _towards_bound(self) -> int:
        """Say whether larger distances from the single bound are better: 1, else -1."""
        return self.outcome.sign * (1 if math.isfinite(self.outcome.limits[0]) else -1)


def are_alike(values: Tensor) -> bool:
    """Say whether outcomes, any shape, are equal, but for what floating point makes of them."""
    return float(values.max() - values.min()) <= ROUNDING * float(values.abs().max())


def resolved(outcome: Score, kind: Scale) -> Scale:
    """Choose the scale that an outcome's bounds allow.

    Raises:
        SsrError: if `kind` needs more of them.
    """
    count = sum(bound is not None for bound in outcome.bounds)
    if kind is Scale.auto:
        return (Scale.identity, Scale.log, Scale.logit)[count]
    if count < NEEDED_BOUNDS[kind] or (kind is Scale.log and count != 1):
        raise SsrError(
            f"surrogate.scale={kind.value} does not suit {outcome.key}, which lies from "
            f"{outcome.between()}: type surrogate.scale=auto, or identity."
        )
    return kind


@dataclass(frozen=True)
class Threshold:
    """The worst score that is good enough, as measured and as predicted; both must be reached.

    A measurement alone lets a lucky seed through; a prediction alone lets through what the user
    sees to be below the limit.

    Args:
        score: how networks are judged.
        measured: in its unit, of the mean over a network's trainings.
        predicted: on the surrogate's scale.
        untrained: on that scale, what a training yet to come must reach: the better of both.
    """

    score: Score
    measured: float
    predicted: float
    untrained: float

    @classmethod
    def from_baseline(
        cls, scale: OutcomeScale, score: Score, value: float, outcome: float, *, drop: float
    ) -> Threshold:
        """Allow a drop from the baseline: its score, and its outcome on the scale."""
        measured = value - score.sign * drop
        if scale.outcome.key != score.key:  # a loss says nothing of drops of the score
            return cls(score, measured, -math.inf, -math.inf)
        predicted = scale.lowered(outcome, drop)
        return cls(score, measured, predicted, max(scale.at(score.clamped(measured)), predicted))

    def surer(self, required: float, *, confidence: float) -> Threshold:
        """Ask of a training yet to come what an answer of this confidence must be expected to get.

        `required` is that on the scale; at even odds, the threshold stays.
        """
        if confidence == EVEN or self.untrained == -math.inf:
            return self
        return replace(
            self, untrained=max(self.untrained, required) if confidence > EVEN else required
        )

    def is_measured(self, value: float) -> bool:
        """Say whether a measured score is good enough."""
        return verdict.is_kept(self.score.sign * (self.measured - value), 0.0)

    def is_reached(self, value: float | None, outcome: float) -> bool:
        """Say whether a network is good enough; one in training, if it is expected to be.

        Its score is in its unit, None in training; its outcome is predicted, on the scale.
        """
        if value is None:
            return outcome >= self.untrained
        return self.is_measured(value) and outcome >= self.predicted
