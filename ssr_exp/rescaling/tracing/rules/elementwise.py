"""Rules of operations in which elements meet: arithmetic, and sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssr_exp.rescaling.tracing.labels import (
    FIXED,
    Vector,
    along,
    apart,
    fixed_like,
    shrink,
    spread,
    varying,
)
from ssr_exp.rescaling.tracing.rules import parameters
from ssr_exp.rescaling.tracing.rules.operations import Tracer, name, tensors, unknown


def pointwise(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Elements that meet belong together: tie their channels."""
    inputs = [x for x in tensors(args, kwargs) if x.ndim]
    loose = [x for x in inputs if parameters.find(tracer, x)]
    if loose and all(map(tracer.is_parametric, inputs)):
        if not parameters.pointwise(tracer, inputs, out):
            unknown(tracer, func, args, kwargs, out)
        return
    merged = None
    for x in inputs:
        if not any(x is weight for weight in loose):
            labels = tracer.meeting(x)
            merged = labels if merged is None else _merge(tracer, func, merged, labels)
    for x in loose:
        assert merged is not None
        merged = _merge(tracer, func, merged, _met(tracer, x, merged))
    for x in tensors(out):
        tracer.label(x, fixed_like(x) if merged is None else merged.expand(x.shape))
        if merged is not None and merged.shape != x.shape and not varying(merged):
            tracer.stretch(x, merged)
    if len(inputs) == 1 and (origin := tracer.origin(inputs[0])) is not None:
        for x in (x for x in tensors(out) if x.shape == inputs[0].shape):
            tracer.derive(x, origin)  # a weight with one output, times a number, stays that weight
    _note_sizes(tracer, inputs, merged)


def _note_sizes(tracer: Tracer, inputs: list[Tensor], merged: Tensor | None) -> None:
    """What was made of integers met channels: an integer that a module stores may be theirs."""
    dims = [] if merged is None else varying(merged)
    channels = along(merged, dims[0]) if len(dims) == 1 and merged is not None else None
    if channels is None or merged is None:
        return
    for x in inputs:
        dim = dims[0] - merged.ndim + x.ndim
        if tracer.is_sized(x) and dim >= 0 and x.shape[dim] > 1:
            tracer.need([x.shape[dim]], [channels])


def _met(tracer: Tracer, weight: Tensor, labels: Tensor) -> Tensor:
    """Label a parameter of several dimensions along the one that meets channels."""
    origin = parameters.find(tracer, weight)
    assert origin is not None
    dims = [dim - labels.ndim + weight.ndim for dim in varying(labels)]
    if len(dims) == 1 and dims[0] >= 0:
        axis = origin.axes[dims[0]]
        if len(axis) == 1:
            vector = parameters.labels(tracer, origin.leaf, axis[0])
            return spread(vector, weight.shape, dims[0])
    return fixed_like(weight)


def _merge(tracer: Tracer, func: Any, one: Tensor, other: Tensor) -> Tensor:
    """Broadcast two label tensors, tie what meets, and free what meets fixed elements of labels."""
    dims = [{dim - x.ndim for dim in varying(x)} for x in (one, other)]
    if len(dims[0]) == 1 and dims[0] == dims[1]:
        return _merge_vectors(tracer, func, one, other, *dims[0])
    if _stretches(one, other) != _stretches(other, one):
        return one if _stretches(one, other) else other
    for mine, theirs in ((one, other), (other, one)):
        if (branches := _branches(tracer, mine, theirs)) is not None:
            reason = f"{tracer.named} weights a fixed number of branches"
            tracer.ledger.freeze(shrink(theirs).reshape(-1).numpy(), reason)
            tracer.ledger.split(branches)
            return mine
    one, other = (
        _free_of_fixed(tracer, func, mine, theirs) for mine, theirs in ((one, other), (other, one))
    )
    one, other = torch.broadcast_tensors(shrink(one), shrink(other))
    both = (one != FIXED) & (other != FIXED) & (one != other)
    if bool(both.any()):
        tracer.ledger.ties.append((one[both].numpy(), other[both].numpy()))
    return torch.where(one == FIXED, other, one)


