"""What is said of val where it is too small, of a baseline that learnt nothing, of a vague drop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean

from ssr_exp.config import CapConf, ObjectiveConf
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import PERCENT, Score
from ssr_exp.runs.store import is_done
from ssr_exp.search.belief import Belief
from ssr_exp.search.caps import USUAL_DROP, max_drop, read_caps
from ssr_exp.search.resolution import ValSet


@dataclass(frozen=True)
class ValWarnings:
    """The warnings of one search.

    Args:
        val: the images that networks are compared by; None: not known, nothing is said of them.
        objective: what the answer may lose, and how sure it is to be.
        cap: its drop is what the answer may lose, where that is less.
        baseline: its code.
    """

    val: ValSet | None
    objective: ObjectiveConf
    cap: CapConf
    baseline: str

    def before(self, score: Score, records: Iterable[Record]) -> list[str]:
        """Warn before anything is trained; the baseline may have been before."""
        value = self._of_baseline(records)
        coarse = self._too_coarse(score, score.clamped(math.inf), value)
        return [*self._vague_drop(score, value), *coarse]

    def _of_baseline(self, records: Iterable[Record]) -> float | None:
        """Return the baseline's score, if it was trained before."""
        done = (r for r in records if r.network == self.baseline and is_done(r))
        known = [r.score for r in done if r.score is not None]
        return mean(known) if known else None

    def of_run(self, record: Record) -> list[str]:
        """Warn as soon as a run has ended, if it was the baseline's."""
        if record.network != self.baseline or record.score is None:
            return []
        return self._known(record.scored_by, record.score)

    def of_belief(self, belief: Belief) -> list[str]:
        """Warn of what is known by now."""
        value = belief.history.scores()[belief.history.space.plan.baseline]
        return self._known(belief.score, value)

    def _known(self, score: Score, value: float) -> list[str]:
        vague = self._vague_drop(score, value)
        if self.val is None:
            return vague
        return [*vague, *self._too_coarse(score, value, value), *self.val.learnt_nothing(value)]

    def _vague_drop(self, score: Score, baseline: float | None) -> list[str]:
        """Warn of the usual share of a score without bounds, such as dB, of which 0 is no zero.

        Args:
            score: what networks are judged by.
            baseline: its score; None: it is not known yet.
        """
        is_said = self.objective.max_drop is not None or self.cap.drop is not None
        if is_said or score.unit == PERCENT or score.bounds != (None, None):
            return []
        lost = ""
        if baseline is not None:
            drop = score.short_drop(max_drop(self.objective, score, baseline))
            lost = f", {drop} of {score.text(baseline)}"
        return [
            f"the answer may lose {USUAL_DROP} of the baseline's {score.name}{lost}, and of a "
            f"score without bounds that may be next to nothing: type objective.max_drop=NUMBER"
            f"{f' (in {score.unit})' if score.unit else ''}, in a Study max_drop=NUMBER, or say "
            "the score's bounds"
        ]

    def _too_coarse(self, score: Score, whole: float, accuracy: float | None) -> list[str]:
        """Warn of what may be lost; shares of it are of `whole`."""
        if self.val is None:
            return []
        limits = {"objective.max_drop": max_drop(self.objective, score, whole)}
        caps = read_caps(CapConf(drop=self.cap.drop), {"drop": abs(whole)})
        limits |= {f"cap.{name}": value for name, value in caps.items()}
        key, sure = min(limits, key=limits.__getitem__), self.objective.confidence
        return self.val.too_coarse(limits[key], confidence=sure, accuracy=accuracy, key=key)
