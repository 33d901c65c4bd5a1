"""Rules of operations that move, combine or drop elements: channels pass, meet or end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ssr_exp.rescaling.labels import (
    FIXED,
    FOLLOWS_OUTPUT,
    along,
    fixed_like,
    shrink,
    spread,
    varying,
)
from ssr_exp.rescaling.operations import name, tensors, unknown, where

if TYPE_CHECKING:
    from ssr_exp.rescaling.trace import Tracer


def pointwise(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Elements that meet belong together: tie their channels."""
    inputs = [x for x in tensors(args, kwargs) if x.ndim]
    if any(source[0].is_weight for x in inputs if (source := tracer.origin(x))):
        return unknown(tracer, func, args, kwargs, out)
    merged = None
    for x in inputs:
        labels = tracer.labels(x)
        merged = labels if merged is None else _merge(tracer, func, merged, labels)
    for x in tensors(out):
        tracer.label(x, fixed_like(x) if merged is None else merged.expand(x.shape))


def _merge(tracer: Tracer, func: Any, one: Tensor, other: Tensor) -> Tensor:
    """Broadcast two label tensors, tie what meets, and keep the label that is there."""
    if _stretches(one, other) != _stretches(other, one):
        return one if _stretches(one, other) else other
    for mine, theirs in ((one, other), (other, one)):
        _freeze_on_fixed(tracer, func, mine, theirs)
    one, other = (shrink(labels) for labels in torch.broadcast_tensors(one, other))
    shape = torch.broadcast_shapes(one.shape, other.shape)
    one, other = (labels.expand(shape) for labels in (one, other))
    both = (one != FIXED) & (other != FIXED) & (one != other)
    if bool(both.any()):
        tracer.trace.ledger.ties.append((one[both].numpy(), other[both].numpy()))
    return torch.where(one == FIXED, other, one)


def _stretches(mine: Tensor, theirs: Tensor) -> bool:
    """Say whether `theirs` is repeated along all of `mine`'s channels: it fits any number."""
    dims = [dim - mine.ndim + theirs.ndim for dim in varying(mine)]
    return bool(dims) and all(dim < 0 or theirs.shape[dim] == 1 for dim in dims)


def _freeze_on_fixed(tracer: Tracer, func: Any, mine: Tensor, theirs: Tensor) -> None:
    """Freeze channels that meet elements of fixed number; a broadcast from size 1 fits any."""
    for dim in varying(mine):
        theirs_dim = dim - mine.ndim + theirs.ndim
        if theirs_dim >= 0 and theirs.shape[theirs_dim] > 1:
            reason = f"{where(tracer)} meets a tensor of fixed size in {name(func)}"
            met, fixed = torch.broadcast_tensors(shrink(mine), shrink(theirs) == FIXED)
            tracer.trace.ledger.freeze(met[fixed].numpy(), reason)


def move(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Data movement: do to the labels what was done to the data."""
    source = tracer.origin(args[0]) if isinstance(args[0], Tensor) else None
    if source is not None and name(func) in REORDERS:
        _reorder(tracer, func, args, kwargs, out)
    if source is not None and source[0].is_weight:
        return None if name(func) in REORDERS else unknown(tracer, func, args, kwargs, out)
    if name(func) in ("slice", "split", "split_with_sizes"):
        _divide(tracer, func, args[0], tensors(out))
    inputs = tree_map(lambda x: tracer.labels(x) if isinstance(x, Tensor) else x, (args, kwargs))
    moved = _on_labels(func, *inputs)
    for x, labels in zip(tensors(out), tensors(moved), strict=True):
        tracer.label(x, labels)


def _divide(tracer: Tracer, func: Any, x: Tensor, out: Sequence[Tensor]) -> None:
    """Keep equal parts of the channels equal; freeze what is cut at numbers of channels."""
    labels, ledger = tracer.labels(x), tracer.trace.ledger
    for dim in varying(labels):
        sizes = {part.shape[dim] for part in out}
        whole = along(labels, dim)
        if sizes == {x.shape[dim]}:
            continue
        if name(func) == "split" and len(sizes) == 1 and whole is not None:
            ledger.splits.append(np.split(whole, len(out)))
            ledger.multiples.append((whole, len(out)))
        else:
            reason = f"{where(tracer)} takes a slice of the channels"
            ledger.freeze(shrink(labels).reshape(-1).numpy(), reason)


def _on_labels(func: Any, args: Any, kwargs: Any) -> Any:
    if name(func) in ("view", "_unsafe_view"):
        return args[0].reshape(args[1])
    if name(func) in ("clone", "contiguous"):
        return args[0]
    return func(*args, **kwargs)


def _reorder(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Follow a weight through a permutation of its dimensions."""
    leaf, order = tracer.origin(args[0])  # type: ignore[misc]
    probe = torch.empty([2 + dim for dim in order], device="meta")
    tracer.derive(out, leaf, tuple(size - 2 for size in func(probe, *args[1:], **kwargs).shape))


REORDERS = ("t", "transpose", "permute", "alias", "detach", "clone", "contiguous")


def same(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """What comes out belongs to the channels that went in."""
    for x in tensors(out):
        tracer.label(x, tracer.labels(args[0]).expand(x.shape))


def spatial(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Pooling, up-sampling, padding of space: channels pass."""
    channels = along(tracer.labels(args[0]), args[0].ndim - 3)
    if channels is None:
        return unknown(tracer, func, args, kwargs, out)
    for x in tensors(out):
        tracer.label(x, spread(channels, x.shape, x.ndim - 3))


def reduce(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Keep the labels that are constant over what is summed up, drop the others."""
    labels = tracer.labels(args[0])
    dims = args[1] if len(args) > 1 and args[1] is not None else kwargs.get("dim")
    dims = range(labels.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {dim % labels.ndim for dim in dims} if labels.ndim else set()
    if gone & set(varying(labels)):
        labels = fixed_like(args[0])
    for x in tensors(out):
        kept = labels
        for dim in sorted(gone, reverse=True):
            kept = kept.narrow(dim, 0, 1) if x.ndim == labels.ndim else kept.select(dim, 0)
        tracer.label(x, kept.expand(x.shape))


def pad(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Padding of space passes channels; padding of channels adds fixed ones.

    A module that says how many channels it puts out pads to fit, so its output is tied to nothing.
    """
    x, padding = args[0], args[1]
    labels = tracer.labels(x)
    padded = {x.ndim - 1 - k // 2 for k, amount in enumerate(padding) if amount}
    channels = varying(labels)
    if padded & set(channels) and not _pads_to_fit(tracer, out.shape[channels[0]]):
        tracer.label(out, torch.nn.functional.pad(labels, padding, value=FIXED))
    elif padded & set(channels) and len(channels) == 1:
        fresh = tracer.trace.ledger.produce(out.shape[channels[0]], where(tracer))
        tracer.label(out, spread(fresh, out.shape, channels[0]))
    elif len(channels) == 1:
        vector = along(labels, channels[0])
        assert vector is not None
        tracer.label(out, spread(vector, out.shape, channels[0]))
    else:
        tracer.label(out, fixed_like(out))


def _pads_to_fit(tracer: Tracer, size: int) -> bool:
    module = tracer.modules[where(tracer)]
    return any(vars(module).get(name) == size for name in FOLLOWS_OUTPUT)


def nothing(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Constants belong to no channel."""
