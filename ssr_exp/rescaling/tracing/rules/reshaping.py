"""Rules of operations that move or drop elements: do to the labels what was done to the data."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ssr_exp.rescaling.tracing.labels import (
    FIXED,
    FOLLOWS_OUTPUT,
    Ledger,
    Vector,
    along,
    apart,
    channels_of,
    shrink,
    spread,
    varying,
)
from ssr_exp.rescaling.tracing.rules import parameters
from ssr_exp.rescaling.tracing.rules.operations import Tracer, name, tensors, unknown

VIEWS = ("view", "_unsafe_view", "reshape")
SPLITS = ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")
CUTS = ("slice", "narrow", *SPLITS)
PICKS = ("select", "unbind")


def move(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Follow channels through a movement of elements."""
    x = args[0]
    if isinstance(x, Tensor) and tracer.origin(x) is not None:
        followed = parameters.move(tracer, func, args, kwargs, out)
        if parameters.find(tracer, x):
            return None if followed else unknown(tracer, func, args, kwargs, out)
    if name(func) in CUTS:
        _cut(tracer, func, args, tensors(out))
    elif name(func) in PICKS:
        _pick(tracer, x, args[1] if len(args) > 1 else kwargs.get("dim", 0))
    elif name(func) in VIEWS:
        _fold(tracer, x, tuple(out.shape))
    inputs = tree_map(lambda x: tracer.labels(x) if isinstance(x, Tensor) else x, (args, kwargs))
    moved = _on_labels(func, *inputs)
    for y, labels in zip(tensors(out), tensors(moved), strict=True):
        tracer.label(y, labels)
    if name(func) == "slice":
        dim = _dim_of(func, args)
        start, step = _start_and_step(func, args)
        tracer.cut(x, out, dim, slice(start, start + out.shape[dim] * step, step))
    if name(func) == "select":
        tracer.cut(x, out, args[1] % x.ndim, None)
    if name(func) == "expand" and not varying(inputs[0][0]):
        met = tracer.meeting(x)
        tracer.stretch(out, met.reshape((1,) * (out.ndim - met.ndim) + tuple(met.shape)))


def _cut(tracer: Tracer, func: Any, args: Any, parts: Sequence[Tensor]) -> None:
    """Cut channels: into equal parts that stay equal, or into pieces that scale on their own."""
    labels, ledger, dim = tracer.labels(args[0]), tracer.ledger, _dim_of(func, args)
    size, lengths = labels.shape[dim], [part.shape[dim] for part in parts]
    if dim not in varying(labels) or lengths == [size]:
        return
    start, step = _start_and_step(func, args)
    whole = along(labels, dim)
    if step != 1 or whole is None:
        reason = f"{tracer.named} takes a slice of the channels"
        ledger.freeze(shrink(labels).reshape(-1).numpy(), reason)
        return
    ends = [start, *(start + total for total in itertools.accumulate(lengths))]
    pieces = [whole[a:b] for a, b in itertools.pairwise(ends)]
    equal = len(set(lengths)) == 1 and sum(lengths) == size
    halved = len(lengths) == 1 and 2 * lengths[0] == size and start in (0, lengths[0])
    if equal or halved:
        length = lengths[0]
        ledger.split([whole[at : at + length] for at in range(0, size, length)])
    elif lengths == [1]:  # its code may want a tensor of its shape and no more
        tracer.when_read(parts[0], partial(_scale_apart, ledger, pieces))
    else:
        _scale_apart(ledger, pieces)
    tracer.need(lengths, pieces)
    for end in {*lengths, *ends, size}:
        tracer.need([end], [whole[:end]])
    for length, piece in zip(lengths, pieces, strict=True):
        tracer.need([length], [piece])


def _scale_apart(ledger: Ledger, pieces: Sequence[Vector]) -> None:
    ledger.pieces += pieces
    ledger.splits += _of_one_length(pieces)


def _of_one_length(pieces: Sequence[Vector]) -> list[list[Vector]]:
    """Gather pieces that are equally long: one integer may stand for all of them."""
    by_length: dict[int, list[Vector]] = {}
    for piece in pieces:
        by_length.setdefault(len(piece), []).append(piece)
    return [alike for alike in by_length.values() if len(alike) > 1]


