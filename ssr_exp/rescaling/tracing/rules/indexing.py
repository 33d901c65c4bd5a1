"""Rules of operations that choose elements by an index: channels along other dimensions pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssr_exp.rescaling.tracing.labels import along, spread, varying
from ssr_exp.rescaling.tracing.rules.operations import Tracer, unknown


def select_by_index(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Rows are chosen by an index: channels along other dimensions pass."""
    x, dim, _ = args
    _pass(tracer, func, args, out, {dim % x.ndim}, lambda kept: kept)


def gather(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Elements are chosen along one dimension, by as many indices as there are elements."""
    x, dim, index = args[:3]
    if varying(tracer.labels(index)):
        return unknown(tracer, func, args, kwargs, out)
    _pass(tracer, func, args, out, {dim % x.ndim}, lambda kept: kept)


def index(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Elements are chosen by index tensors: channels along dimensions without one pass."""
    indices = args[1]
    given = [dim for dim, each in enumerate(indices) if each is not None]
    if any(indices[dim].dtype == torch.bool for dim in given):
        return unknown(tracer, func, args, kwargs, out)
    new: int = max(indices[dim].ndim for dim in given)
    together = given == list(range(given[0], given[0] + len(given)))

    def moved(kept: int) -> int:
        before = sum(dim < kept for dim in given)
        if together and not before:
            return kept
        return kept - before + new

    _pass(tracer, func, args, out, set(given), moved)


def _pass(
    tracer: Tracer, func: Any, args: Any, out: Tensor, gone: set[int], moved: Callable[[int], int]
) -> None:
    """Label what was chosen of a tensor along the dimensions `gone`: others hold their channels.

    `moved` says where another dimension stands in the result.
    """
    labels = tracer.labels(args[0])
    dims = varying(labels)
    channels = along(labels, dims[0]) if len(dims) == 1 and dims[0] not in gone else None
    if channels is not None:
        tracer.label(out, spread(channels, out.shape, moved(dims[0])))
    elif dims or tracer.origin(args[0]) is not None:
        unknown(tracer, func, args, {}, out)
