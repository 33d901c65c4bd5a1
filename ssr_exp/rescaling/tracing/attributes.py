"""Integers that modules store and that repeat a width: they follow it.

Some say by their name what they count, some are found because an operation was given them. What
is missed or mistaken, the proof finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.tracing.channel_groups import Form, Grouping
from ssr_exp.rescaling.tracing.labels import FOLLOWS_INPUT, FOLLOWS_OUTPUT, PAIRS, Vector
from ssr_exp.rescaling.tracing.trace import Call, Need, Trace

NOT_WIDTHS = ("stride", "kernel_size", "padding", "dilation", "output_size")

Attribute = tuple[str, str]
"""The path of a module, and the name of what it stores."""


def find(
    network: nn.Module, traced: Trace, grouping: Grouping
) -> dict[Attribute, Form | tuple[Form, ...]]:
    """Find integers that repeat a width, and write them as forms.

    One that could repeat two different widths is left alone.
    """
    given: dict[Attribute, set[Form | tuple[Form, ...]]] = {}
    for key, form in _given(network, traced, grouping):
        given.setdefault(key, set()).add(form)
    certain = {key: next(iter(forms)) for key, forms in given.items() if len(forms) == 1}
    named = dict(_named(network, traced, grouping))
    forms = certain | named | dict(_layers(network, traced, grouping))
    return {key: form for key, form in forms.items() if key not in traced.left_alone}


def tie(network: nn.Module, traced: Trace, plan: Plan, path: str) -> bool:
    """Tie the widths that one stored integer repeats, in the module at `path` and what holds it.

    That module did not run at another width, and the plan left such integers alone. Ties are added
    to the trace's ledger; returns whether there are any.
    """
    modules, tied = dict(network.named_modules()), False
    repeated: dict[Attribute, list[Vector]] = {}
    for need in traced.needs:
        inside = need.path == path or path.startswith(f"{need.path}." if need.path else "")
        if inside and len(need.sizes) == 1:
            for name in _stored(vars(modules[need.path]), need):
                if (need.path, name) not in plan.attributes:
                    repeated.setdefault((need.path, name), []).append(need.labels[0])
    for (holder, name), (first, *others) in repeated.items():
        for other in (vector for vector in others if len(vector) == len(first)):
            if not np.array_equal(first, other) and not traced.ledger.are_tied(first, other):
                reason = f"{holder}.{name} is the width of several"
                traced.ledger.tie(first, other, reason=reason)
                tied = True
    return tied


def _given(
    network: nn.Module, traced: Trace, grouping: Grouping
) -> Iterator[tuple[Attribute, Form | tuple[Form, ...]]]:
    """Find the integers that operations were given."""
    modules = dict(network.named_modules())
    for need in traced.needs:
        if not all(grouping.fits(labels) for labels in need.labels):
            continue
        forms = tuple(grouping.form(labels) / need.divisor for labels in need.labels)
        values = vars(modules[need.path])
        for name in _stored(values, need):
            yield (need.path, name), forms[0] if _is_integer(values[name]) else forms


def _named(
    network: nn.Module, traced: Trace, grouping: Grouping
) -> Iterator[tuple[Attribute, Form]]:
    """Find the integers that say how many channels a module reads or puts out."""
    modules = dict(network.named_modules())
    for call in traced.calls:
        yield from _equal(vars(modules[call.path]), call, grouping)
        ends = ((FOLLOWS_INPUT, call.in_labels), (FOLLOWS_OUTPUT, call.out_labels))
        for names, vectors in ends:
            labels = vectors[0] if vectors else None
            if labels is None or not grouping.fits(labels):
                continue
            for name in names:
                value = vars(modules[call.path]).get(name)
                if _is_integer(value) and value == len(labels):
                    yield (call.path, name), grouping.form(labels)


def _equal(
    values: Mapping[str, Any], call: Call, grouping: Grouping
) -> Iterator[tuple[Attribute, Form]]:
    """Find the two integers that say that a module puts out as many channels as it reads."""
    if not call.in_labels or not call.out_labels:
        return
    read, written = call.in_labels[0], call.out_labels[0]
    if read is None or written is None or not (grouping.fits(read) and grouping.fits(written)):
        return
    form = grouping.form(read)
    for pair in PAIRS if form == grouping.form(written) else ():
        numbers = [values.get(name) for name in pair]
        if all(map(_is_integer, numbers)) and numbers == [len(read)] * 2:
            for name in pair:
                yield (call.path, name), form


def _stored(values: Mapping[str, Any], need: Need) -> Iterator[str]:
    """Name the attributes that hold just the integers of a need."""
    for name, value in values.items():
        if name.startswith("_") or name in NOT_WIDTHS:
            continue
        if _is_integer(value) and value > 1:
            if need.sizes == (int(value),):
                yield name
        elif (
            isinstance(value, (list, tuple))
            and all(map(_is_integer, value))
            and tuple(map(int, value)) == need.sizes
        ):
            yield name


def _is_integer(value: Any) -> bool:
    """Say whether a module stores a number: of NumPy, too; what holds tensors equals nothing."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _layers(
    network: nn.Module, traced: Trace, grouping: Grouping
) -> Iterator[tuple[Attribute, Form]]:
    """Read the sizes of linear maps off their weights."""
    for path, module in network.named_modules():
        leaf = traced.leaves.get(f"{path}.weight")
        if isinstance(module, nn.Linear) and leaf is not None:
            for name, labels in zip(("out_features", "in_features"), leaf.dims, strict=True):
                if labels is not None and grouping.fits(labels):
                    yield (path, name), grouping.form(labels)
