"""Where a million image files lie, in a few arrays that all processes share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FileNames(Sequence[str]):
    """Paths, end to end in one tensor.

    A million Python texts take 100 MB, and a forked process that only looks at them copies them,
    since it counts who holds them (pytorch/pytorch#13246). Tensors are shared by processes that
    are forked, by those that are spawned, and with a file that they are mapped from.
    """

    text: Tensor  # uint8, as the disk has them
    ends: Tensor  # int64, one more than there are paths: where each begins, and the next one

    @classmethod
    def of(cls, names: Iterable[str]) -> FileNames:
        """Put paths into tensors."""
        text, ends = bytearray(), [0]
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        held = torch.frombuffer(text or bytearray(1), dtype=torch.uint8)[: len(text)]
        return cls(held, torch.tensor(ends))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> FileNames: ...
    def __getitem__(self, at: int | slice) -> str | FileNames:
        if isinstance(at, slice):
            return FileNames.of(self[i] for i in range(*at.indices(len(self))))
        at = range(len(self))[at]
        start, end = self.ends[at : at + 2].tolist()
        return os.fsdecode(self.text[start:end].numpy().tobytes())


@dataclass(frozen=True, eq=False)
class FileIndex(Sequence[Path]):
    """The path of each image's file; to choose some takes no memory for their names."""

    root: Path  # folder that the paths start from
    names: FileNames
    positions: Tensor  # int64, `n`: which of the names each image has

    @classmethod
    def of(cls, root: Path, names: Iterable[str]) -> FileIndex:
        """Put paths below `root` into tensors."""
        held = names if isinstance(names, FileNames) else FileNames.of(names)
        return cls(root, held, torch.arange(len(held)))

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, at: int) -> Path: ...
    @overload
    def __getitem__(self, at: slice | Tensor) -> FileIndex: ...
    def __getitem__(self, at: int | slice | Tensor) -> Path | FileIndex:
        """Return the path of one image, or an index of several."""
        if isinstance(at, slice | Tensor):
            return replace(self, positions=self.positions[at])
        return self.root / self.names[int(self.positions[at])]
