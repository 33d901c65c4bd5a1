"""From labels to groups: the sets of channels that are scaled together.

Channels that ever meet are one class (a connected component of the ties). Classes that the same
layers produce, equally often, are one group: its size is the only unknown, and the length of any
dimension in the network is a linear form of such sizes. Concatenation, splitting and repetition
come out as coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssr_exp.rescaling.labels import FIXED, Ledger, Vector

NO_GROUP = -1
Sizes = Sequence[Any] | Mapping[int, Any] | NDArray[np.int64]
"""The size of each group: integers, or arrays that broadcast."""


@dataclass(frozen=True)
class Group:
    """Channels that are scaled together.

    Args:
        size: how many there are in the seed network.
        multiple: their number stays a multiple of this (besides the user's own multiple).
        paths: the modules that produce them.
    """

    size: int
    multiple: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """The length of a dimension: `(fixed + sum of coefficient x size of group) / divisor`."""

    fixed: int
    parts: tuple[tuple[int, int], ...] = ()
    divisor: int = 1

    def __call__(self, sizes: Sizes) -> Any:
        """Evaluate for the groups' sizes: integers, or arrays that broadcast."""
        total: Any = self.fixed
        for group, coefficient in self.parts:
            total = total + coefficient * sizes[group]
        return total // self.divisor if self.divisor > 1 else total


class Grouping:
    """The groups of a traced network.

    Attributes:
        groups: those whose size may change.
        frozen: for each reason, how many channels stay at full size because of it.
    """

    def __init__(self, ledger: Ledger, vectors: Iterable[Vector]) -> None:
        self._class_of = _classes(ledger)
        self.frozen: dict[str, int] = {}
        stuck = self._stuck(ledger)
        self._group_of = _group_classes(ledger, self._class_of, stuck)
        self._sizes = np.bincount(self._group_of[self._group_of >= 0])
        self._settle(ledger, list(vectors))
        self._renumber()
        self.groups = self._describe(ledger)

    def form(self, vector: Vector) -> Form:
        """Write the length of a dimension as a form of the groups' sizes."""
        counts = self._counts(vector)
        parts = [(int(g), int(counts[g] // self._sizes[g])) for g in np.flatnonzero(counts)]
        return Form(len(vector) - int(counts.sum()), tuple(parts))

    def fits(self, vector: Vector) -> bool:
        """Say whether a dimension holds each of its groups a whole number of times."""
        counts = self._counts(vector)
        present = np.flatnonzero(counts)
        return bool((counts[present] % self._sizes[present] == 0).all())

    def _counts(self, vector: Vector) -> NDArray[np.int64]:
        groups = self._group_of[self._class_of[vector[vector != FIXED]]]
        return np.bincount(groups[groups >= 0], minlength=len(self._sizes))

    def _stuck(self, ledger: Ledger) -> NDArray[np.bool_]:
        stuck = np.zeros(self._class_of.max(initial=-1) + 1, dtype=bool)
        for labels, reason in ledger.frozen:
            classes = np.unique(self._class_of[labels])
            self.frozen[reason] = self.frozen.get(reason, 0) + len(classes)
            stuck[classes] = True
        return stuck

    def _settle(self, ledger: Ledger, vectors: Sequence[Vector]) -> None:
        """Freeze what cannot be scaled, until that freezes nothing else."""
        free = -1
        while free != (self._group_of >= 0).sum():
            free = (self._group_of >= 0).sum()
            for vector in vectors:
                self._freeze_partial(vector)
            for vector, multiple in ledger.multiples:
                self._freeze_indivisible(vector, multiple)
            for parts in ledger.splits:
                self._freeze_unlike(parts)

    def _freeze(self, groups: Sequence[int] | NDArray[np.int64], reason: str) -> None:
        for group in groups:
            self.frozen[reason] = self.frozen.get(reason, 0) + int(self._sizes[group])
            self._group_of[self._group_of == group] = NO_GROUP

    def _freeze_partial(self, vector: Vector) -> None:
        counts = self._counts(vector)
        present = np.flatnonzero(counts)
        partial = present[counts[present] % self._sizes[present] != 0]
        self._freeze(partial, "only some of the channels are read")

    def _freeze_indivisible(self, vector: Vector, multiple: int) -> None:
        form = self.form(vector)
        if form.fixed % multiple:
            self._freeze(
                [g for g, _ in form.parts], "fixed channels share a grouped convolution or a split"
            )

    def _freeze_unlike(self, parts: Sequence[Vector]) -> None:
        """A split into equal parts stays where it is only if all parts hold the same groups."""
        counts = np.stack([self._counts(part) for part in parts])
        if (counts != counts[0]).any():
            self._freeze(np.flatnonzero(counts.any(0)), "they are split into unlike parts")

    def _renumber(self) -> None:
        present = np.unique(self._group_of[self._group_of >= 0])
        numbers = np.full(len(self._sizes) + 1, NO_GROUP)
        numbers[present] = np.arange(len(present))
        self._group_of = numbers[self._group_of]
        self._sizes = self._sizes[present]

    def _describe(self, ledger: Ledger) -> tuple[Group, ...]:
        paths: list[list[str]] = [[] for _ in self._sizes]
        for path, vector in ledger.producers:
            for number in np.flatnonzero(self._counts(vector)):
                paths[number].append(path)
        multiples = [1] * len(self._sizes)
        for vector, multiple in ledger.multiples:
            for group, coefficient in self.form(vector).parts:
                need = multiple // math.gcd(multiple, coefficient)
                multiples[group] = math.lcm(multiples[group], need)
        rows = zip(self._sizes, multiples, paths, strict=True)
        return tuple(Group(int(size), multiple, tuple(p)) for size, multiple, p in rows)


def _classes(ledger: Ledger) -> NDArray[np.int64]:
    """Number the connected components of the ties, in order of their first label."""
    if not ledger.ties or not ledger.n_labels:
        return np.arange(ledger.n_labels)
    one, other = (np.concatenate(side) for side in zip(*ledger.ties, strict=True))
    graph = coo_array(
        (np.ones(len(one), dtype=np.int8), (one, other)), shape=(ledger.n_labels,) * 2
    )
    _, classes = connected_components(graph, directed=False)
    return np.asarray(classes, dtype=np.int64)


def _group_classes(
    ledger: Ledger, class_of: NDArray[np.int64], stuck: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Give classes with one signature (which producers, how often) one group number.

    The signature is a sum of one random 64-bit number for each producer: it cannot depend on
    order, and two signatures collide with a chance of about 2^-64.
    """
    signature = np.zeros(len(stuck), dtype=np.int64)
    keys = np.random.default_rng(0).integers(-(2**62), 2**62, size=len(ledger.producers))
    for key, (_, vector) in zip(keys, ledger.producers, strict=True):
        np.add.at(signature, class_of[vector], key)
    groups = np.full(len(stuck), NO_GROUP, dtype=np.int64)
    free = (signature != 0) & ~stuck
    _, first, inverse = np.unique(signature[free], return_index=True, return_inverse=True)
    groups[free] = np.argsort(np.argsort(first))[inverse]
    return groups
