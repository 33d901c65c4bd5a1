"""Tensors in values of any kind: lists, dictionaries, dataclasses, objects of any class."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from logging import Logger
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

DEEPEST = 12  # levels of objects that are looked into
OTHERS = (type, nn.Module, ModuleType, FunctionType, MethodType, BuiltinFunctionType, Logger)


def tensors(value: Any) -> list[Tensor]:
    """List the tensors in a value, in the order in which it holds them.

    Modules are not looked into: their tensors are parameters, and no activations.
    """
    return list(_tensors(value, set(), 0))


def shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    """List the shapes of the tensors in a value."""
    return tuple(tuple(tensor.shape) for tensor in tensors(value))


def is_finite(value: Any) -> bool:
    """Say whether all numbers of the tensors in a value are finite."""
    return all(bool(y.isfinite().all()) for y in tensors(value) if y.is_floating_point())


def _tensors(value: Any, visited: set[int], depth: int) -> Iterator[Tensor]:
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor):
            yield leaf
        elif id(leaf) not in visited and depth < DEEPEST and (parts := _parts(leaf)):
            visited.add(id(leaf))
            for part in parts:
                yield from _tensors(part, visited, depth + 1)


def _parts(value: Any) -> list[Any]:
    """List what an object holds that is no container of PyTorch's."""
    if isinstance(value, OTHERS):
        return []
    if isinstance(value, partial):
        return [value.args, value.keywords]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    if isinstance(value, Mapping):
        return list(value.values())
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, n, None) for n in slots)]


def _slots(kind: type) -> list[str]:
    """Name the slots of a class; those that begin with two underscores are known by its name."""
    names = vars(kind).get("__slots__", ())
    names = [names] if isinstance(names, str) else list(names)
    return [
        f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]
