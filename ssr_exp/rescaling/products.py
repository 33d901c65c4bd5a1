"""Rules of convolutions, linear maps and norms: new channels are made, and parameters labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ssr_exp.rescaling.labels import (
    BATCH,
    FIXED,
    Vector,
    along,
    spread,
)
from ssr_exp.rescaling.operations import tensors, unknown, where

if TYPE_CHECKING:
    from ssr_exp.rescaling.trace import Leaf, Tracer


def norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Batch norm: its parameters and statistics have one entry for each channel."""
    x, *parameters = args[:5]
    channels = along(tracer.labels(x), 1)
    if channels is None:
        return unknown(tracer, func, args, kwargs, out)
    for parameter in tensors(parameters):
        _fit(tracer, parameter, channels)
    tracer.label(tensors(out)[0], tracer.labels(x))


def _fit(tracer: Tracer, parameter: Tensor, channels: Vector) -> None:
    labels = tracer.labels(parameter).reshape(-1).numpy()
    tracer.trace.ledger.tie(labels, channels, reason=f"{where(tracer)} normalises fixed channels")


def convolution(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Make new channels; remember which ones were read."""
    x, weight, bias, *_, transposed, _, groups = args
    source, channels = tracer.origin(weight), along(tracer.labels(x), 1)
    kernel = int(np.prod(weight.shape[2:]))
    if source is None or channels is None or transposed:
        positions = (x if transposed else out)[0, 0].numel()
        _fixed_product(tracer, positions, out.shape[1], x.shape[1], kernel, groups)
        return unknown(tracer, func, args, kwargs, out)
    labels = _product(tracer, source[0], channels, out.shape[1], kernel, groups, out)
    tracer.label(out, spread(labels, out.shape, 1))
    if bias is not None:
        _fit(tracer, bias, labels)


def linear(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Matrix products whose second factor is a weight: `addmm`, `mm`."""
    bias, x, weight = (None, *args) if len(args) == 2 else args[:3]
    source, channels = tracer.origin(weight), along(tracer.labels(x), 1)
    if source is None or channels is None or source[1] != (1, 0):
        _fixed_product(tracer, out.shape[0] // BATCH, weight.shape[1], weight.shape[0], 1, 1)
        return unknown(tracer, func, args, kwargs, out)
    labels = _product(tracer, source[0], channels, out.shape[1], 1, 1, out)
    tracer.label(out, spread(labels, out.shape, 1))
    if bias is not None:
        _fit(tracer, bias, labels)


def batched(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Products of activations (attention): counted, and their channels frozen."""
    one, other = args[-2:]
    count, n, k = len(out) // BATCH, other.shape[2], one.shape[2]
    _fixed_product(tracer, one.shape[1], n * count, k * count, 1, count)
    unknown(tracer, func, args, kwargs, out)


def _fixed_product(
    tracer: Tracer, positions: int, n: int, k: int, kernel: int, groups: int
) -> None:
    """Count a product whose channels are frozen."""
    from ssr_exp.rescaling.trace import Product

    out, inp = (np.full(size, FIXED, dtype=np.int64) for size in (n, k))
    product = Product(where(tracer), positions, out, inp, kernel, groups, narrow=False)
    tracer.trace.products.append(product)


def _product(
    tracer: Tracer, leaf: Leaf, inp: Vector, size: int, kernel: int, groups: int, out: Tensor
) -> Vector:
    from ssr_exp.rescaling.trace import Product

    ledger = tracer.trace.ledger
    labels = ledger.produce(size, where(tracer))
    narrow = _is_narrow(len(inp) // groups, size // groups, groups)
    if narrow:
        repeat = size // len(inp)
        ledger.tie(labels, np.repeat(inp, repeat), reason=f"{where(tracer)} groups fixed channels")
        ledger.multiples.append((inp, len(inp) // groups))
    elif groups > 1:
        ledger.multiples += [(labels, groups), (inp, groups)]
    _claim(tracer, leaf, labels, None if narrow else inp)
    positions = out.numel() // size // BATCH
    product = Product(where(tracer), positions, labels, inp, kernel, groups, narrow)
    tracer.trace.products.append(product)
    return labels


def _is_narrow(in_width: int, out_width: int, groups: int) -> bool:
    """Say whether a grouped convolution keeps its groups' width: many and narrow, or depthwise.

    Else it keeps their number. The choice is each convolution's own: one whose groups are wider
    than they are many would have few widths to choose from (ResNeXt-101 32x8d, last stage).
    """
    return groups > 1 and (in_width == 1 or (in_width == out_width and in_width <= groups))


def _claim(tracer: Tracer, leaf: Leaf, out: Vector, inp: Vector | None) -> None:
    """Label a weight's dimensions; a weight that is used twice ties both uses."""
    for dim, labels in ((0, out), (1, inp)):
        known = leaf.dims[dim]
        if known is not None and labels is not None:
            tracer.trace.ledger.tie(known, labels, reason=f"{leaf.name} is shared")
        elif labels is not None:
            leaf.dims[dim] = labels
