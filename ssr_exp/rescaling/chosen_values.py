"""First values that a constructor chose, not drew: patterns, tables, priors, constants."""

from __future__ import annotations

import inspect
import math

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


def is_set(original: Tensor, owner: nn.Module, name: str, weight: Tensor | None) -> bool:
    """Say whether a parameter's first values were set, not drawn, and are more than a constant.

    They show a pattern, few of them were chosen (an identity, a grey mix: they repeat, or no module
    draws them), or they are biases that PyTorch's own draw cannot give (priors of classes).

    Args:
        original: the parameter, as the seed network's constructor left it.
        owner: the module that holds it.
        name: that it has there.
        weight: beside it there.
    """
    by_itself = draws(owner)
    if is_patterned(original, by_itself=by_itself):
        return True
    if original.is_meta or not original.is_floating_point() or is_constant(original):
        return False
    count = original.numel()
    if count < SHORTEST and (not by_itself or len(original.unique()) < count):
        return True
    if name != "bias" or weight is None or weight.is_meta or not isinstance(owner, LAYERS):
        return False
    return float(original.abs().max()) > 1.001 / math.sqrt(weight[0].numel())


def is_patterned(original: Tensor, *, by_itself: bool) -> bool:
    """Say whether a parameter's first values were set and not drawn: a kernel, a table, edges.

    Few values that repeat (a bilinear kernel, an identity), a sequence that only rises or falls,
    or, if not drawn `by_itself` by its module, values of which each is near the next (sines).
    """
    if original.is_meta or original.numel() < SHORTEST or not original.is_floating_point():
        return False
    if is_constant(original):
        return False
    values = original.flatten()[:LONGEST].double()
    steps = values.diff()
    if _repeats(original.flatten()) or bool((steps > 0).all() or (steps < 0).all()):
        return True
    if original.ndim > 1 and _repeats(original.flatten(1)[:, :SHORTEST].flatten()):
        return True  # whole rows, as those of an upsampling by a pixel shuffle
    return not by_itself and any(_is_smooth(original, dim) for dim in range(original.ndim))


def _repeats(values: Tensor) -> bool:
    """Say whether at most a quarter of the values differ."""
    values = values[:LONGEST]
    few = len(values) // 4 if values.dtype.itemsize >= 4 else min(16, len(values) // 4)
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
