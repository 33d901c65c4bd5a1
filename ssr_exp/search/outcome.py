"""The scale that an outcome is predicted on: where equal steps are equally hard to win."""

from __future__ import annotations

import torch
from torch import Tensor

from ssr_exp.config import Outcome, Scale

# Points that are added at both ends of 0..100 %, so that 100 % is finite on a logit scale: with few
# images in val a network without an error is common, and says little.
MARGIN = 0.25


class OutcomeScale:
    """Maps an outcome to the surrogate's scale and back; higher is better there.

    Args:
        outcome: `val_acc` in percent, or `val_loss` in nats (then the scale is `-log(loss)`).
        scale: of accuracies.
    """

    def __init__(self, outcome: Outcome = Outcome.val_acc, scale: Scale = Scale.logit) -> None:
        self.outcome = outcome
        self._scale = scale

    def forward(self, values: Tensor) -> Tensor:
        """Map percent (or nats) to the scale, any shape."""
        if self.outcome is Outcome.val_loss:
            return -values.clamp_min(1e-6).log()
        if self._scale is Scale.identity:
            return values
        share = (values + MARGIN) / (100 + 2 * MARGIN)
        return torch.logit(share) if self._scale is Scale.logit else -torch.log1p(-share)

    def back(self, values: Tensor) -> Tensor:
        """Map from the scale to percent, 0 to 100 (or nats), any shape."""
        if self.outcome is Outcome.val_loss:
            return (-values).exp()
        if self._scale is Scale.identity:
            return values.clamp(0, 100)
        share = torch.sigmoid(values) if self._scale is Scale.logit else -torch.expm1(-values)
        return (share * (100 + 2 * MARGIN) - MARGIN).clamp(0, 100)
