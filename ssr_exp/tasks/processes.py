"""Agree on numbers between the processes that train one network together, if there are several.

All of them have to call this alike: one that does not keeps the others waiting.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """Return how many processes train together; 1 where this one trains alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(*values: Tensor | float) -> list[float]:
    """Add up each of some numbers over all processes; waits for the device."""
    if count() == 1:
        return [float(value) for value in values]
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    sums = torch.tensor([float(value) for value in values], dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def gathered(value: Any) -> list[Any]:
    """List what each process has, in their order, in all of them."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def gathered_tensors(value: Tensor, group: object = None) -> list[Tensor]:
    """List what each process has of a state of torchmetrics.

    Its own function takes an image of each process for granted. Of a process without any, what is
    empty is left out, and a sum that is still one number counts for each of several.

    Args:
        value: here; elsewhere it may have another length.
        group: is that of all processes.
    """
    values = [other.to(value.device) for other in gathered(value.cpu())]
    values = [other for other in values if other.numel()] or values
    largest = max(values, key=lambda other: other.ndim)
    return [other if other.ndim == largest.ndim else other.expand_as(largest) for other in values]
