"""What is tested next, where the answer loses more on test than it was promised to."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import answer
from ssr_exp.search.belief import Belief

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    """Networks that are tested one by one, after the first ones.

    Args:
        belief: what is believed after the search.
        limit: how many there are at most.
        seeds: trainings of each.
        affordable: how many of so many more trainings the budget allows.
    """

    belief: Belief
    limit: int
    seeds: int
    affordable: Callable[[int], int]

    def next(self, drops: Mapping[Architecture, float], *, first: int) -> Architecture | None:
        """Choose what is tested next, and say why; None if nothing is.

        Args:
            drops: on test, of the answers that were tested, in order; infinite where all
                trainings of one failed.
            first: how many of them were no retries.
        """
        retry = len(drops) - first + 1
        if not drops or retry > self.limit or min(drops.values()) <= self.belief.drop:
            return None
        one, needed = next_best(self.belief, list(drops)), retry * self.seeds
        code = "" if one is None else self.belief.history.space.code(one)
        if one is None:
            then = "no other network that was trained is likelier to keep within them"
        elif self.affordable(needed) < needed:
            one, then = None, f"the budget does not allow to test the next one, {code}"
        else:
            promise = self.belief.promises[one].text(self.belief.score, self.belief.drop)
            then = f"the next one is trained, {code}: it is expected {promise}"
        allowed = self.belief.score.short_drop(self.belief.drop)
        log.info("on test, where a drop of %s is allowed, %s; %s", allowed, self._lost(drops), then)
        return one

    def _lost(self, drops: Mapping[Architecture, float]) -> str:
        score, code = self.belief.score, self.belief.history.space.code
        return ", ".join(
            f"{code(a)} loses {score.drop_text(drop)}"
            if math.isfinite(drop)
            else f"{code(a)} has no score"
            for a, drop in drops.items()
        )


def next_best(belief: Belief, failed: list[Architecture]) -> Architecture | None:
    """Find the cheapest good enough network that is likelier to keep its promise than others were.

    None if only the baseline is.
    """
    surest = max(belief.promises[a].probability for a in failed)
    baseline = belief.history.space.plan.baseline
    left = (a for a in answer.good_enough(belief) if a not in failed and a != baseline)
    return next((a for a in left if belief.promises[a].probability > surest), None)
