"""The scale of outcomes."""

from __future__ import annotations

import pytest
import torch

from ssr_exp.config import Outcome, Scale
from ssr_exp.search.outcome import OutcomeScale


@pytest.mark.parametrize("scale", Scale)
def test_a_scale_is_undone_by_its_inverse(scale: Scale) -> None:
    accuracies = OutcomeScale(Outcome.val_acc, scale)
    values = torch.linspace(0, 100, 41, dtype=torch.float64)
    torch.testing.assert_close(
        accuracies.back(accuracies.forward(values)), values, atol=1e-9, rtol=0
    )
    assert bool((accuracies.forward(values).diff() > 0).all())
    losses = OutcomeScale(Outcome.val_loss, scale)
    torch.testing.assert_close(losses.back(losses.forward(values + 0.1)), values + 0.1)
    assert bool((losses.forward(values + 0.1).diff() < 0).all())
