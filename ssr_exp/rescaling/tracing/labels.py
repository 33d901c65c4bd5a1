"""Labels: which channel each element of an activation belongs to.

Beside an activation travels an integer tensor of its shape. An entry names a channel, or is
`FIXED` where the element belongs to no channel that could be removed. Dimensions along which
the entries repeat (batch, space) are broadcasts of stride 0, so a label tensor is as small as
its channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIXED = -1
BATCH = 2  # images in a trace: more than one, so that squeezing cannot remove the dimension
FOLLOWS_INPUT = ("in_channels", "in_features", "in_planes", "inplanes", "in_chs")
FOLLOWS_OUTPUT = tuple(
    "out_channels out_features num_features num_channels out_chs channels dim".split()
)
# What code compares to choose a shortcut: of equal widths both follow.
PAIRS = (
    ("inplanes", "planes"),
    ("in_planes", "planes"),
    ("in_planes", "out_planes"),
    ("dim_in", "dim_out"),
    ("in_dim", "out_dim"),
    ("dim", "dim_out"),
)
Vector = NDArray[np.int64]
"""The labels along one dimension of an activation or parameter, one for each element."""


@dataclass
class Ledger:
    """What a trace learns about channels: who makes them, and which must stay equal in number.

    Attributes:
        producers: the modules that put out channels, and the labels of these.
        ties: pairs of vectors whose channels are the same, one by one.
        frozen: channels that keep their number, and why.
        multiples: vectors whose length stays a multiple of a number.
        units: vectors whose channels are kept or dropped so many at a time.
        splits: vectors that are cut into parts of one length.
        pieces: parts of a producer's channels that are scaled on their own.
    """

    n_labels: int = 0
    producers: list[tuple[str, Vector]] = field(default_factory=list)
    ties: list[tuple[Vector, Vector]] = field(default_factory=list)
    frozen: list[tuple[Vector, str]] = field(default_factory=list)
    multiples: list[tuple[Vector, int]] = field(default_factory=list)
    units: list[tuple[Vector, int]] = field(default_factory=list)
    splits: list[list[Vector]] = field(default_factory=list)
    pieces: list[Vector] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)  # of the labels that were made at once

    def name(self, size: int) -> Vector:
        """Make `size` new labels that nobody produces."""
        first = self.n_labels
        self.n_labels += size
        self.firsts.append(first)
        return np.arange(first, self.n_labels, dtype=np.int64)

    def produce(self, size: int, path: str) -> Vector:
        """Make `size` new labels: the channels that the module at `path` puts out."""
        labels = self.name(size)
        self.producers.append((path, labels))
        return labels

    def makers(self, labels: Vector) -> set[int]:
        """Number the producers of labels; those that nobody produces are the last one's before."""
        firsts = [vector[0] for _, vector in self.producers]
        return set((np.searchsorted(firsts, labels, side="right") - 1).tolist())

    def origins(self, labels: Vector) -> set[int]:
        """Number the vectors, each made at once, that labels are of."""
        return set((np.searchsorted(self.firsts, labels, side="right") - 1).tolist())

    def tie(self, one: Vector, other: Vector, *, reason: str) -> None:
        """Keep two vectors of one size equal, channel by channel; what meets `FIXED` is frozen."""
        free = (one != FIXED) & (other != FIXED)
        self.ties.append((one[free], other[free]))
        for vector in (one, other):
            self.freeze(vector[~free], reason)

    def are_tied(self, one: Vector, other: Vector) -> bool:
        """Say whether just these two vectors were tied before."""
        return any(
            np.array_equal(one, a) and np.array_equal(other, b) for a, b in reversed(self.ties)
        )

    def split(self, parts: list[Vector]) -> None:
        """Keep parts of one length equally long, whatever their channels are scaled to."""
        self.splits.append(parts)
        self.multiples.append((np.concatenate(parts), len(parts)))

    def freeze(self, labels: Vector, reason: str) -> None:
        """Keep the channels at full size, for a reason that a person can read."""
        labels = labels[labels != FIXED]
        if labels.size:
            self.frozen.append((np.unique(labels), reason))


def fixed_like(x: Tensor) -> Tensor:
    """Label every element of `x` as belonging to no channel."""
    return torch.full((), FIXED, dtype=torch.int64).expand(x.shape)


def spread(labels: Vector, shape: torch.Size, dim: int) -> Tensor:
    """Lay a vector along dimension `dim` of `shape` and repeat it along all others."""
    view = [1] * len(shape)
    view[dim] = len(labels)
    return torch.from_numpy(labels).reshape(view).expand(shape)


def varying(labels: Tensor) -> list[int]:
    """Name the dimensions along which the labels differ."""
    small = shrink(labels).numpy()
    return [
        dim
        for dim, size in enumerate(small.shape)
        if size > 1 and (small != small.take([0], axis=dim)).any()
    ]


def shrink(labels: Tensor) -> Tensor:
    """Take one of each repetition: dimensions of stride 0 become 1 long."""
    array = labels.numpy()
    index = [slice(0, 1) if stride == 0 else slice(None) for stride in array.strides]
    return torch.from_numpy(np.asarray(array[tuple(index)]))


def apart(labels: Tensor, dim: int) -> list[Vector]:
    """List the labels of each slice along one dimension, flat, without repetitions."""
    small = shrink(labels)
    return [part.reshape(-1).numpy() for part in small.unbind(dim)]


def along(labels: Tensor, dim: int) -> Vector | None:
    """Read the labels along one dimension, or None if they differ along another one."""
    if set(varying(labels)) - {dim}:
        return None
    index: list[int | slice] = [0] * labels.ndim
    index[dim] = slice(None)
    return np.ascontiguousarray(labels.numpy()[tuple(index)])


def channels_of(labels: Tensor, dim: int, ledger: Ledger) -> Vector | None:
    """Read which channels stand along one dimension.

    Where several stand side by side in one (a linear map's outputs that were laid out as maps, a
    pixel shuffle), these are tied: they go together.

    Returns:
        None if the dimension is not one of channels.
    """
    dims = varying(labels)
    if set(dims) <= {dim}:
        return along(labels, dim)
    if dim not in dims or 0 in dims:
        return None
    small = shrink(labels).transpose(0, dim).flatten(1).numpy()
    first = np.ascontiguousarray(small[:, 0])
    pairs = np.stack([np.broadcast_to(first[:, None], small.shape), small], axis=-1)
    one, other = np.unique(pairs.reshape(-1, 2), axis=0).T
    ledger.tie(one, other, reason="fixed and other elements stand in one channel")
    return first
