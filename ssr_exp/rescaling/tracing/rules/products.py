"""Rules of convolutions, linear maps and norms: new channels are made, and parameters labelled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ssr_exp.rescaling.tracing.labels import (
    FIXED,
    Vector,
    along,
    channels_of,
    shrink,
    spread,
    varying,
)
from ssr_exp.rescaling.tracing.rules import parameters
from ssr_exp.rescaling.tracing.rules.operations import Tracer, unknown
from ssr_exp.rescaling.tracing.trace import TracedTensor


def convolution(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Make new channels; remember which ones were read."""
    x, weight, bias, *_, transposed, _, groups = args
    leaf, kernel = _stored(tracer, weight), int(np.prod(weight.shape[2:]))
    if _slides(tracer, x, out):
        return _sliding(tracer, x, kernel, groups, out)
    channels = channels_of(_named_anew(tracer, x), 1, tracer.ledger)
    positions = (x if transposed else out)[:, 0].numel()
    if leaf is None or channels is None:
        sizes = positions, out.shape[1], x.shape[1], kernel, groups
        apart = len(x) % tracer.images != 0
        _fixed_product(tracer, *sizes, side_by_side=apart, is_transposed=transposed)
        return unknown(tracer, func, args, kwargs, out)
    size, per_image = out.shape[1], positions // tracer.images
    labels = _product(tracer, channels, size, kernel, groups, per_image, is_transposed=transposed)
    narrow = is_narrow(len(channels) // groups, len(labels) // groups, groups)
    _claim(tracer, leaf, labels, channels, narrow, out=1 if transposed else 0)
    tracer.label(out, spread(labels, out.shape, 1))
    if bias is not None:
        fit(tracer, bias, labels)


def _named_anew(tracer: Tracer, x: Tensor) -> Tensor:
    """Look up labels; channels of a tensor that was made of a size alone are new ones.

    A state that starts at zero has as many channels as it has later.
    """
    labels = tracer.labels(x)
    if tracer.is_sized(x) and not varying(labels) and x.shape[1] > 1:
        fresh = tracer.ledger.name(x.shape[1])
        labels = spread(fresh, x.shape, 1)
        tracer.label(x, labels)
        tracer.need([x.shape[1]], [fresh])
    return labels


def _slides(tracer: Tracer, x: Tensor, out: Tensor) -> bool:
    """Say whether a convolution slides over the channels themselves (ECA), keeping their number."""
    dims = varying(tracer.labels(x))
    return len(dims) == 1 and dims[0] > 1 and x.shape[dims[0]] == out.shape[dims[0]]


def _sliding(tracer: Tracer, x: Tensor, kernel: int, groups: int, out: Tensor) -> None:
    (dim,) = varying(tracer.labels(x))
    rows = along(tracer.labels(x), dim)
    assert rows is not None
    out_, inp = _fixed(out.shape[1]), _fixed(x.shape[1])
    positions = out[:, 0].numel() // len(rows) // tracer.images
    tracer.produce(positions, out_, inp, kernel, groups, False, rows)
    tracer.label(out, spread(rows, out.shape, dim))


def deformable(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """A convolution at offsets: these are fixed, and its multiply-adds are named, not counted."""
    x, weight, offset, mask, bias = args[:5]
    leaf, channels = _stored(tracer, weight), along(tracer.labels(x), 1)
    if not tracer.training:
        tracer.trace.uncounted["deformable convolutions"].add(tracer.path)
    if leaf is None or channels is None or weight.shape[1] != x.shape[1]:
        return unknown(tracer, func, args, kwargs, out)
    for fixed in (offset, mask):
        read = shrink(tracer.labels(fixed)).reshape(-1).numpy()
        tracer.ledger.freeze(read, f"{tracer.named} reads its offsets")
    labels = tracer.name(out.shape[1])
    _claim(tracer, leaf, labels, channels, narrow=False)
    tracer.label(out, spread(labels, out.shape, 1))
    fit(tracer, bias, labels)


def linear(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Matrix products whose second factor is a weight: `addmm`, `mm`."""
    bias, x, weight = (None, *args) if len(args) == 2 else args[:3]
    leaf = _stored(tracer, weight, is_transposed=True)
    channels = along(_named_anew(tracer, x), 1)
    positions, (k, n) = out.shape[0], weight.shape
    if leaf is not None and varying(tracer.labels(x)) == [0]:
        return _alike(tracer, x, out)
    if leaf is None or channels is None:
        _fixed_product(tracer, positions, n, k, 1, 1)
        return unknown(tracer, func, args, kwargs, out)
    labels = _product(tracer, channels, n, 1, 1, positions // tracer.images)
    _claim(tracer, leaf, labels, channels, narrow=False)
    tracer.label(out, spread(labels, out.shape, 1))
    if bias is not None:
        fit(tracer, bias, labels)


def embedding(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Look rows of a table up: its columns are channels, its rows are fixed.

    In networks of one image it stays as it is, so that their plans are those of earlier studies.
    """
    leaf = _stored(tracer, args[0])
    if leaf is None or len(leaf.shape) != 2 or tracer.trace.inputs.is_one_image:
        return unknown(tracer, func, args, kwargs, out)
    labels = tracer.name(leaf.shape[1])
    _claim(tracer, leaf, labels, _fixed(leaf.shape[0]), narrow=False, out=1)
    tracer.need([leaf.shape[1]], [labels])
    tracer.label(out, spread(labels, out.shape, out.ndim - 1))


def _alike(tracer: Tracer, x: Tensor, out: Tensor) -> None:
    """A linear map over positions treats each channel alike: they stay in the rows."""
    rows = along(tracer.labels(x), 0)
    assert rows is not None
    images = tracer.images
    rows = rows[: len(rows) // images]
    tracer.produce(1, _fixed(out.shape[1]), _fixed(x.shape[1]), 1, 1, False, rows)
    tracer.label(out, spread(np.tile(rows, images), out.shape, 0))


def batched(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Products of activations: channels stay in rows or columns, or are summed up.

    Where both rows and columns would be channels, or channels stand in the batch (the heads of
    attention), they are frozen.
    """
    one, other = args[-2:]
    rows, columns, inner = _sides(tracer, one, other)
    is_first = len(out) % tracer.images == 0  # else the images stand in the rows: tokens come first
    times = len(out) // tracer.images if is_first else len(out)
    if rows is None or columns is None or (_named(rows) and (_named(columns) or not is_first)):
        positions, n, k = one.shape[1], other.shape[2], one.shape[2]
        positions *= tracer.images if is_first else 1
        _fixed_product(tracer, positions, n * times, k * times, 1, times)
        return unknown(tracer, func, args, kwargs, out)
    if _named(rows):
        positions, labels = 1, spread(rows, out.shape, 1)
    else:
        positions = len(rows) if is_first else len(rows) // tracer.images
        labels = spread(columns, out.shape, 2)
    kept_rows = rows if _named(rows) else None
    tracer.produce(positions, columns, inner, 1, 1, False, kept_rows, times)
    tracer.label(out, labels)


def _sides(
    tracer: Tracer, one: Tensor, other: Tensor
) -> tuple[Vector | None, Vector | None, Vector]:
    """Read the labels of a product's rows, columns and inner dimension, which is tied."""
    nothing = _fixed(one.shape[2])
    ends = [tracer.labels(x) for x in (one, other)]
    if any(len(varying(labels)) > 1 or 0 in varying(labels) for labels in ends):
        return None, None, nothing
    rows, columns = along(ends[0], 1), along(ends[1], 2)
    inner = [along(ends[0], 2), along(ends[1], 1)]
    if all(vector is not None and _named(vector) for vector in inner):
        assert inner[0] is not None and inner[1] is not None
        tracer.ledger.tie(inner[0], inner[1], reason=f"{tracer.named} meets fixed channels")
        return _fixed(one.shape[1]), _fixed(other.shape[2]), inner[0]
    if any(vector is not None and _named(vector) for vector in inner):
        return None, None, nothing
    return rows, columns, nothing


def attention(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Attention in one operation: two products of activations; its channels are frozen."""
    query, key, value = args[:3]
    heads = query.shape[0] // tracer.images * query.shape[1]
    for inner, width in ((query.shape[-1], key.shape[-2]), (key.shape[-2], value.shape[-1])):
        positions = query.shape[-2] * tracer.images
        _fixed_product(tracer, positions, width * heads, inner * heads, 1, heads)
    unknown(tracer, func, args, kwargs, out)


def fit(tracer: Tracer, parameter: Tensor, channels: Vector) -> None:
    """Tie a parameter of one dimension (a bias, a gain, a statistic) to channels."""
    labels = tracer.labels(parameter).reshape(-1).numpy()
    tracer.ledger.tie(labels, channels, reason=f"{tracer.named} scales fixed channels")


def _named(vector: Vector) -> bool:
    return bool((vector != FIXED).any())


def _fixed(size: int) -> Vector:
    return np.full(size, FIXED, dtype=np.int64)


def _stored(tracer: Tracer, weight: Tensor, *, is_transposed: bool = False) -> TracedTensor | None:
    """Find the parameter or buffer that a weight is, its dimensions in the expected order."""
    origin = tracer.origin(weight)
    if origin is None:
        return None
    axes = parameters.whole(origin.leaf)
    return origin.leaf if origin.axes == (axes[::-1] if is_transposed else axes) else None


def _fixed_product(
    tracer: Tracer, *sizes: int, side_by_side: bool = False, is_transposed: bool = False
) -> None:
    """Count a product of a whole batch whose channels are frozen.

    Its sizes are positions, N, K, kernel and groups. The images stand in its positions; or, where
    each has kernels of its own, side by side.
    """
    positions, n, k, kernel, groups = sizes
    if side_by_side:
        n, k, groups = n // tracer.images, k // tracer.images, groups // tracer.images
    else:
        rest, divided = tracer.times_one, []
        for size in (positions, n, k):
            common = math.gcd(size, rest)
            divided.append(size // common)
            rest //= common
        positions, n, k = divided
    ends = _fixed(n), _fixed(k)
    tracer.produce(positions, *ends, kernel, groups, narrow=False, is_transposed=is_transposed)


def _product(
    tracer: Tracer,
    inp: Vector,
    size: int,
    kernel: int,
    groups: int,
    positions: int,
    is_transposed: bool = False,
) -> Vector:
    """Make `size` new channels from those of `inp`; returns their labels."""
    ledger = tracer.ledger
    labels = tracer.name(size)
    narrow = is_narrow(len(inp) // groups, size // groups, groups)
    if narrow:
        repeat = size // len(inp)
        ledger.tie(labels, np.repeat(inp, repeat), reason=f"{tracer.named} groups fixed channels")
        ledger.multiples.append((inp, len(inp) // groups))
        ledger.units.append((inp, len(inp) // groups))
        tracer.need([groups], [inp], divisor=len(inp) // groups)
    elif groups > 1:
        ledger.multiples += [(labels, groups), (inp, groups)]
        if streams := _streams(tracer, inp, groups):
            ledger.split(streams)
    ends = labels, inp
    tracer.produce(positions, *ends, kernel, groups, narrow, is_transposed=is_transposed)
    return labels


def _streams(tracer: Tracer, inp: Vector, groups: int) -> list[Vector]:
    """Cut joined channels into those that groups read apart, of one length, if they are.

    Where such streams were not equally wide, a group would read of two of them.
    """
    parts = np.split(inp, groups)
    makers = [tracer.ledger.makers(part) for part in parts]
    starts = [n for n in range(1, groups) if makers[n] != makers[n - 1]]
    ends = [makers[n] for n in (0, *starts)]
    if not starts or FIXED in inp or len(set().union(*ends)) < sum(map(len, ends)):
        return []
    streams = np.split(inp, [n * len(parts[0]) for n in starts])
    return streams if len({*map(len, streams)}) == 1 else parts


def is_narrow(in_width: int, out_width: int, groups: int) -> bool:
    """Say whether a grouped operation keeps its groups' width: many and narrow, or depthwise.

    Else it keeps their number. The choice is each operation's own: one whose groups are wider
    than they are many would have few widths to choose from (ResNeXt-101 32x8d, last stage).
    """
    return groups > 1 and (in_width == 1 or (in_width == out_width and in_width <= groups))


def _claim(
    tracer: Tracer, leaf: TracedTensor, made: Vector, read: Vector, narrow: bool, out: int = 0
) -> None:
    """Label a weight's dimensions; a weight that is used twice ties both uses.

    Channels that are put out stand along the dimension `out`, those that are read along the other.
    The second one is that of a group: it keeps its length where groups keep their width. There the
    channels that are put out are tied to those that are read, and both stand along the first.
    """
    leaf.out.add(0 if narrow else out)
    first, second = (read, made) if out else (made, read)
    inside = None if narrow and len(second) != leaf.shape[1] else second
    for dim, labels in ((0, first), (1, inside)):
        before = leaf.dims[dim]
        if labels is None or before is None:
            leaf.dims[dim] = before if labels is None else labels
        elif len(before) == len(labels):
            tracer.ledger.tie(before, labels, reason=f"{leaf.name} meets fixed channels")
        else:
            for vector in (before, labels):
                tracer.ledger.freeze(vector, f"{leaf.name} is combined with other weights")
