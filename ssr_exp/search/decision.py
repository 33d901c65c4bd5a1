"""Which network a study hands over: one rule, of what is believed and of what finalists lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import last_comparison, verdict
from ssr_exp.runs.record import Record
from ssr_exp.search import answer
from ssr_exp.search.belief import Belief
from ssr_exp.search.promise import Promise


@dataclass(frozen=True)
class Decision:
    """The network that is handed over, and what tests say of it.

    Args:
        network: the answer.
        drop: what it lost on test, in the score's unit; None: it was not tested.
        is_kept: whether that is no more than allowed; None: it was not tested.
        verdict: what speaks against it, in a sentence; None: nothing does.
        drops: what each of the answers that were tested lost, and of what was only compared.
    """

    network: Architecture
    drop: float | None
    is_kept: bool | None
    verdict: str | None
    drops: Mapping[Architecture, float]

    def fields(self) -> dict[str, Any]:
        """Write as plain data what is said of it everywhere."""
        return {"kept": self.is_kept, "verdict": self.verdict}

    def promise(self, chosen_by: Belief, seen: Belief) -> Promise:
        """Return what is expected of it by val alone.

        Of what was tested by all trainings that val measured, its finalists among them, as its
        score on val is their mean; else as it was chosen by.

        Args:
            chosen_by: what is believed without the finalists.
            seen: what is believed by all records.
        """
        return (chosen_by if self.drop is None else seen).promises[self.network]


def decide(
    belief: Belief, drops: Mapping[Architecture, float], seen: Belief | None = None
) -> Decision:
    """Choose the cheapest network that kept its promise on test; else what is to be tested next.

    Of those that kept it, the ones that are promised now come first: the confidence may be another
    one than when they were tested. Where all that were tested lost too much, and what would be
    tested next is one of them, the one that lost least. What was tested for another cost or under
    larger caps, and is no smaller than the baseline by that of now, or breaks one, is none of them.

    Args:
        belief: what is believed without the finalists.
        drops: on test, of the answers that were tested; infinite where all trainings of one failed.
        seen: what is believed by all trainings, by which those that were tested are promised; None:
            there are no others.
    """
    promised = answer.good_enough(seen or belief)
    enough, prices = answer.good_enough(belief), belief.log_costs
    drops = {a: drop for a, drop in drops.items() if a in prices}  # others were only compared
    smaller = answer.smaller(belief)
    tested = [a for a in drops if a in smaller]
    kept = [a for a in tested if verdict.is_kept(drops[a], belief.drop)]
    if kept:
        network = min(kept, key=lambda a: (a not in promised, prices[a], drops[a], a))
    elif enough[0] in tested:
        network = min(tested, key=lambda a: (drops[a], a))
    else:
        network = enough[0]
    lost = drops.get(network, math.inf)
    drop = lost if math.isfinite(lost) else None  # without a score nothing is known
    return Decision(
        network,
        drop,
        None if drop is None else verdict.is_kept(drop, belief.drop),
        _verdict(belief, network, drop),
        drops,
    )


def drops_on_test(belief: Belief, finals: Iterable[Record]) -> dict[Architecture, float]:
    """Say what networks lost on test, of the records of finalists; none without the baseline's.

    Infinite where all trainings of one diverged. Networks that the search did not train were only
    compared with the answer, and are left out, and so is what was tested in no study beside the
    baseline.
    """
    finals, space = [*finals], belief.history.space
    baseline, drops = space.code(space.plan.baseline), dict[Architecture, float]()
    searched = {space.code(a): a for a in belief.networks if a != space.plan.baseline}
    for network in dict.fromkeys(one.network for one in finals if one.network in searched):
        tests: dict[str, list[float]] = {}
        for one in last_comparison.beside(finals, baseline, network):
            if one.test_score is not None:
                tests.setdefault(one.network, []).append(one.test_score)
        if baseline not in tests:
            return {}
        if network in tests:
            drop = belief.score.drop(mean(tests[network]), mean(tests[baseline]))
            drops[searched[network]] = drop
        elif all(one.test_score is None for one in finals if one.network == network):
            drops[searched[network]] = math.inf
    return drops


def _verdict(belief: Belief, network: Architecture, drop: float | None) -> str | None:
    if network == belief.history.space.plan.baseline:
        is_over = answer.breaks_a_cap(belief, network)
        caps = [name for name in belief.caps if name != "drop"]
        return verdict.breaks_caps_text(caps) if is_over else None
    return verdict.text(
        belief.score,
        drop=0.0 if drop is None else drop,
        allowed=belief.drop,
        on="val" if drop is None else "test",
        probability=belief.promises[network].probability,
        confidence=belief.confidence,
    )
