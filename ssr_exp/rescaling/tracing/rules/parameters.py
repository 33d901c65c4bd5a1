"""Arithmetic on weights: a weight that is standardised, scaled or reshaped still is that weight.

A tensor that was computed from parameters alone remembers which weight it is, and for each of its
dimensions which dimensions of the weight stand there, in order: `((0,), (1, 2, 3))` is a weight
whose kernel was flattened, `((), (0,))` has a new dimension in front. Dimensions of length 1 are
left out, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssr_exp.rescaling.tracing.labels import FIXED, Vector, along, varying
from ssr_exp.rescaling.tracing.rules.operations import Tracer, name, tensors, unknown
from ssr_exp.rescaling.tracing.trace import TracedTensor

Axes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class WeightOrigin:
    """Which weight a tensor is, and where its dimensions have gone."""

    leaf: TracedTensor
    axes: Axes


PASS = ("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh")
RESHAPES = ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten")
PERMUTATIONS = ("t", "transpose", "permute", "movedim")


def whole(leaf: TracedTensor) -> Axes:
    """Describe a weight as it is stored."""
    return tuple((dim,) if size > 1 else () for dim, size in enumerate(leaf.shape))


def find(tracer: Tracer, x: Any) -> WeightOrigin | None:
    """Say which weight `x` is, if it is one."""
    origin = tracer.origin(x)
    return origin if origin is not None and origin.leaf.is_weight else None


def move(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> bool:
    """Follow a weight through a movement; says whether it could be followed."""
    origin = tracer.origin(args[0])
    assert origin is not None
    if name(func) in PASS:
        axes: Axes | None = origin.axes
    elif name(func) in RESHAPES:
        axes = regroup(origin, tuple(out.shape))
    elif name(func) in PERMUTATIONS:
        axes = _permuted(func, origin.axes, args[1:], kwargs)
    else:
        return False
    if axes is None:
        return False
    tracer.derive(out, WeightOrigin(origin.leaf, axes))
    return True


def regroup(origin: WeightOrigin, shape: Sequence[int]) -> Axes | None:
    """Lay the weight's dimensions, in their present order, into another shape."""
    dims = [dim for axis in origin.axes for dim in axis]
    axes = []
    for size in shape:
        axis: list[int] = []
        while dims and prod(origin.leaf.shape[d] for d in (*axis, dims[0])) <= size:
            axis.append(dims.pop(0))
        if prod(origin.leaf.shape[d] for d in axis) != size:
            return None
        axes.append(tuple(axis))
    return None if dims else tuple(axes)


def _permuted(func: Any, axes: Axes, args: Any, kwargs: Any) -> Axes:
    probe = torch.empty([2 + dim for dim in range(len(axes))], device="meta")
    return tuple(axes[size - 2] for size in func(probe, *args, **kwargs).shape)


def pointwise(tracer: Tracer, inputs: Sequence[Tensor], out: Any) -> bool:
    """Follow a weight through arithmetic with other parameters; says whether it could be."""
    results = tensors(out)
    origins = [o for x in inputs if (o := tracer.origin(x)) and x.shape == results[0].shape]
    origins = [o for o in origins if len(o.leaf.shape) > 1]
    if not origins or len(results) != 1:
        return False
    if not all(_meets(tracer, origins[0], x, results[0].ndim) for x in inputs):
        return False
    tracer.derive(results[0], origins[0])
    return True


def _meets(tracer: Tracer, origin: WeightOrigin, x: Tensor, ndim: int) -> bool:
    """Tie what a weight is combined with to its dimensions: another weight, a gain, a number."""
    other = find(tracer, x)
    ahead = ndim - x.ndim
    if other is not None:
        pairs = zip(origin.axes[ahead:], other.axes, x.shape, strict=True)
        if any(mine != theirs and size > 1 for mine, theirs, size in pairs):
            return False
        for dim in {dim for axis in other.axes for dim in axis} if other != origin else ():
            if dim < 2:
                one, two = (labels(tracer, leaf, dim) for leaf in (origin.leaf, other.leaf))
                tracer.ledger.tie(one, two, reason=f"{tracer.named} combines weights")
        return True
    return all(
        _fits(tracer, origin, ahead + dim, along(tracer.labels(x), dim))
        for dim in varying(tracer.labels(x))
    )


def _fits(tracer: Tracer, origin: WeightOrigin, dim: int, vector: Vector | None) -> bool:
    """Tie a gain's channels to a weight's dimension."""
    axis = origin.axes[dim]
    if vector is None or len(axis) != 1:
        return False
    mine = labels(tracer, origin.leaf, axis[0])
    tracer.ledger.tie(mine, vector, reason=f"{tracer.named} scales fixed channels")
    return True


def reduced(tracer: Tracer, origin: WeightOrigin, gone: set[int], out: Tensor) -> None:
    """Follow a weight through a sum over some of its dimensions."""
    kept = [() if dim in gone else axis for dim, axis in enumerate(origin.axes)]
    if out.ndim < len(kept):
        kept = [axis for dim, axis in enumerate(kept) if dim not in gone]
    tracer.derive(out, WeightOrigin(origin.leaf, tuple(kept)))


def times_vector(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """A weight as a matrix times a vector, in spectral norm: both have its channels."""
    weight, vector = args[:2]
    origin = tracer.origin(weight)
    sides = [] if origin is None else [_laid_out(tracer, origin, axis) for axis in origin.axes]
    if len(sides) != 2 or not (tracer.is_parametric(weight) and tracer.is_parametric(vector)):
        return unknown(tracer, func, args, kwargs, out)
    rows, columns = sides
    entries = tracer.labels(vector).reshape(-1).numpy()
    tracer.ledger.tie(entries, columns, reason=f"{tracer.named} multiplies a fixed vector")
    tracer.label(out, torch.from_numpy(rows))


def fake_quantised(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Quantisation that is learnt with: a weight stays that weight, channels their place."""
    x, y = args[0], tensors(out)[0]
    if (origin := find(tracer, x)) is not None:
        tracer.derive(y, origin)
        for scale in tensors(args[1:]):
            if scale.ndim == 1 and scale.numel() == x.shape[0] > 1:
                _fits(tracer, origin, 0, tracer.labels(scale).reshape(-1).numpy())
    else:
        tracer.label(y, tracer.labels(x))


def _laid_out(tracer: Tracer, origin: WeightOrigin, axis: Sequence[int]) -> Vector:
    """Label an axis into which several dimensions of a weight were laid, its channels first."""
    if not axis:
        return np.full(1, FIXED, dtype=np.int64)
    inner = prod(origin.leaf.shape[dim] for dim in axis[1:])
    if axis[0] > 1:
        return np.full(origin.leaf.shape[axis[0]] * inner, FIXED, dtype=np.int64)
    return np.repeat(labels(tracer, origin.leaf, axis[0]), inner)


def labels(tracer: Tracer, leaf: TracedTensor, dim: int) -> Vector:
    """Name the channels along a dimension of a weight, if they have no names yet."""
    vector = leaf.dims[dim]
    if vector is None:
        vector = leaf.dims[dim] = tracer.ledger.name(leaf.shape[dim])
    return vector
