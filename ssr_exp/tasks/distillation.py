"""Distillation: a student also learns what a teacher's logits say of the wrong classes.

Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return the mean divergence of the softened outputs, in nats, times the temperature squared.

    The factor keeps the gradients as large at any temperature.

    Args:
        student: logits, `b x classes`.
        teacher: logits of the same images, likewise.
        temperature: both are divided by it, above 0.
    """
    ours, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return divergence * temperature**2
