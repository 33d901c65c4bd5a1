"""How a forward reads the modules that a sequence holds: in a plain loop, or by their position.

A block can be taken out of a sequence that is run from its first module to its last. One that is
read by an index, a slice, `enumerate`, `zip` or a name would give another module, or none, once a
block is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from opcode import opname
from types import FrameType
from typing import Any

from torch import nn

SEQUENCES = (nn.Sequential, nn.ModuleList)
PART = "a slice of a sequence"  # no module has this path


class Reads:
    """What was read of each sequence while a network ran.

    Attributes:
        in_loops: paths of the sequences that a `for` loop or their own forward went through.
        by_position: paths of those that were read in any other way.
    """

    def __init__(self) -> None:
        self.in_loops: set[str] = set()
        self.by_position: set[str] = set()

    def in_order(self, path: str) -> bool:
        """Say whether a sequence was only ever run from its first module to its last."""
        return path in self.in_loops and path not in self.by_position


def watch(network: nn.Module) -> Reads:
    """Note from now on how a network's sequences are read; changes the network's classes."""
    reads = Reads()
    kinds: dict[type, type] = {}
    paths: dict[int, str] = {}
    for path, module in network.named_modules():
        if isinstance(module, SEQUENCES):
            kind = type(module)
            kinds.setdefault(kind, _watched(kind, paths, reads))
            paths[id(module)] = path
            module.__class__ = kinds[kind]
    return reads


def _watched(kind: Any, paths: dict[int, str], reads: Reads) -> type:
    """Derive a class that behaves like `kind`, and notes who reads it."""

    def iterate(self: Any) -> Iterator[nn.Module]:
        noted = reads.in_loops if _is_loop(sys._getframe(1)) else reads.by_position
        noted.add(paths.get(id(self), PART))
        return kind.__iter__(self)  # type: ignore[no-any-return]

    def pick(self: Any, index: Any) -> Any:
        reads.by_position.add(paths.get(id(self), PART))
        return kind.__getitem__(self, index)

    members: dict[str, Callable[..., Any]] = {"__iter__": iterate, "__getitem__": pick}
    return type(kind.__name__, (kind,), members | {"__module__": kind.__module__})


def _is_loop(frame: FrameType) -> bool:
    """Say whether a frame starts a `for` loop or `[*unpacks]`, and is at no call: `enumerate`."""
    return opname[frame.f_code.co_code[frame.f_lasti]] in ("GET_ITER", "LIST_EXTEND")
