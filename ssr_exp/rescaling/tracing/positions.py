"""How a forward reads the modules that a sequence holds: in a plain loop, or by their position.

A block can be taken out of a sequence that is run from its first module to its last. One that is
read by an index, a slice, `enumerate`, `zip` or a name would give another module, or none, once a
block is gone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from opcode import opname
from types import FrameType
from typing import Any

from torch import nn

SEQUENCES = (nn.Sequential, nn.ModuleList)
READS = ("__iter__", "__getitem__")


class Reads:
    """Which sequences a `for` loop or their own forward went through, and which were read else."""

    def __init__(self) -> None:
        self.in_loops: set[str] = set()
        self.by_position: set[str] = set()

    def in_order(self, path: str) -> bool:
        """Say whether a sequence was only ever run from its first module to its last."""
        return path in self.in_loops and path not in self.by_position


@contextmanager
def watched(network: nn.Module, reads: Reads) -> Iterator[None]:
    """Note how a network's sequences are read meanwhile; their classes stay what they are."""
    paths = {id(m): path for path, m in network.named_modules() if isinstance(m, SEQUENCES)}
    methods = [(kind, name, vars(kind)[name]) for kind in SEQUENCES for name in READS]
    for kind, name, method in methods:
        setattr(kind, name, _noting(method, paths, reads))
    try:
        yield
    finally:
        for kind, name, method in methods:
            setattr(kind, name, method)


def _noting(method: Callable[..., Any], paths: Mapping[int, str], reads: Reads) -> Any:
    """Make a method that notes its call and its caller."""

    @functools.wraps(method)
    def read(self: nn.Module, *args: Any) -> Any:
        in_order = method.__name__ == "__iter__" and _is_loop(sys._getframe(1))
        if (path := paths.get(id(self))) is not None:
            (reads.in_loops if in_order else reads.by_position).add(path)
        return method(self, *args)

    return read


def _is_loop(frame: FrameType) -> bool:
    """Say whether a frame starts a `for` loop or `[*unpacks]`, and is at no call: `enumerate`."""
    return opname[frame.f_code.co_code[frame.f_lasti]] in ("GET_ITER", "LIST_EXTEND")
