"""The set product of SCBP: all combinations of the widths that each superblock may take.

It may be astronomical (20 superblocks of 5 widths give 10^14), so above `EXACT` points it is drawn
from, never enumerated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssr_exp.config import ModifiersConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture, Plan

EXACT = 10**7  # the largest product that is enumerated
DRAWS = 1 << 19  # networks drawn of a larger one
CHUNK = 1 << 17  # networks that are held at once

Choices = NDArray[Any]
"""`n x S` whole numbers: for each of `n` networks the option that each of `S` superblocks takes."""


@dataclass(frozen=True, eq=False)
class Superblock:
    """What a superblock may keep: `k` widths, ascending, as `cost.encode` writes them.

    `channels` are the `k` channels of the widest group that it scales, and `full` as many in the
    seed network; 0 if it has no width to choose.
    """

    options: NDArray[np.int32]
    channels: NDArray[np.int64]
    full: int


@dataclass(frozen=True, eq=False)
class SetProduct:
    """The set product of a plan's `S` superblocks, in the order in which they run.

    If `monotone`, widths may only fall between neighbours where the seed's do.
    """

    plan: Plan
    superblocks: tuple[Superblock, ...]
    monotone: bool

    @cached_property
    def size(self) -> int:
        """How many points there are, without regard to `monotone`."""
        return math.prod(self.shape)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """How many options each superblock has."""
        return tuple(len(block.options) for block in self.superblocks)

    @cached_property
    def is_exact(self) -> bool:
        """Whether all points are looked at."""
        return self.size <= EXACT

    def chunks(self, seed: int) -> Iterator[Choices]:
        """Yield all choices, or drawn ones, at most `CHUNK` at a time; the seed network never.

        Draws repeat with their seed, and may hold a network several times.
        """
        last, rng = self.size if self.is_exact else DRAWS, np.random.default_rng(seed)
        kind = np.min_scalar_type(max(self.shape))
        seed_network = cost.encode(self.plan, [self.plan.baseline])
        for start in range(0, last, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, last))
            if self.is_exact:
                columns: Sequence[NDArray[Any]] = self._numbered(numbers)
            else:
                columns = self._drawn(numbers / last, rng)
            choices = np.stack([column.astype(kind) for column in columns], axis=1)
            choices = choices[self._holds(choices)]
            yield choices[(self.points(choices) != seed_network).any(axis=1)]

    def _numbered(self, numbers: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Read numbers of points as choices; NumPy knows no more than 64 axes, of any length."""
        axes = iter(np.unravel_index(numbers, [count for count in self.shape if count > 1] or [1]))
        return [next(axes) if count > 1 else np.zeros_like(numbers) for count in self.shape]

    def points(self, choices: Choices) -> Points:
        """Write choices as `cost.count` reads them, `n x S`."""
        pairs = zip(self.superblocks, choices.T, strict=True)
        return np.stack([block.options[column] for block, column in pairs], axis=1)

    def architectures(self, choices: Choices) -> list[Architecture]:
        """Read choices, `n x S`, as architectures."""
        return cost.decode(self.plan, self.points(choices))

    def unevenness(self, choices: Choices) -> NDArray[np.float64]:
        """Measure how far the kept shares of channels lie apart: their standard deviation, `n`."""
        shares = [
            (block.channels / block.full)[column]
            for block, column in zip(self.superblocks, choices.T, strict=True)
            if block.full
        ]
        deviations: NDArray[np.float64] = np.std(shares, axis=0)
        return deviations.round(9)

    @cached_property
    def _bound(self) -> list[tuple[int, int, NDArray[np.int64]]]:
        """List neighbours whose widths may not fall, and the least option that each one asks for.

        Superblocks without a width to choose are passed over.
        """
        blocks = self.superblocks
        free = [s for s, block in enumerate(blocks) if block.full]
        return [
            (s, t, np.searchsorted(blocks[t].channels, blocks[s].channels))
            for s, t in pairwise(free)
            if self.monotone and blocks[s].full <= blocks[t].full
        ]

    def _holds(self, choices: Choices) -> NDArray[np.bool_]:
        holds = np.ones(len(choices), dtype=bool)
        for s, t, least in self._bound:
            holds &= choices[:, t] >= least[choices[:, s]]
        return holds

    def _drawn(
        self, levels: NDArray[np.float64], rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Draw choices around levels from 0 to 1, some alike and some far apart.

        Independent draws would all be of middling size, and none of them even. Where a width may
        not fall, it is raised: of a long network, next to no draws would hold by chance.
        """
        spread, count = rng.random(len(levels)), len(levels)
        columns = []
        for size in self.shape:
            place = (levels + spread * rng.uniform(-1, 1, count)) * size
            columns.append(np.clip(place, 0, size - 1).astype(np.int64))
        for s, t, least in self._bound:
            raised = np.maximum(columns[t], least[columns[s]])
            columns[t] = np.minimum(raised, self.shape[t] - 1)
        return columns


def from_plan(plan: Plan, conf: ModifiersConf) -> SetProduct:
    """Make the set product of a plan from its c-ratios.

    Raises:
        SsrError: if a c-ratio is none, a name fits no segment, or there is nothing to choose.
    """
    names = [segment.name for segment in plan.segments]
    for pattern in conf.c_ratios_of:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SsrError(
                f"modifiers.c_ratios_of: no segment is named {pattern!r}; there are "
                f"{', '.join(names)}; * stands for anything, and ? for a colon on the command line."
            )
    ratios = [_ratios(conf, name) for name in names]
    superblocks = tuple(_superblock(plan, number, each) for number, each in enumerate(ratios))
    if not any(block.full for block in superblocks):
        raise SsrError("modifiers=scbp: no segment of this network has a width to choose.")
    return SetProduct(plan, superblocks, conf.monotone)


def _ratios(conf: ModifiersConf, name: str) -> list[float]:
    """Look up the c-ratios of a superblock: those of the last name that fits, else all's."""
    named = [values for pattern, values in conf.c_ratios_of.items() if fnmatchcase(name, pattern)]
    ratios: Any = named[-1] if named else conf.c_ratios
    if not isinstance(ratios, list) or not ratios or not all(map(_is_share, ratios)):
        key = f"c_ratios_of for {name}" if named else "c_ratios"
        raise SsrError(
            f"modifiers.{key} needs shares of channels above 0 and at most 1, for instance "
            f"[0.5,0.75,1], not {ratios}."
        )
    return [float(ratio) for ratio in ratios]


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1


def _superblock(plan: Plan, number: int, ratios: Sequence[float]) -> Superblock:
    widths, blocks = plan.widths[number], len(plan.segments[number].blocks)
    has_choice = len(widths) > 1
    positions = widths.positions(np.array(ratios)) if has_choice else np.zeros(1, dtype=np.int64)
    positions = np.unique(positions)
    options = (positions * blocks + blocks - 1).astype(np.int32)
    if not has_choice:
        return Superblock(options, np.zeros(1, dtype=np.int64), 0)
    widest = int(np.argmax(widths.sizes[-1]))
    return Superblock(options, widths.sizes[positions, widest], int(widths.sizes[-1, widest]))
