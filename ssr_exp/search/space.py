"""The lattice as the surrogate sees it: points of a unit cube, with their exact cost.

A lattice of up to `LIMIT` points is looked at whole, its points named by their numbers. Of a larger
one points are named by what they are, and nothing here is ever as long as the lattice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice
from ssr_exp.rescaling.cost import Cost, Points
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Architecture, Plan

LIMIT = 10_000_000  # points that are all looked at; of more, local search finds the best ones
JITTERS = (0.0, 0.1, 0.3)  # of the segments' shares around a network's own, where points are drawn
CHUNK = 1 << 16  # points that are looked at together
Numbers = NDArray[np.int64]
"""Points by their numbers in the lattice."""


@dataclass(frozen=True, eq=False)
class Space:
    """All networks that a search may propose: the points of a plan's lattice."""

    plan: Plan
    lattice: Lattice

    @property
    def is_enumerable(self) -> bool:
        """Say whether the lattice is small enough for looking at all of its points."""
        return self.lattice.size <= LIMIT

    @cached_property
    def ends(self) -> Points:
        """The smallest point in all exact costs, and the baseline: `2 x S`."""
        return self.lattice.points([0, self.lattice.size - 1])

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
        low, high = _log_costs(self.plan, self.ends)
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

    def places(self, points: Points) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the options of points among those of each segment, `n x S`.

        Returns them, and whether a point is one of the lattice, `n`.
        """
        pairs = zip(self.lattice.options, points.T, strict=True)
        columns = [np.searchsorted(o, column).clip(max=len(o) - 1) for o, column in pairs]
        return np.stack(columns, axis=1), self.lattice.hold(points)

    def points(self, places: NDArray[np.int64]) -> Points:
        """Look up points, `n x S`, by each segment's option; of a block that is gone by any."""
        return cost.canonical(self.plan, self.options(places))

    def options(self, places: NDArray[np.int64]) -> Points:
        """Look up options, `n x S`, by their places; of blocks that are gone, too: no points."""
        pairs = zip(self.lattice.options, places.T, strict=True)
        return np.stack([options[column] for options, column in pairs], axis=1)

    def keys(self, points: Points) -> NDArray[Any]:
        """Say which of `n` points are the same network, `n`: their keys are equal."""
        rows = np.ascontiguousarray(points, dtype=np.int32)
        return rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()

    def once(self, points: Points) -> Points:
        """Leave out points that stand there before."""
        _, first = np.unique(self.keys(points), return_index=True)
        return points[np.sort(first)]

    def spread(self, count: int, draw: np.random.Generator) -> Points:
        """Draw points of all sizes, `n x S`; repeats are left out.

        Any two random points of many segments cost about the same. So each draws a share of the
        depth and one of the width first, on a log scale, and its segments lie around these.
        """
        shares = draw.random((count, 2))
        jitter = draw.choice(JITTERS, size=(count, 1))
        columns = []
        for table, options in zip(self._tables, self.lattice.options, strict=True):
            wanted = shares + jitter * draw.normal(size=(count, 2))
            columns.append(options[_nearest(table[options], wanted)])
        return self.once(cost.canonical(self.plan, np.stack(columns, axis=1)))

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

    def find(self, code: str) -> Architecture | None:
        """Read a network's code; None if it is of other frozen segments, or another plan."""
        try:
            return self.parse(code)
        except SsrError:
            return None

    @cached_property
    def baseline(self) -> Cost:
        """The seed network's cost."""
        return cost.count_one(self.plan, self.plan.baseline)


def from_plan(plan: Plan, *, width_steps: int) -> Space:
    """Span the lattice of a plan.

    Raises:
        SsrError: if it has only one point.
    """
    points = lattice.from_plan(plan, width_steps=width_steps)
    if points.size < 2:
        raise SsrError("nothing can be searched: the lattice holds the baseline alone.")
    return Space(plan, points)


def _nearest(rows: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find for each of `n x 2` wanted rows the nearest of `k x 2`, `n`."""
    parts = np.array_split(wanted, 1 + len(wanted) * len(rows) // (1 << 20))
    found = [np.abs(rows - part[:, None]).sum(axis=2).argmin(axis=1) for part in parts]
    return np.concatenate(found)


def _log_costs(plan: Plan, points: Points) -> NDArray[np.float64]:
    """Take the logarithms of parameters and MACs of `n` points, `n x 2`."""
    counts = cost.count(plan, points)
    return np.log(np.stack([counts.params, counts.macs], axis=1).astype(np.float64))
