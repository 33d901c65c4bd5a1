"""Local search: the best points of a lattice that is too large to look at all of them.

Several climbs go on at once. In each step a climb looks at moves of one segment to other options,
at the pairs of these that promise most, and at jumps of many segments; the best becomes its place.
What a pair gives is about what its two moves give (mean, deviation and log cost add up), so swaps
that keep the cost, one segment up and another down, are found among thousands without predicting
all of them. Shapes: `m` points, `S` segments, `k` climbs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.rescaling.cost import Points
from ssr_exp.search.space import Space

MOVES = 512  # of one segment that a climb looks at in a step; where there are more, drawn ones
DRAWN = 4096  # pairs of moves whose sum is looked at
PAIRS = 64  # of these that are predicted
LEADING = 64  # moves, the best ones, that half of the drawn pairs contain
JUMPS = (3, 5, 9, 17, 33)  # segments that move at once, each as is best for it alone
STEPS = 40  # at most
KEPT = 8  # points around a place that are returned with it
LEAST_SIGMA = 1e-9  # of a sum

Predict = Callable[[Points], tuple[Tensor, Tensor]]
"""Predict `m x S` points: mean, deviation and log cost, `m x 3`; whether each is allowed, `m`."""

Rank = Callable[[Tensor, Tensor], Tensor]
"""Rank points, best is highest: by their climbs' goals, `m`, and what is predicted, `m x 3`."""

Places = NDArray[np.int64]
"""Options by their numbers within their segments, `... x S`."""


