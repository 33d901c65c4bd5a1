"""Predictions of a study without a search: of runs that a sweep made, or that came later."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs.predictions import FEWEST, Predictions, continued
from ssr_exp.runs.record import Record
from ssr_exp.search import history, space, subset, summary
from ssr_exp.search.belief import Belief
from ssr_exp.search.resolution import ValSet

log = logging.getLogger(__name__)

# Of a search, when it is fitted anew: what it asked for, and what it said of val.
KEPT = "search max_drop cost caps val_warnings".split()
MOST = 500  # runs that a page's surrogate learns from: time grows with the third power of them


def predict(
    records: Sequence[Record], plan: Plan, *, width_steps: int, before: Predictions | None = None
) -> Predictions | None:
    """Fit the default surrogate to a study's records; None where they are too few.

    Of more than `MOST`, it learns from those that `subset` takes: the baseline, which is the
    fullest network, is among them. Of the predictions `before`, a search's rounds stay.

    Raises:
        SsrError: if the lattice cannot be searched, or what was predicted is not the score alone.
    """
    if before is not None and (before.outcome != before.score or before.latency is not None):
        raise SsrError(
            f"the search's own are of {before.latency or before.outcome.key}: type its command "
            "with rounds=0 to renew them."
        )
    trained = history.from_records(space.from_plan(plan, width_steps=width_steps), records)
    if plan.baseline not in trained.networks or len(trained.networks) < FEWEST:
        return None
    if len(trained) > MOST:
        log.info("the surrogate learns from %d of %d runs", MOST, len(trained))
        trained = trained.part(subset.representative(trained.X, MOST).tolist())
    conf, measured = SearchConfig(), sum(record.is_measured for record in records)
    told = None if before is None else before.evaluation
    conf.finalists.seeds = conf.finalists.seeds if told is None else told.seeds
    val = None if told is None or told.val is None else ValSet({}, told.test, told.val)
    belief = Belief.from_history(trained, conf, val=val)
    predictions = summary.summarise(belief, conf, seen=measured)
    return predictions if before is None else _continued(predictions, before)


def _continued(predictions: Predictions, before: Predictions) -> Predictions:
    """Keep what a search planned, and its earlier looks.

    Its confidence is for promises that count the noise of val and test, so of an earlier version,
    which did not say that, none is kept: then pages do not say how likely a promise is.
    """
    kept = {name: getattr(before, name) for name in KEPT}
    kept |= {"confidence": None if before.evaluation is None else before.confidence}
    return continued(predictions, before).model_copy(update=kept)
