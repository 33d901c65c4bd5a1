"""The lattice as the surrogate sees it: points of a unit cube, with their exact cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice
from ssr_exp.rescaling.cost import Cost, Points
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Architecture, Plan

LIMIT = 10_000_000  # points
CHUNK = 1 << 16  # points that are looked at together
Numbers = NDArray[np.int64]
"""Points by their numbers in the lattice."""


@dataclass(frozen=True, eq=False)
class Space:
    """All networks that a search may propose: the points of a plan's lattice."""

    plan: Plan
    lattice: Lattice

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name the modifiers among the features, such as `depth layer1`; constant ones are out."""
        named = [f"{kind} {s.name}" for s in self.plan.segments for kind in ("depth", "width")]
        return tuple(name for name, varies in zip(named, self._varies, strict=True) if varies)

    @cached_property
    def segments(self) -> tuple[int, ...]:
        """Say for each modifier which segment it is of."""
        return tuple(int(s) // 2 for s in np.flatnonzero(self._varies))

    @cached_property
    def _tables(self) -> list[NDArray[np.float64]]:
        """List depth and width of all options of each segment, `k_s x 2`.

        Both are on a log scale from the lattice's lowest (0) to full (1): halving 8 blocks weighs
        as much as halving 4. What a training made off the lattice may lie below 0.
        """
        tables = []
        pairs = zip(self.plan.segments, self.plan.widths, strict=True)
        for s, (segment, widths) in enumerate(pairs):
            sizes = widths.sizes.sum(axis=1) if widths.groups else widths.channels
            columns = np.meshgrid(np.arange(1, len(segment.blocks) + 1), sizes)
            logs = np.log(np.stack(columns, axis=-1).reshape(-1, 2))
            lowest = logs[self.lattice.options[s]].min(axis=0)
            tables.append((logs - lowest) / np.maximum(logs[-1] - lowest, 1e-12))
        return tables

    @cached_property
    def _varies(self) -> NDArray[np.bool_]:
        pairs = zip(self._tables, self.lattice.options, strict=True)
        return np.concatenate([np.ptp(table[option], axis=0) > 0 for table, option in pairs])

    @cached_property
    def _costs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Take the log costs of the lattice's lowest point, and their range."""
        low, high = _log_costs(self.plan, self.lattice.points([0, len(self.lattice) - 1]))
        return low, np.maximum(high - low, 1e-12)

    def features(self, points: Points) -> Tensor:
        """Place `n x S` points in the unit cube: `n x d`, float64; any effective architecture.

        The modifiers come first, in the order of `names`; then parameters and MACs, on a log scale.
        These follow from the modifiers, but say at once what a surrogate of few points would have
        to find out: most of what a network can do goes with its size.
        """
        columns = [table[points[:, s]] for s, table in enumerate(self._tables)]
        modifiers = np.concatenate(columns, axis=1)
        if self.plan.inner:  # a block that is left out is next to one of the lowest width
            modifiers[np.repeat(cost.gone(self.plan, points), 2, axis=1)] = 0.0
        modifiers = modifiers[:, self._varies]
        low, spread = self._costs
        sizes = (_log_costs(self.plan, points) - low) / spread
        return torch.from_numpy(np.concatenate([modifiers, sizes], axis=1))

    def chunks(self) -> Iterator[tuple[slice, Points]]:
        """Yield all points of the lattice in order, with their numbers as a slice."""
        start = 0
        for points in self.lattice.enumerate(CHUNK):
            yield slice(start, start + len(points)), points
            start += len(points)

    def evaluate(self, function: Callable[[Points], Sequence[Tensor]]) -> list[Tensor]:
        """Apply a function of `m x S` points to the whole lattice, a part at a time.

        Returns what it returns, tensors of `m`, as tensors of all `n` points.
        """
        columns: list[Tensor] = []
        for part, points in self.chunks():
            values = function(points)
            columns = columns or [torch.empty(len(self.lattice), dtype=v.dtype) for v in values]
            for whole, some in zip(columns, values, strict=True):
                whole[part] = some
        return columns

    def numbers(self, architectures: Sequence[Architecture]) -> Numbers:
        """Find the lattice's numbers of architectures; those that are no points are left out."""
        points = cost.encode(self.plan, architectures)
        return self.lattice.numbers(points[self.lattice.hold(points)]).astype(np.int64)

    def architectures(self, numbers: Sequence[int] | Numbers) -> list[Architecture]:
        """Look up points by their numbers."""
        return cost.decode(self.plan, self.lattice.points(numbers))

    def code(self, architecture: Architecture) -> str:
        """Write a network's code."""
        return codes.write(self.plan, architecture)

    def parse(self, code: str) -> Architecture:
        """Read a network's code.

        Raises:
            SsrError: if it is no network of this plan.
        """
        return codes.parse(self.plan, code)

    @cached_property
    def baseline(self) -> Cost:
        """The seed network's cost."""
        return cost.count_one(self.plan, self.plan.baseline)


def from_plan(plan: Plan, *, width_steps: int) -> Space:
    """Span the lattice of a plan.

    Raises:
        SsrError: if it has more than `LIMIT` points, or only one.
    """
    points = lattice.from_plan(plan, width_steps=width_steps)
    if points.size > LIMIT:
        raise SsrError(
            f"the lattice has {lattice.spell(points.size)} points, and a search looks at "
            f"{LIMIT:,} at most: {_remedy(plan, width_steps)}."
        )
    if points.size < 2:
        raise SsrError("nothing can be searched: the lattice holds the baseline alone.")
    return Space(plan, points)


def _remedy(plan: Plan, width_steps: int) -> str:
    """Say what makes a lattice small enough: coarser widths, fewer segments or frozen ones."""
    sizes = (
        (w, lattice.from_plan(plan, width_steps=w).size) for w in range(width_steps - 1, 0, -1)
    )
    coarser = next((pair for pair in sizes if pair[1] <= LIMIT), None)
    ways = ["split the network into fewer segments (segment=whole makes one)"]
    if coarser is not None and coarser[1] > 1:
        ways.insert(0, f"type segment.width_steps={coarser[0]} ({coarser[1]:,} points)")
    return ", ".join([*ways, "or freeze some with segment.frozen=[NAME,...]"])


def _log_costs(plan: Plan, points: Points) -> NDArray[np.float64]:
    """Take the logarithms of parameters and MACs of `n` points, `n x 2`."""
    counts = cost.count(plan, points)
    return np.log(np.stack([counts.params, counts.macs], axis=1).astype(np.float64))
