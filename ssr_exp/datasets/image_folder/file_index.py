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
class FileIndex(Sequence[Path]):
    """The paths of image files, by the position of each image.

    A million Python texts take 100 MB, and a forked process that only looks at them copies them,
    since it counts who holds them (pytorch/pytorch#13246). Tensors are shared by forked processes,
    by those that are spawned, and with a cache file that they are mapped from.
    """

    root: Path  # folder that the paths start from
    names: Tensor  # uint8: all paths as the disk has them, end to end
    ends: Tensor  # int64, one more than there are paths: where each begins, and the next one
    index: Tensor  # int64, `n`: which of the paths each image has

    @classmethod
    def of(cls, root: Path, names: Iterable[str]) -> FileIndex:
        """Put paths below `root` into arrays."""
        buffer, ends = bytearray(), [0]
        for name in names:
            buffer += os.fsencode(name)
            ends.append(len(buffer))
        held = torch.frombuffer(buffer or bytearray(1), dtype=torch.uint8)[: len(buffer)]
        return cls(root, held, torch.tensor(ends), torch.arange(len(ends) - 1))

    def __len__(self) -> int:
        return len(self.index)

    @overload
    def __getitem__(self, at: int) -> Path: ...
    @overload
    def __getitem__(self, at: slice | Tensor) -> FileIndex: ...
    def __getitem__(self, at: int | slice | Tensor) -> Path | FileIndex:
        """Return the path of one image, or the paths of several; those take no memory of theirs."""
        if isinstance(at, slice | Tensor):
            return replace(self, index=self.index[at])
        return self.root / self.name(at)

    def name(self, at: int) -> str:
        """Return the path of an image below the folder."""
        number = int(self.index[at])
        start, end = self.ends[number : number + 2].tolist()
        return os.fsdecode(self.names[start:end].numpy().tobytes())
