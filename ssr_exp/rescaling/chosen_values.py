"""First values that a constructor chose, not drew: patterns, tables, priors, constants."""

from __future__ import annotations

import inspect
import math

import torch
from torch import Tensor, nn

SHORTEST = 8  # entries that may show a pattern; fewer rise or fall by chance
SMOOTH = 64  # entries that may show that neighbours are alike
LONGEST = 4096  # entries that are looked at
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)  # those that most networks are made of


def draws(owner: nn.Module) -> bool:
    """Say whether a module draws its own weights, when it is asked to and told nothing."""
    reset = getattr(owner, "reset_parameters", None)
    if not callable(reset):
        return False
    return all(p.default is not p.empty for p in inspect.signature(reset).parameters.values())


def is_trained(network: nn.Module) -> bool:
    """Say whether statistics of norms are not those of the beginning: weights were loaded."""
    means = (t for name, t in network.named_buffers() if name.endswith("running_mean"))
    return any(not mean.is_meta and bool(mean.any()) for mean in means)


def is_set(
    original: Tensor,
    owner: nn.Module,
    name: str,
    weight: Tensor | None,
    *,
    is_trained: bool = False,
) -> bool:
    """Say whether a parameter's first values were set, not drawn, and are more than a constant.

    They show a pattern, few of them were chosen (an identity, a grey mix: they repeat, or no module
    draws them), or they are biases that PyTorch's own draw cannot give (priors of classes).

    Args:
        original: the parameter, as the seed network's constructor left it.
        owner: the module that holds it.
        name: that it has there.
        weight: beside it there.
        is_trained: whether the network's weights were loaded: then a bias may be anything.
    """
    if repeats_rows(original):
        return False
    if is_patterned(original, by_itself=isinstance(owner, LAYERS)):
        return True
    if original.is_meta or not original.is_floating_point() or is_constant(original):
        return False
    count = original.numel()
    if count < SHORTEST and (not draws(owner) or len(original.unique()) < count):
        return True
    if name != "bias" or is_trained or not isinstance(owner, LAYERS):
        return False
    if weight is None or weight.is_meta:
        return False
    return float(original.abs().max()) > 1.001 / math.sqrt(weight[0].numel())


def is_patterned(original: Tensor, *, by_itself: bool) -> bool:
    """Say whether a parameter's first values were set and not drawn: a kernel, a table, edges.

    Few values that repeat (a bilinear kernel, an identity), a sequence that only rises or falls,
    or, if not drawn `by_itself` by a layer, values of which each is near the next (sines).
    """
    if original.is_meta or original.numel() < SHORTEST or not original.is_floating_point():
        return False
    if is_constant(original):
        return False
    if _repeats(original.flatten()) or is_ordered(original):
        return True
    return not by_itself and any(_is_smooth(original, dim) for dim in range(original.ndim))


def is_ordered(original: Tensor) -> bool:
    """Say whether values only rise or fall: edges of bands, rates, positions."""
    steps = original.flatten()[:LONGEST].double().diff()
    return len(steps) >= SHORTEST - 1 and bool((steps > 0).all() or (steps < 0).all())


def repeats_rows(original: Tensor) -> bool:
    """Say whether at most half of its rows differ, which were drawn: of a pixel shuffle's layer.

    So are members of an ensemble that begin alike.
    """
    if original.is_meta or original.ndim < 2 or not original.is_floating_point():
        return False
    if original.numel() < SHORTEST or is_constant(original):
        return False
    rows = original.flatten(1)
    columns = torch.linspace(0, rows.shape[1] - 1, min(SHORTEST, rows.shape[1])).long()
    found, group = rows[:, columns.to(rows.device)].double().unique(dim=0, return_inverse=True)
    if len(found) > len(rows) // 2:
        return False
    members = group.new_empty(len(found)).scatter_(0, group, torch.arange(len(rows)).to(group))
    return not _repeats(rows[members].flatten())  # as those of one kernel for each channel do


def _repeats(values: Tensor) -> bool:
    """Say whether few of the values differ: at most two thirds of few, and else a quarter."""
    values = values[:: len(values) // LONGEST | 1][:LONGEST]  # an odd step meets all columns
    few = 2 * len(values) // 3 if len(values) < SMOOTH else len(values) // 4
    if values.dtype.itemsize < 4:
        few = min(16, len(values) // 4)
    return len(values) >= SHORTEST and len(values.double().unique()) <= few


def _is_smooth(original: Tensor, dim: int) -> bool:
    """Say whether entries are near their neighbours along a dimension; random ones are not."""
    centred = original.double() - original.double().mean(dim, keepdim=True)
    if original.shape[dim] < SHORTEST or original.numel() < SMOOTH:
        return False
    rest = original.shape[dim] - 1
    products = centred.narrow(dim, 1, rest) * centred.narrow(dim, 0, rest)
    return bool(products.mean() > 0.7 * centred.square().mean())


def is_constant(parameter: Tensor) -> bool:
    """Say whether all values of a parameter are one."""
    if parameter.is_meta:
        return False
    values = parameter.flatten()
    return all(bool((part == values[0]).all()) for part in (values[:LONGEST], values))
