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
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssr_exp.rescaling.tracing.labels import FIXED, Ledger, Vector

NO_GROUP = -1
Sizes = Sequence[Any] | Mapping[int, Any] | NDArray[np.int64]
"""The size of each group: integers, or arrays that broadcast."""


@dataclass(frozen=True)
class Group:
    """Channels that are scaled together: `size` in the seed network, produced at `paths`.

    Their number stays a multiple of `multiple` (besides the user's own multiple).
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

    def __mul__(self, factor: int) -> Form:
        """Take a whole number of times the length."""
        parts = tuple((group, coefficient * factor) for group, coefficient in self.parts)
        return Form(self.fixed * factor, parts, self.divisor)._reduced()

    def __truediv__(self, divisor: int) -> Form:
        """Divide a length that is a multiple of `divisor` for all sizes that may be."""
        return Form(self.fixed, self.parts, self.divisor * divisor)._reduced()

    def _reduced(self) -> Form:
        common = math.gcd(self.divisor, self.fixed, *(c for _, c in self.parts))
        parts = tuple((group, coefficient // common) for group, coefficient in self.parts)
        return Form(self.fixed // common, parts, self.divisor // common)


class Grouping:
    """The groups of a traced network.

    Attributes:
        groups: those whose size may change.
        frozen: for each reason, how many channels stay at full size because of it.
        class_of: for each label its class: one channel, under all its names.
        group_of: for each class its group, or `NO_GROUP` where it is always kept.
    """

    def __init__(self, ledger: Ledger, vectors: Iterable[Vector]) -> None:
        self.frozen: dict[str, int] = {}
        self.class_of, self.group_of = self._alike(ledger)
        self._sizes = np.bincount(self.group_of[self.group_of >= 0])
        self._shares = self._split(ledger)
        self._settle(ledger, list(vectors))
        self._renumber()
        self.groups = self._describe(ledger)

    def form(self, vector: Vector) -> Form:
        """Write the length of a dimension as a form of the groups' sizes."""
        counts = self._counts(vector)
        present = np.flatnonzero(counts)
        shares = [Fraction(int(counts[g]), int(self._sizes[g])) for g in present]
        divisor = math.lcm(*(share.denominator for share in shares))
        parts = [(int(g), int(x * divisor)) for g, x in zip(present, shares, strict=True)]
        return Form((len(vector) - int(counts.sum())) * divisor, tuple(parts), divisor)

    def fits(self, vector: Vector) -> bool:
        """Say whether a dimension holds a fixed share of each of its groups."""
        return not len(self._partial(vector))

    def _alike(self, ledger: Ledger) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Group the channels; parts of one length that are not made alike are tied."""
        ties = list(ledger.ties)
        while True:
            class_of = _classes(ledger.n_labels, ties)
            stuck = self._stuck(ledger, class_of)
            group_of = _group_classes(ledger, class_of, stuck)
            unlike = [parts for parts in ledger.splits if _unlike(parts, class_of, group_of)]
            for parts in unlike:
                ties += _pairs(parts)
            if all(_are_tied(parts, class_of) for parts in unlike):
                return class_of, group_of

    def _split(self, ledger: Ledger) -> NDArray[np.int64]:
        """Find into how many parts each group is cut: its size stays a multiple of that."""
        shares = np.ones(len(self._sizes), dtype=np.int64)
        for parts in ledger.splits:
            counts = self._counts(parts[0])
            for group in np.flatnonzero(counts):
                share = Fraction(int(counts[group]), int(self._sizes[group])).denominator
                if len(parts) % share == 0:
                    shares[group] = math.lcm(int(shares[group]), share)
        return shares

    def _counts(self, vector: Vector) -> NDArray[np.int64]:
        groups = self.group_of[self.class_of[vector[vector != FIXED]]]
        return np.bincount(groups[groups >= 0], minlength=len(self._sizes))

    def _stuck(self, ledger: Ledger, class_of: NDArray[np.int64]) -> NDArray[np.bool_]:
        stuck = np.zeros(class_of.max(initial=-1) + 1, dtype=bool)
        fixed: dict[str, set[int]] = {}  # a channel that is fixed twice for one reason counts once
        for labels, reason in ledger.frozen:
            classes = np.unique(class_of[labels])
            fixed.setdefault(reason, set()).update(classes.tolist())
            stuck[classes] = True
        self.frozen = {reason: len(classes) for reason, classes in fixed.items()}
        return stuck

    def _settle(self, ledger: Ledger, vectors: Sequence[Vector]) -> None:
        """Freeze what cannot be scaled, until that freezes nothing else."""
        free = -1
        while free != (self.group_of >= 0).sum():
            free = (self.group_of >= 0).sum()
            for vector in vectors:
                self._freeze(self._partial(vector), "only some of the channels are read")
            for vector, multiple in ledger.multiples:
                self._freeze_indivisible(vector, multiple)
            for parts in ledger.splits:
                self._freeze_unlike(parts)

    def _freeze(self, groups: Sequence[int] | NDArray[np.int64], reason: str) -> None:
        for group in groups:
            self.frozen[reason] = self.frozen.get(reason, 0) + int(self._sizes[group])
            self.group_of[self.group_of == group] = NO_GROUP

    def _partial(self, vector: Vector) -> NDArray[np.int64]:
        """List the groups of which a dimension holds no fixed share."""
        counts = self._counts(vector)
        present = np.flatnonzero(counts)
        partial = counts[present] * self._shares[present] % self._sizes[present] != 0
        return np.asarray(present[partial], dtype=np.int64)

    def _freeze_indivisible(self, vector: Vector, multiple: int) -> None:
        form = self.form(vector)
        whole = multiple * form.divisor
        uneven = [g for g, coefficient in form.parts if coefficient * self._sizes[g] % whole]
        if uneven and len(form.parts) > 1:  # at full size only their sum can be divided
            self._freeze(uneven, "their number can only be divided with that of others")
            form = self.form(vector)
        if form.fixed % whole:
            groups = [g for g, _ in form.parts]
            self._freeze(groups, "fixed channels share a grouped convolution or a split")

    def _freeze_unlike(self, parts: Sequence[Vector]) -> None:
        """A split into equal parts stays where it is only if all parts hold the same groups."""
        counts = np.stack([self._counts(part) for part in parts])
        if (counts != counts[0]).any():
            self._freeze(np.flatnonzero(counts.any(0)), "they are split into unlike parts")

    def _renumber(self) -> None:
        present = np.unique(self.group_of[self.group_of >= 0])
        numbers = np.full(len(self._sizes) + 1, NO_GROUP)
        numbers[present] = np.arange(len(present))
        self.group_of = numbers[self.group_of]
        self._sizes, self._shares = self._sizes[present], self._shares[present]

    def _describe(self, ledger: Ledger) -> tuple[Group, ...]:
        paths: list[list[str]] = [[] for _ in self._sizes]
        for path, vector in ledger.producers:
            for number in np.flatnonzero(self._counts(vector)):
                paths[number].append(path)
        multiples = [int(share) for share in self._shares]
        for vector, multiple in ledger.multiples:
            form = self.form(vector)
            for group, coefficient in form.parts:
                whole = multiple * form.divisor
                need = whole // math.gcd(whole, coefficient)
                multiples[group] = math.lcm(multiples[group], need)
        rows = zip(self._sizes, multiples, paths, strict=True)
        return tuple(Group(int(size), multiple, tuple(p)) for size, multiple, p in rows)


def _classes(n_labels: int, ties: Sequence[tuple[Vector, Vector]]) -> NDArray[np.int64]:
    """Number the connected components of the ties, in order of their first label."""
    if not ties or not n_labels:
        return np.arange(n_labels)
    one, other = (np.concatenate(side) for side in zip(*ties, strict=True))
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(n_labels,) * 2)
    _, classes = connected_components(graph, directed=False)
    return np.asarray(classes, dtype=np.int64)


def _pairs(parts: Sequence[Vector]) -> list[tuple[Vector, Vector]]:
    """Pair the free channels of the first part with those of each other one."""
    free = [(parts[0] != FIXED) & (part != FIXED) for part in parts[1:]]
    return [(parts[0][f], part[f]) for f, part in zip(free, parts[1:], strict=True)]


def _unlike(
    parts: Sequence[Vector], class_of: NDArray[np.int64], group_of: NDArray[np.int64]
) -> bool:
    """Say whether parts hold different groups, or differently many channels of one."""
    held = [np.sort(group_of[class_of[part[part != FIXED]]]) for part in parts]
    return any(not np.array_equal(held[0], other) for other in held[1:])


def _are_tied(parts: Sequence[Vector], class_of: NDArray[np.int64]) -> bool:
    return all(np.array_equal(class_of[one], class_of[other]) for one, other in _pairs(parts))


def _group_classes(
    ledger: Ledger, class_of: NDArray[np.int64], stuck: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Give classes with one signature (which producers, how often) one group number.

    The signature is a sum of one random 64-bit number for each producer: it cannot depend on
    order, and two signatures collide with a chance of about 2^-64.
    """
    signature = np.zeros(len(stuck), dtype=np.int64)
    made = np.zeros(len(stuck), dtype=bool)  # of others, parts of a table, nobody makes fewer
    marks = [*(vector for _, vector in ledger.producers), *ledger.pieces]
    keys = np.random.default_rng(0).integers(-(2**62), 2**62, size=len(marks))
    for number, (key, vector) in enumerate(zip(keys, marks, strict=True)):
        classes = class_of[vector[vector != FIXED]]
        np.add.at(signature, classes, key)
        if number < len(ledger.producers):
            made[classes] = True
    groups = np.full(len(stuck), NO_GROUP, dtype=np.int64)
    free = made & ~stuck
    _, first, inverse = np.unique(signature[free], return_index=True, return_inverse=True)
    groups[free] = np.argsort(np.argsort(first))[inverse]
    return groups
