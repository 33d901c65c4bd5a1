"""Predictions of a study without a search: of runs that a sweep made, or that came later."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ssr_exp.config import Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs import pareto
from ssr_exp.runs.predictions import FEWEST, Predictions
from ssr_exp.runs.record import Record, Status
from ssr_exp.search import belief as views
from ssr_exp.search import diagnostics, history, space, summary
from ssr_exp.search.history import History

log = logging.getLogger(__name__)

MOST = 500  # runs that a page's surrogate learns from


def of(
    records: Sequence[Record], plan: Plan, *, width_steps: int, before: Predictions | None = None
) -> Predictions | None:
    """Fit the default surrogate to a study's records; None where they are too few.

    Args:
        records: of one study.
        plan: of its seed network.
        width_steps: of the lattice.
        before: the last predictions; a search's rounds stay, the rest is replaced.

    Raises:
        SsrError: if the lattice cannot be searched, or what was predicted is not accuracy alone.
    """
    if before is not None and (before.outcome != Outcome.val_acc or before.latency is not None):
        raise SsrError(
            f"the search's own are of {before.latency or before.outcome}: type its command with "
            "rounds=0 to renew them."
        )
    spanned = space.from_plan(plan, width_steps=width_steps)
    known = history.from_records(spanned, records)
    if plan.baseline not in known.networks or len(known.networks) < FEWEST:
        return None
    finished = sum(r.status is Status.finished and r.val_acc is not None for r in records)
    conf, seen = SearchConfig(), views.of(_thinned(known), SearchConfig())
    check, sensitivities = diagnostics.check(seen), diagnostics.sensitivities(seen)
    found = summary.of(seen, conf, check, sensitivities, seen=finished)
    return found if before is None else _continued(found, before)


def _thinned(known: History) -> History:
    """Keep the baseline and the front, and of the other trainings as many as can be learned from.

    Time grows with the third power of their number.
    """
    total = len(known)
    if total <= MOST:
        return known
    log.info("the surrogate learns from %d of %d runs", MOST, total)
    plan, accuracies = known.space.plan, known.accuracies()
    pairs = list(enumerate(known.architectures))
    best = pareto.front(
        pairs,
        cost=lambda pair: known.records[pair[0]].params,
        score=lambda pair: accuracies[pair[1]],
    )
    first = {at for at, _ in best} | {at for at, a in pairs if a == plan.baseline}
    others = [at for at in range(total) if at not in first]
    step = len(others) / max(MOST - len(first), 1)
    kept = first | {others[int(step * n)] for n in range(max(MOST - len(first), 0))}
    return history.from_records(known.space, [known.records[at] for at in sorted(kept)])


def _continued(found: Predictions, before: Predictions) -> Predictions:
    """Keep what a search planned, and its earlier looks."""
    now = found.looks[-1].model_copy(update={"round": before.looks[-1].round})
    kept = {name: getattr(before, name) for name in ("search", "rounds", "max_drop")}
    return found.model_copy(update=kept | {"looks": (*before.looks[:-1], now)})