def _dim_of(func: Any, args: Any) -> int:
    """Say along which dimension a tensor is cut; the first one, if nothing is said."""
    position = 2 if name(func) in SPLITS else 1
    dim: int = args[position] if len(args) > position else 0
    return dim % len(args[0].shape)


def _start_and_step(func: Any, args: Any) -> tuple[int, int]:
    step = int(args[4]) if name(func) == "slice" and len(args) > 4 else 1
    if name(func) not in ("slice", "narrow") or len(args) < 3 or args[2] is None:
        return 0, step
    return int(args[2] % args[0].shape[args[1] % args[0].ndim]), step


def _pick(tracer: Tracer, x: Tensor, dim: int) -> None:
    """Take apart a dimension: slices of channels stay equally long, channels become fixed."""
    labels = tracer.labels(x)
    dim %= labels.ndim
    if dim not in varying(labels):
        return
    if varying(labels) == [dim]:
        reason = f"{tracer.named} takes single channels"
        tracer.ledger.freeze(shrink(labels).reshape(-1).numpy(), reason)
    else:
        tracer.ledger.split(apart(labels, dim))


def _fold(tracer: Tracer, x: Tensor, shape: Sequence[int]) -> None:
    """Channels that are laid in several dimensions stay a multiple of the smaller one."""
    labels = tracer.labels(x)
    for dim in varying(labels):
        before, after = x.shape[:dim].numel(), x.shape[dim + 1 :].numel()
        inner = _between(shape, before, after)
        vector = along(labels, dim)
        if vector is None:
            continue
        if inner is None:  # merged with space: as many groups as before, of whole channels
            n_groups = _first_from(shape, before)
            if n_groups > 1 and len(vector) % n_groups == 0:
                tracer.ledger.multiples.append((vector, n_groups))
            continue
        sizes = [size for size in inner if size > 1]
        if len(sizes) > 1:
            tracer.ledger.multiples.append((vector, min(sizes)))
            tracer.need(sizes[:1], [vector[:: len(vector) // sizes[0]]])
        elif len(sizes) == 1:
            tracer.need(sizes, [vector])


def _first_from(shape: Sequence[int], before: int) -> int:
    """Find the dimension of a new shape that begins where an old one began: its size, or 1."""
    totals = zip(itertools.accumulate(shape, operator.mul, initial=1), shape, strict=False)
    return next((size for total, size in totals if total == before and size > 1), 1)


def _between(shape: Sequence[int], before: int, after: int) -> Sequence[int] | None:
    """Find the dimensions of a new shape that stand where one old dimension stood."""
    first, total = 0, 1
    while total < before and first < len(shape):
        total *= shape[first]
        first += 1
    last, rest = len(shape), 1
    while rest < after and last > first:
        last -= 1
        rest *= shape[last]
    return shape[first:last] if total == before and rest == after else None


def _on_labels(func: Any, args: Any, kwargs: Any) -> Any:
    """Do to labels what an operation does to data, on one of each repetition where it can."""
    if name(func) in VIEWS:
        return args[0].reshape(args[1])
    if name(func) in ("clone", "contiguous", "_to_copy", "lift_fresh"):
        return args[0]
    if name(func) == "cat":
        return _cat(args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
    if name(func) == "stack":
        dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        dim %= args[0][0].ndim + 1
        return _cat([labels.unsqueeze(dim) for labels in args[0]], dim)
    if name(func) in ("flip", "roll") and not set(varying(args[0])) & _touched(func, args, kwargs):
        return args[0]
    return func(*args, **kwargs)


def _cat(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate labels without laying out their repetitions along the other dimensions."""
    parts = [part for part in parts if part.ndim > 1 or part.numel()]
    dim %= parts[0].ndim
    free = set(range(parts[0].ndim)) - {dim, *(d for part in parts for d in varying(part))}
    small = list(parts)
    for other in free:
        small = [part.narrow(other, 0, 1) for part in small]
    joined = torch.cat(small, dim)
    shape = list(parts[0].shape)
    shape[dim] = joined.shape[dim]
    return joined.expand(shape)


def _touched(func: Any, args: Any, kwargs: Any) -> set[int]:
    position = 1 if name(func) == "flip" else 2
    dims = args[position] if len(args) > position else kwargs.get("dims", ())
    return {dim % args[0].ndim for dim in dims} if dims else set(range(args[0].ndim))


def spatial(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Pooling, up-sampling, padding of space: channels pass."""
    x, *others = tensors(args, kwargs)
    n_spatial = next((int(digit) for digit in "123" if f"{digit}d" in name(func)), 2)
    dim = x.ndim - 1 - n_spatial
    channels = channels_of(tracer.labels(x), dim, tracer.ledger)
    if channels is None and _slides_over_channels(tracer, x, out):
        return None
    if channels is None:
        return unknown(tracer, func, args, kwargs, out)
    for other in others:  # a grid to sample at
        read = shrink(tracer.labels(other)).reshape(-1).numpy()
        tracer.ledger.freeze(read, f"{tracer.named} reads where to sample")
    for y in tensors(out):
        tracer.label(y, spread(channels, y.shape, y.ndim - x.ndim + dim))


def _slides_over_channels(tracer: Tracer, x: Tensor, out: Any) -> bool:
    """Follow a pooling over padded channels that keeps their number (local response norm)."""
    labels = tracer.labels(x)
    dims = varying(labels)
    padded = along(labels, dims[0]) if len(dims) == 1 else None
    channels = None if padded is None else padded[padded != FIXED]
    if channels is None or not isinstance(out, Tensor) or len(channels) != out.shape[dims[0]]:
        return False
    tracer.label(out, spread(channels, out.shape, dims[0]))
    return True


def write(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Elements are copied into a tensor, or into a slice of one: it holds their channels then."""
    target, source = args[:2]
    dims = varying(tracer.labels(source)) if isinstance(source, Tensor) else []
    channels = along(tracer.labels(source), dims[0]) if len(dims) == 1 else None
    if channels is None:
        return unknown(tracer, func, args, kwargs, out) if dims else None
    dim = target.ndim - source.ndim + dims[0]
    if len(channels) != target.shape[dim]:
        return unknown(tracer, func, args, kwargs, out)
    tracer.label(out, spread(channels, out.shape, dim))
    while (cut := tracer.cut_from(target)) is not None:
        target, along_dim, where_ = cut
        dim += where_ is None and dim >= along_dim  # a place was selected: it has a dimension less
        whole = tracer.labels(target)
        held = along(whole, dim) if set(varying(whole)) <= {dim} else None
        if held is None:
            return unknown(tracer, func, args, kwargs, out)
        if along_dim == dim and where_ is not None:
            written, channels = channels, held.copy()
            channels[where_] = written[: len(channels[where_])]
        elif (held != FIXED).any():
            tracer.ledger.tie(held, channels, reason=f"{tracer.named} writes fixed channels")
        tracer.label(target, spread(channels, target.shape, dim))


def pad(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Padding of space passes channels; padding of channels adds fixed ones.

    A module that says how many channels it puts out pads to fit, so its output is tied to nothing.
    """
    x, padding = args[0], args[1]
    labels = tracer.labels(x)
    padded = {x.ndim - 1 - k // 2 for k, amount in enumerate(padding) if amount}
    channels, stored = varying(labels), vars(tracer.modules[tracer.path])
    if channels == [1, 2, 3] and x.ndim == 4 and padded <= {2, 3}:  # as after a pixel shuffle
        first = channels_of(labels, 1, tracer.ledger)
        assert first is not None
        tracer.label(out, spread(first, out.shape, 1))
        return
    pads_to_fit = channels and out.shape[channels[0]] in map(stored.get, FOLLOWS_OUTPUT)
    if padded & set(channels) and not pads_to_fit:
        tracer.label(out, torch.nn.functional.pad(labels, padding, value=FIXED))
    elif padded & set(channels) and len(channels) == 1:
        fresh = tracer.ledger.produce(out.shape[channels[0]], tracer.path)
        tracer.label(out, spread(fresh, out.shape, channels[0]))
    elif padded & set(channels):
        unknown(tracer, func, args, kwargs, out)
    else:  # along which they are all alike
        for dim in padded:
            labels = labels.narrow(dim, 0, 1)
        tracer.label(out, labels.expand(out.shape))