def _merge_vectors(tracer: Tracer, func: Any, one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Merge labels that differ along one and the same dimension, counted from the last."""
    mine, theirs = along(one, one.ndim + dim), along(other, other.ndim + dim)
    assert mine is not None and theirs is not None
    if not np.array_equal(mine, theirs):
        reason = f"{tracer.named} meets a tensor of fixed size in {name(func)}"
        tracer.ledger.tie(mine, theirs, reason=reason)
    ndim = max(one.ndim, other.ndim)
    shape = torch.Size(np.broadcast_shapes(one.shape, other.shape))
    return spread(np.where(mine == FIXED, theirs, mine), shape, ndim + dim)


def _stretches(mine: Tensor, theirs: Tensor) -> bool:
    """Say whether `theirs` is repeated along all of `mine`'s channels: it fits any number."""
    dims = [dim - mine.ndim + theirs.ndim for dim in varying(mine)]
    return bool(dims) and all(dim < 0 or theirs.shape[dim] == 1 for dim in dims)


def _branches(tracer: Tracer, stacked: Tensor, weights: Tensor) -> list[Vector] | None:
    """Take apart branches that were stacked, where weights have one number for each of them.

    Returns:
        None if it is otherwise.
    """
    dims = varying(stacked)
    theirs = {dim: dim - stacked.ndim + weights.ndim for dim in dims}
    meet = [dim for dim, at in theirs.items() if at >= 0 and weights.shape[at] > 1]
    if len(dims) < 2 or len(meet) != 1 or not {*varying(weights)} <= {theirs[meet[0]]}:
        return None
    parts = apart(stacked, meet[0])
    distinct = {part.tobytes(): part for part in parts}.values()  # a stream may be there twice
    origins = [tracer.ledger.origins(part) for part in distinct]
    is_apart = len(set.union(*origins)) == sum(map(len, origins))  # and are no view of one
    return parts if is_apart and all((part != FIXED).all() for part in parts) else None


def _free_of_fixed(tracer: Tracer, func: Any, mine: Tensor, theirs: Tensor) -> Tensor:
    """Freeze channels that meet elements of fixed number; a broadcast from size 1 fits any.

    Returns:
        The labels without them: they name no channel any more, such as rows of an image.
    """
    at = {dim: dim - mine.ndim + theirs.ndim for dim in varying(mine)}
    if not any(dim >= 0 and theirs.shape[dim] > 1 for dim in at.values()):
        return mine
    reason = f"{tracer.named} meets a tensor of fixed size in {name(func)}"
    met, fixed = torch.broadcast_tensors(shrink(mine), shrink(theirs) == FIXED)
    tracer.ledger.freeze(met[fixed].numpy(), reason)
    return torch.where(fixed, FIXED, met)


def reduce(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Drop the channels that are summed up; channels of branches that are added are tied."""
    x = args[0]
    gone = _reduced(func, args, kwargs, x.ndim)
    origin = parameters.find(tracer, x)
    if origin is not None:
        for y in tensors(out):
            parameters.reduced(tracer, origin, gone, y)
        return
    labels = tracer.labels(x)
    for dim in gone & set(varying(labels)):
        labels = _summed(tracer, labels, dim) if len(varying(labels)) > 1 else fixed_like(x)
    for y in tensors(out):
        kept = labels
        for dim in sorted(gone, reverse=True):
            kept = kept.narrow(dim, 0, 1) if y.ndim == labels.ndim else kept.select(dim, 0)
        tracer.label(y, kept.expand(y.shape))


def _reduced(func: Any, args: Any, kwargs: Any, ndim: int) -> set[int]:
    """Read over which dimensions an operation reduces; over all if it does not say."""
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    dims = given.get("dim")
    dims = range(ndim) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return {dim % ndim for dim in dims} if ndim else set()


def _summed(tracer: Tracer, labels: Tensor, dim: int) -> Tensor:
    """Tie the channels of branches that are added up, and keep those of the first."""
    first, *others = apart(labels, dim)
    for other in others:
        tracer.ledger.tie(first, other, reason=f"{tracer.named} adds fixed channels")
    return labels.narrow(dim, 0, 1).expand(labels.shape)


def glu(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """One half of the channels gates the other."""
    labels = tracer.labels(args[0])
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", -1)) % labels.ndim
    half = labels.shape[dim] // 2
    one, other = labels.narrow(dim, 0, half), labels.narrow(dim, half, half)
    tracer.label(out, _merge(tracer, func, one, other).expand(out.shape))


def dot(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Two vectors are multiplied and summed up."""
    _merge(tracer, func, *(tracer.labels(x) for x in args[:2]))


def same(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """What comes out belongs to the channels that went in."""
    for x in tensors(out):
        tracer.label(x, tracer.labels(args[0]).expand(x.shape))


def alike(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """A tensor of the size of another one, or filled anew: it has as many channels."""
    labels = tracer.meeting(args[0])
    if tracer.is_unread(args[0]):  # one channel of many, whatever their number is
        labels = fixed_like(args[0])
    for x in tensors(out):
        tracer.label(x, labels.expand(x.shape))
        if labels.shape != x.shape:
            tracer.stretch(x, labels)


def nothing(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Constants belong to no channel."""
