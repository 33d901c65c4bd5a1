"""Rules of normalisations: their parameters and statistics belong to the channels they meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ssr_exp.rescaling.tracing.labels import FIXED, Vector, along, channels_of, varying
from ssr_exp.rescaling.tracing.rules import parameters as weights
from ssr_exp.rescaling.tracing.rules.operations import Tracer, tensors, unknown
from ssr_exp.rescaling.tracing.rules.products import fit, is_narrow


def batch_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Batch norm: one entry of each parameter for each channel."""
    x, *parameters = args[:5]
    origin = weights.find(tracer, x)
    if origin is not None:
        axis = origin.axes[1]
        if len(axis) != 1:
            return unknown(tracer, func, args, kwargs, out)
        channels: Vector | None = weights.labels(tracer, origin.leaf, axis[0])
        tracer.derive(tensors(out)[0], origin)
    else:
        channels = _normalised(tracer, x)
        tracer.label(tensors(out)[0], tracer.labels(x))
    if channels is None:
        return unknown(tracer, func, args, kwargs, out)
    for parameter in tensors(parameters):
        fit(tracer, parameter, channels)


def _normalised(tracer: Tracer, x: Tensor) -> Vector | None:
    """Read the channels of a norm; where they stand elsewhere, dimension 1 has fixed ones."""
    labels = tracer.labels(x)
    if varying(labels) and 1 not in varying(labels):
        return np.full(x.shape[1], FIXED, dtype=np.int64)
    return channels_of(labels, 1, tracer.ledger)


def weight_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Weight norm: a weight is its direction times its length, one for each channel."""
    direction, length = args[:2]
    if not weights.pointwise(tracer, [direction, length], tensors(out)[0]):
        unknown(tracer, func, args, kwargs, out)


def layer_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Layer norm, RMS norm: over the channels, or over positions of each channel alike."""
    x, shape, *parameters = args[:4]
    labels, inside = tracer.labels(x), set(range(x.ndim - len(shape), x.ndim))
    dims = varying(labels)
    if len(shape) == 1 and dims == [x.ndim - 1]:
        channels = along(labels, dims[0])
        assert channels is not None
        tracer.need(list(shape), [channels])
        for parameter in tensors(parameters):
            fit(tracer, parameter, channels)
    elif inside & set(dims):
        return unknown(tracer, func, args, kwargs, out)
    for y in tensors(out)[:1]:
        tracer.label(y, labels)


def group_norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Group norm: many narrow groups change their number, few wide ones their width."""
    x, weight, bias, *_, groups, _ = args
    channels = _normalised(tracer, x)
    if channels is None:
        return unknown(tracer, func, args, kwargs, out)
    width = len(channels) // groups
    if is_narrow(width, width, groups):
        tracer.ledger.multiples.append((channels, width))
        tracer.ledger.units.append((channels, width))
        tracer.need([groups], [channels], divisor=width)
    elif groups > 1:
        tracer.ledger.multiples.append((channels, groups))
    for parameter in tensors([weight, bias]):
        fit(tracer, parameter, channels)
    tracer.label(tensors(out)[0], tracer.labels(x))
