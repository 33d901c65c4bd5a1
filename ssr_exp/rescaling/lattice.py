"""The lattice: all effective architectures that the allowed depths and widths give."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Cost, Points
from ssr_exp.rescaling.plan import Architecture, Plan

LARGEST_SPELT = 10**12  # a number above it is not written out
MOST_STEPS = 2**16  # between two widths; no network is as wide


@dataclass(frozen=True)
class Lattice:
    """The product of each segment's options, without effective duplicates.

    For each of `S` segments there are its `k_s` options, ascending. Points are numbered from 0 in
    row-major order: the last segment's option changes first.
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
        return prod(self.shape)

    def __len__(self) -> int:
        """Count the points; where Python's `len` cannot say how many, `size` can."""
        if self.size > sys.maxsize:
            raise SsrError(
                f"the lattice has {spell(self.size)} networks: ask for .size, not len()."
            )
        return self.size

    def points(self, numbers: Sequence[int] | NDArray[Any]) -> Points:
        """Look up points, `n x S`, by their numbers, `n`."""
        rest: NDArray[Any] = np.asarray(numbers, dtype=object if self._is_huge else np.int64)
        columns = []
        for option in reversed(self.options):
            columns.append(option[(rest % len(option)).astype(np.int64)])
            rest = rest // len(option)
        return np.stack(columns[::-1], axis=1)

    def enumerate(self, chunk: int = 1 << 20) -> Iterator[Points]:
        """Yield all points in order, at most `chunk` at a time (`n x S` each)."""
        for start in range(0, len(self), chunk):
            yield self.points(np.arange(start, min(start + chunk, len(self))))

    def cost(self) -> Cost:
        """Count the cost of all points at once: arrays of `shape`."""
        return cost.count_product(self.plan, self.options)

    def sample(self, count: int, *, seed: int) -> list[Architecture]:
        """Draw `count` different architectures; the same seed draws the same ones.

        Raises:
            SsrError: if the lattice has fewer points.
        """
        if not 1 <= count <= self.size:
            raise SsrError(
                f"cannot draw {count} different networks: the lattice has {spell(self.size)} "
                "points."
            )
        draw = random.Random(seed)
        if not self._is_huge:
            return cost.decode(self.plan, self.points(draw.sample(range(self.size), count)))
        drawn: dict[int, None] = {}
        while len(drawn) < count:
            drawn[draw.randrange(self.size)] = None
        return cost.decode(self.plan, self.points(list(drawn)))

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
    for segment, widths in zip(plan.segments, plan.widths, strict=True):
        positions = np.unique(widths.positions(fractions))
        blocks = np.arange(segment.fewest, len(segment.blocks) + 1)
        codes = positions[:, None] * len(segment.blocks) + blocks[None] - 1
        options.append(codes.reshape(-1).astype(np.int32))
    return Lattice(plan, tuple(options))
