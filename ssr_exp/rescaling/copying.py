"""Copies of a network's modules around other tensors: no weight is copied, nothing of it is run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

NOT_STATE = ("_parameters", "_buffers", "_modules")


def tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name all tensors of a network's modules: parameters, buffers, and plain attributes."""
    named = [*network.named_parameters(), *network.named_buffers()]
    yield from named
    seen = {id(tensor) for _, tensor in named}
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield f"{path}.{name}".lstrip("."), value


def copied(network: nn.Module, tensors: Mapping[int, Any]) -> nn.Module:
    """Copy a network's modules.

    What Python cannot copy (a lock, a generator, an open file) is shared. An activation that a
    module kept from an earlier run is copied without its history.

    Args:
        network: is not changed.
        tensors: what stands in the copy for a tensor, by its identity; others are copied.
    """
    memo = dict(tensors)
    try:
        return copy.deepcopy(network, dict(memo))
    except Exception:  # of anyone's code
        memo |= _substitutes(network, memo)
        return copy.deepcopy(network, memo)


def _substitutes(network: nn.Module, memo: Mapping[int, Any]) -> dict[int, Any]:
    """Find what cannot be copied in the modules' attributes, and what to take for it."""
    known = dict(memo) | {id(module): module for module in network.modules()}
    found: dict[int, Any] = {}
    for module in network.modules():
        for name, value in vars(module).items():
            if name not in NOT_STATE:
                _try(value, known, found, set())
    return found


def _try(value: Any, known: Mapping[int, Any], found: dict[int, Any], seen: set[int]) -> None:
    """Copy a value in parts until the part is found that cannot be copied."""
    if id(value) in seen:
        return
    seen.add(id(value))
    try:
        copy.deepcopy(value, dict(known) | found)
    except Exception:  # of anyone's code
        if isinstance(value, Tensor):
            found[id(value)] = value.detach().clone()
        elif isinstance(value, Mapping):
            for part in list(value.values()):
                _try(part, known, found, seen)
        elif isinstance(value, (list, tuple, set)):
            for part in list(value):
                _try(part, known, found, seen)
        elif parts := getattr(value, "__dict__", None):
            _try(parts, known, found, seen)
        if not _copies(value, known, found):
            found[id(value)] = value


def _copies(value: Any, known: Mapping[int, Any], found: Mapping[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(known) | dict(found))
    except Exception:  # of anyone's code
        return False
    return True
