"""What is tested next, where the answer loses too much on test, or a cheaper one is promised."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import verdict
from ssr_exp.search import answer, refuted
from ssr_exp.search.belief import Belief
from ssr_exp.search.decision import Decision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retries:
    """Networks that are tested one by one, after the first ones.

    Args:
        belief: what is believed after the search.
        limit: how many there are at most.
        seeds: trainings of each.
        affordable: how many of so many more trainings the budget allows.
        is_tested: whether the trainings of a network are done, by a command or process before;
            that it was once next in line is no news then.
    """

    belief: Belief
    limit: int
    seeds: int
    affordable: Callable[[int], int]
    is_tested: Callable[[Architecture], bool] = lambda _: False

    def next(self, drops: Mapping[Architecture, float], *, first: int) -> Architecture | None:
        """Choose what is tested next, and say why; None if nothing is.

        Args:
            drops: on test, of the answers that were tested, in order; infinite where all
                trainings of one failed.
            first: how many of them were no retries.
        """
        if not drops or verdict.is_kept(min(drops.values()), self.belief.drop):
            return None
        retry = len(drops) - first + 1
        one, needed = next_best(self.belief, list(drops), drops), retry * self.seeds
        code = "" if one is None else self.belief.history.space.code(one)
        if one is not None and retry <= self.limit and self.is_tested(one):
            return one
        if one is None:
            then = self._why_none(drops)
        elif retry > self.limit:
            one, then = (
                None,
                f"finalists.retries={self.limit} allows no further one, such as {code}",
            )
        elif self.affordable(needed) < needed:
            one, then = None, f"the budget does not allow to test the next one, {code}"
        else:
            promise = self.belief.promises[one].text(self.belief.score, self.belief.drop)
            then = f"the next one is trained, {code}: it is expected {promise}"
        allowed = self.belief.score.short_drop(self.belief.drop)
        lost, level = self._lost(drops), logging.WARNING if one is None else logging.INFO
        log.log(level, "on test, where a drop of %s is allowed, %s; %s", allowed, lost, then)
        return one

    def next_cheaper(
        self, seen: Belief, decided: Decision, tried: Sequence[Architecture], *, first: int
    ) -> Architecture | None:
        """Choose what is tested, too, and say why: promised by now, and cheaper than the answer.

        Finalists that have a score on val are trainings, too, so a network of the search that was
        passed over before them may be likely enough after them.

        Args:
            seen: what is believed by all trainings.
            decided: the answer, and what was tested, by commands or processes before, too.
            tried: the answers that were tested now, in order.
            first: how many of those were no retries.

        Returns:
            The cheapest one; None if nothing is tested.
        """
        before = {*answer.good_enough(self.belief)}
        drops = {a: d for a, d in decided.drops.items() if a in tried or self.is_tested(a)}
        prices = seen.log_costs
        cheaper = {a for a in seen.networks if prices[a] < prices[decided.network]}
        since = [
            a
            for a in answer.good_enough(seen)
            if a in self.belief.history.networks and a in cheaper and a not in (*drops, *tried)
            if seen.promises[a].probability >= self.belief.confidence
        ]
        if not (since := refuted.left(seen, drops, since)):
            return None
        one, code = since[0], seen.history.space.code
        retry = len({*tried, *(a for a in drops if a not in before or a in cheaper)}) - first + 1
        if retry > self.limit:
            then = f"finalists.retries={self.limit} allows no further test"
        elif self.affordable(retry * self.seeds) < retry * self.seeds:
            then = "the budget does not allow to test it"
        else:
            then = ""
        log.log(
            logging.WARNING if then else logging.INFO,
            "%s, cheaper than the answer, is %s likely to be good enough since finalists scored on "
            "val; %s",
            code(one),
            seen.promises[one].likely,
            then or "it is tested, too",
        )
        return None if then else one

    def _why_none(self, drops: Mapping[Architecture, float]) -> str:
        baseline = self.belief.history.space.plan.baseline
        if any(a not in drops and a != baseline for a in answer.good_enough(self.belief)):
            return "all others that are good enough on val lie within one that lost too much"
        sure = f"{self.belief.confidence:g}"
        return f"no other smaller network is good enough with objective.confidence={sure}"

    def _lost(self, drops: Mapping[Architecture, float]) -> str:
        score, code = self.belief.score, self.belief.history.space.code
        return ", ".join(
            f"{code(a)} loses {score.drop_text(drop)}"
            if math.isfinite(drop)
            else f"{code(a)} has no score"
            for a, drop in drops.items()
        )


def next_best(
    belief: Belief, failed: list[Architecture], drops: Mapping[Architecture, float] | None = None
) -> Architecture | None:
    """Find the cheapest good enough network that is likelier to keep its promise than others were.

    Where none is, as where the surrogate was too sure of those, the likeliest one that is left;
    None if only the baseline is. What lies within one that lost too much, by `drops`, is refuted.
    """
    surest = max(belief.promises[a].probability for a in failed)
    baseline = belief.history.space.plan.baseline
    left = [a for a in answer.good_enough(belief) if a not in failed and a != baseline]
    left = refuted.left(belief, drops or {}, left)
    likelier = (a for a in left if belief.promises[a].probability > surest)
    likeliest = max(left, key=lambda a: belief.promises[a].probability, default=None)
    return next(likelier, likeliest)
