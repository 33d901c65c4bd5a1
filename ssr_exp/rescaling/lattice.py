"""The lattice: all effective architectures that the allowed depths and widths give."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import accumulate, islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Cost, Points
from ssr_exp.rescaling.plan import MOST_STEPS, Architecture, Plan

LARGEST_SPELT = 10**12  # a number above it is not written out
TRIES = 20  # draws for each network that is asked for


@dataclass(frozen=True)
class Lattice:
    """The combinations of each segment's options, without effective duplicates.

    For each of `S` segments there are its `k_s` options, ascending. Points are numbered from 0, the
    smallest network, to the baseline: the last segment's option changes first. Inner widths of a
    block come after its segment, and only where that keeps the block; of widths that differ only in
    blocks that an option leaves out it has one (`Plan.twins`).
    """

    plan: Plan
    options: tuple[Points, ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """How many options each segment has."""
        return tuple(map(len, self.options))

    @cached_property
    def size(self) -> int:
        """Count the points; `len` refuses more than a machine's integer holds."""
        return prod(counts[-1] for counts in self._counts.values())

    def __len__(self) -> int:
        """Count the points; where Python's `len` cannot say how many, `size` can."""
        if self.size > sys.maxsize:
            raise SsrError(
                f"the lattice has {spell(self.size)} networks: ask for .size, not len()."
            )
        return self.size

    def points(self, numbers: Sequence[int] | NDArray[Any]) -> Points:
        """Look up points, `n x S`, by their numbers, `n`."""
        rest: NDArray[Any] = np.asarray(numbers, dtype=self._integer)
        points = np.zeros((len(rest), len(self.options)), dtype=np.int32)
        for s, counts in reversed(self._counts.items()):
            rest, digit = rest // counts[-1], rest % counts[-1]
            if not self._inside[s]:
                points[:, s] = self.options[s][digit.astype(np.int64)]
                continue
            before: NDArray[Any] = np.array(counts, dtype=self._integer)
            option = np.searchsorted(before, digit, side="right") - 1
            points[:, s] = self.options[s][option]
            digit = digit - before[option]
            for inner in reversed(self._inside[s]):
                radix = self._radix(inner, points)
                points[:, inner] = self.options[inner][(digit % radix).astype(np.int64)]
                digit = digit // radix
        return cost.canonical(self.plan, points)

    def numbers(self, points: Points) -> NDArray[Any]:
        """Find the numbers, `n`, of points of the lattice, `n x S`."""
        total: NDArray[Any] = np.zeros(len(points), dtype=self._integer)
        for s, counts in self._counts.items():
            digit: NDArray[Any] = np.zeros(len(points), dtype=self._integer)
            for inner in self._inside[s]:
                radix = self._radix(inner, points)
                digit = digit * radix + np.where(radix == 1, 0, self._places(inner, points))
            before: NDArray[Any] = np.array(counts, dtype=self._integer)
            total = total * counts[-1] + before[self._places(s, points)] + digit
        return total

    def hold(self, points: Points) -> NDArray[np.bool_]:
        """Say which of `n x S` points, as `cost.encode` writes them, are of the lattice: `n`."""
        rows = enumerate(self.options)
        inside = np.stack([np.isin(points[:, s], options) for s, options in rows], axis=1)
        return np.asarray((inside | cost.gone(self.plan, points)).all(axis=1))

    def enumerate(self, chunk: int = 1 << 20) -> Iterator[Points]:
        """Yield all points in order, at most `chunk` at a time (`n x S` each)."""
        for start in range(0, self.size, chunk):
            stop = min(start + chunk, self.size)
            yield self.points(np.arange(start, stop, dtype=self._integer))

    def cost(self) -> Cost:
        """Count the cost of all combinations of options at once: arrays of `shape`.

        Where blocks with widths of their own can be left out, some are the same network.
        """
        return cost.count_product(self.plan, self.options)

    def sample(self, count: int, *, seed: int) -> list[Architecture]:
        """Draw `count` different architectures; the same seed draws the same ones.

        All are as likely, except where blocks with widths of their own can be left out: there each
        number of blocks is as likely, although fewer networks are shallow.

        Raises:
            SsrError: if the lattice has fewer points.
        """
        if not 1 <= count <= self.size:
            raise SsrError(
                f"cannot draw {count} different networks: the lattice has {spell(self.size)} "
                f"points: type modifiers.count={self.size} or less."
            )
        draw = random.Random(seed)
        if self.plan.inner:
            return self._drawn(draw, count)
        if not self._is_huge:
            return cost.decode(self.plan, self.points(draw.sample(range(self.size), count)))
        drawn: dict[int, None] = {}
        while len(drawn) < count:
            drawn[draw.randrange(self.size)] = None
        return cost.decode(self.plan, self.points(list(drawn)))

    def _drawn(self, draw: random.Random, count: int) -> list[Architecture]:
        """Draw each segment's option by itself; the last ones of a lattice in the order of it."""
        drawn: dict[Architecture, None] = {}
        for _ in range(TRIES * count):
            point = np.array([[draw.choice(option) for option in self.options]], dtype=np.int32)
            drawn[cost.decode(self.plan, point)[0]] = None
            if len(drawn) == count:
                return list(drawn)
        every = (a for chunk in self.enumerate(count) for a in cost.decode(self.plan, chunk))
        rest = islice((a for a in every if a not in drawn), count - len(drawn))
        return [*drawn, *rest]

    @cached_property
    def _inside(self) -> dict[int, list[int]]:
        """List for each segment that is no inner width those that are, of its blocks."""
        inner = self.plan.inner
        own = (s for s in range(len(self.options)) if s not in inner)
        return {s: [i for i in sorted(inner) if inner[i][0] == s] for s in own}

    @cached_property
    def _counts(self) -> dict[int, list[int]]:
        """Count for the segments that are no inner widths the points before each option, and all.

        Those of one segment, with the inner widths of the blocks that it keeps.
        """
        counts = {}
        for s, inside in self._inside.items():
            blocks = len(self.plan.segments[s].blocks)
            kept = [
                [len(self.options[i]) for i in inside if self.plan.inner[i][1] <= option % blocks]
                for option in self.options[s].tolist()
            ]
            counts[s] = list(accumulate(map(prod, kept), initial=0))
        return counts

    def _radix(self, inner: int, points: Points) -> NDArray[np.int64]:
        """Count the options of an inner width at `n x S` points: 1 where its block is left out."""
        segment, block = self.plan.inner[inner]
        kept = points[:, segment] % len(self.plan.segments[segment].blocks) >= block
        return np.where(kept, len(self.options[inner]), 1)

    def _places(self, segment: int, points: Points) -> NDArray[np.int64]:
        return np.searchsorted(self.options[segment], points[:, segment])

    @property
    def _integer(self) -> type:
        """What holds the points' numbers."""
        return object if self._is_huge else np.int64

    @property
    def _is_huge(self) -> bool:
        """Say whether the points' numbers overflow 64 bits."""
        return self.size > sys.maxsize


def spell(size: int) -> str:
    """Write how many points there are: `186,624`, or `1.2e+16` where nobody reads the digits."""
    return f"{size:,}" if size <= LARGEST_SPELT else f"{Decimal(size):.1e}"


def from_plan(plan: Plan, *, width_steps: int = 8) -> Lattice:
    """Take every block count, and the widths `k / width_steps`, rounded and deduplicated.

    Raises:
        SsrError: if `width_steps` is not positive, or beyond any width.
    """
    if not 1 <= width_steps <= MOST_STEPS:
        raise SsrError(f"segment.width_steps is {width_steps}; it must be 1 to {MOST_STEPS:,}.")
    fractions = np.arange(1, width_steps + 1) / width_steps
    options = []
    for s, (segment, widths) in enumerate(zip(plan.segments, plan.widths, strict=True)):
        positions = np.unique(widths.positions(fractions))[:, None]
        blocks = np.arange(segment.fewest, len(segment.blocks) + 1)
        if s in plan.twins:
            positions = plan.twins[s][blocks - 1, positions]
        codes = np.unique(positions * len(segment.blocks) + blocks - 1)
        options.append(codes.astype(np.int32))
    return Lattice(plan, tuple(options))
