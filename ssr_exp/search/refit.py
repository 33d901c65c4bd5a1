"""Predictions of a study without a search: of runs that a sweep made, or that came later."""

from __future__ import annotations

from collections.abc import Sequence

from ssr_exp.config import SearchConfig
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs.predictions import FEWEST, Predictions
from ssr_exp.runs.record import Record
from ssr_exp.search import checks, history, space, summary
from ssr_exp.search import view as views


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
        SsrError: if the lattice cannot be searched.
    """
    spanned = space.of(plan, width_steps=width_steps)
    known = history.of(spanned, records)
    if plan.baseline not in known.networks or len(known.networks) < FEWEST:
        return None
    conf = SearchConfig()
    seen = views.of(known, conf)
    found = summary.of(seen, conf, checks.check(seen), checks.sensitivities(seen))
    return found if before is None else _continued(found, before)


def _continued(found: Predictions, before: Predictions) -> Predictions:
    """Keep what a search planned, and its earlier looks."""
    now = found.looks[-1].model_copy(update={"round": before.looks[-1].round})
    kept = {name: getattr(before, name) for name in ("search", "rounds", "max_drop")}
    return found.model_copy(update=kept | {"looks": (*before.looks[:-1], now)})