@dataclass(frozen=True, eq=False)
class LocalSearch:
    """What is climbed.

    Args:
        space: the lattice.
        predict: what is known of points.
        rank: which of them are better. `-inf` is never gone to.
        draw: of moves and pairs, where there are too many.
    """

    space: Space
    predict: Predict
    rank: Rank
    draw: np.random.Generator

    def climb(self, starts: Points, goals: Tensor | None = None) -> Points:
        """Climb from each start until no move is better.

        Args:
            starts: `k x S` points of the lattice.
            goals: of the climbs, `k`, for `rank`; None: they have the same one, and those behind
                give up step by step.

        Returns:
            Where the climbs were, and the best points around, each once.
        """
        at, _ = self.space.places(starts)
        shared = goals is None
        goals = torch.zeros(len(starts), dtype=torch.int64) if goals is None else goals
        columns, worth = self._look(at, goals)
        trail = [starts]
        for step in range(STEPS):
            around, values, scores = self._around(at, goals, columns)
            top = scores.topk(min(KEPT, scores.shape[1]))
            trail.append(self._allowed(around, top))
            rows, best = torch.arange(len(at)), top.indices[:, 0]
            at, columns = around[rows.numpy(), best.numpy()], values[rows, best]
            higher, worth = top.values[:, 0] > worth, top.values[:, 0]
            going = self._going(at, goals, worth, higher, step if shared else None)
            if not len(going):
                break
            at, goals = at[going.numpy()], goals[going]
            columns, worth = columns[going], worth[going]
        return self.space.once(np.concatenate(trail))

    def neighbours(self, points: Points) -> Points:
        """List what one step looks at around `k x S` points, and may go to."""
        at, _ = self.space.places(points)
        goals = torch.zeros(len(at), dtype=torch.int64)
        around, _, scores = self._around(at, goals, self._look(at, goals)[0])
        return self.space.once(self.space.points(around[scores.isfinite().numpy()]))

    def _look(self, at: Places, goals: Tensor) -> tuple[Tensor, Tensor]:
        """Predict and rank places, `m x S`."""
        columns, allowed = self.predict(self.space.points(at))
        return columns, torch.where(allowed, self.rank(goals, columns), -torch.inf)

    def _around(self, at: Places, goals: Tensor, columns: Tensor) -> tuple[Places, Tensor, Tensor]:
        """Look around each of `k` places: `k x n x S` others, what is predicted, and ranks."""
        segments, options = self._moves()
        single = np.repeat(at[:, None], len(segments), axis=1)
        single[:, np.arange(len(segments)), segments] = options
        values, scores = self._look_at_all(single, goals)
        pairs = self._pairs(single, goals, columns, values, scores, segments)
        jumps = self._jumps(at, scores, segments, options)
        several = np.concatenate([pairs, jumps], axis=1)
        more, ranks = self._look_at_all(several, goals)
        return (
            np.concatenate([single, several], axis=1),
            torch.cat([values, more], dim=1),
            torch.cat([scores, ranks], dim=1),
        )

    def _look_at_all(self, places: Places, goals: Tensor) -> tuple[Tensor, Tensor]:
        """Predict and rank `k x n x S` places."""
        k, n, S = places.shape
        columns, worth = self._look(places.reshape(-1, S), goals.repeat_interleave(n))
        return columns.reshape(k, n, -1), worth.reshape(k, n)

    @cached_property
    def _all_moves(self) -> NDArray[np.int64]:
        """List segment and option of all moves, `n x 2`."""
        return np.array([(s, o) for s, n in enumerate(self.space.lattice.shape) for o in range(n)])

    def _moves(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        moves = self._all_moves
        if len(moves) > MOVES:
            moves = moves[self.draw.choice(len(moves), size=MOVES, replace=False)]
        return moves[:, 0], moves[:, 1]

    def _pairs(
        self,
        single: Places,
        goals: Tensor,
        columns: Tensor,
        values: Tensor,
        scores: Tensor,
        segments: NDArray[np.int64],
    ) -> Places:
        """Choose for each place the pairs of moves that promise most, `k x p x S`."""
        k, n, _ = single.shape
        leading = scores.topk(min(LEADING, n)).indices
        anywhere = torch.from_numpy(self.draw.integers(n, size=(k, DRAWN // 2)))
        at_top = torch.from_numpy(self.draw.integers(leading.shape[1], size=(k, DRAWN // 2)))
        first = torch.cat([anywhere, leading.gather(1, at_top)], dim=1)
        second = torch.from_numpy(self.draw.integers(n, size=(k, DRAWN)))
        rows = torch.arange(k)[:, None]
        sums = values[rows, first] + values[rows, second] - columns[:, None]
        sums[..., 1].clamp_min_(LEAST_SIGMA)
        ranks = self.rank(goals.repeat_interleave(DRAWN), sums.reshape(k * DRAWN, -1))
        apart = torch.from_numpy(segments)[first] != torch.from_numpy(segments)[second]
        ranks = torch.where(apart, ranks.reshape(k, DRAWN), -torch.inf)
        top = ranks.topk(PAIRS).indices
        one, other = (which.gather(1, top).numpy() for which in (first, second))
        pairs: Places = single[rows.numpy(), one]
        changed = segments[other][..., None] == np.arange(single.shape[2])
        return np.where(changed, single[rows.numpy(), other], pairs)

    def _jumps(
        self,
        at: Places,
        scores: Tensor,
        segments: NDArray[np.int64],
        options: NDArray[np.int64],
    ) -> Places:
        """Move many segments at once, each as is best for it alone, `k x j x S`."""
        jumps = np.repeat(at[:, None], len(JUMPS), axis=1)
        for row, order in enumerate((-scores).argsort(dim=1).numpy()):
            _, first = np.unique(segments[order], return_index=True)
            best = order[np.sort(first)]
            for j, count in enumerate(JUMPS):
                jumps[row, j, segments[best[:count]]] = options[best[:count]]
        return jumps

    def _allowed(self, around: Places, top: torch.return_types.topk) -> Points:
        """Keep the best points around that may be gone to."""
        rows = np.arange(len(around))[:, None]
        best = around[rows, top.indices.numpy()]
        return self.space.points(best[top.values.isfinite().numpy()])

    def _going(
        self, at: Places, goals: Tensor, worth: Tensor, higher: Tensor, step: int | None
    ) -> Tensor:
        """List the climbs that go on: those that rose, each place once; the best ones if shared."""
        rows = np.column_stack([goals.numpy(), at])
        _, first = np.unique(rows, axis=0, return_index=True)
        once = torch.zeros(len(at), dtype=torch.bool)
        once[torch.from_numpy(first)] = True
        going = torch.nonzero(higher & once).flatten()
        if step is None or step % 2 == 0:
            return going
        return going[worth[going].argsort(descending=True, stable=True)][: max(4, len(at) // 2)]
