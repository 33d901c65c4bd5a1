"""How well a study's surrogate predicted, and what as many random networks would have found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from benchmarks.cifar10_claims import DROP
from ssr_exp.runs import pareto
from ssr_exp.runs.predictions import AXES, Predictions
from ssr_exp.runs.record import Record

DRAWS = 2000  # random searches that are drawn
ALIKE = 1e-9  # of a share of parameters

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


def errors(told: Predictions) -> Iterator[str]:
    """Lay out the errors of trainings that were left out, round by round, as Markdown."""
    heads = "trainings, left-out error, of guessing the mean, rank correlation, in 80 % intervals"
    yield f"| after round | {' | '.join(heads.split(', '))} |"
    yield "|---|---|---|---|---|---|"
    for look in told.looks:
        rank = "none" if look.spearman is None else f"{look.spearman:.2f}"
        yield (
            f"| {look.round} | {look.runs} | {look.rmse:.2f} | {look.spread:.2f} | {rank} | "
            f"{look.coverage[1]:.0%} |"
        )
    yield ""


def random_search(told: Predictions, records: Sequence[Record]) -> Iterator[str]:
    """Say what as many random networks would have found, as Markdown.

    Networks of both searches are judged alike: by the last predictions of their drops on test. Of a
    lattice that is listed in part, its predicted fronts, which are listed whole, are not drawn.
    """
    lattice = told.lattice
    if lattice.drop is None or lattice.drop_sigma is None or told.confidence is None:
        return
    full = records[0].baseline_params
    trained = {record.network: record.params / full for record in records}
    known = [one for one in told.promises if one.network in trained]
    params = np.array(lattice.params) / full
    is_whole = len(params) == lattice.size
    pool = np.arange(len(params)) if is_whole else np.flatnonzero(~_fronts(told))
    count = min(len(trained), len(pool))
    rng = np.random.default_rng(0)
    drawn = [rng.choice(pool, count, replace=False) for _ in range(DRAWS)]
    part = (
        f"{len(pool):,} of its {lattice.size:,}, as many of each size, none of the best predicted"
    )
    of = "the lattice" if is_whole else part
    yield (
        f"As many random networks ({count} of {of}; {DRAWS:,} draws), judged as the search's own "
        "are here, by the drop on test that the surrogate expects at the end:\n"
    )
    yield "| the smallest that | random, median | 80 % of the draws | baseline alone | the search |"
    yield "|---|---|---|---|---|"
    here = _within(np.array(lattice.drop), np.array(lattice.drop_sigma), told.confidence)
    own = _within(
        np.array([one.drop for one in known]),
        np.array([one.sigma for one in known]),
        told.confidence,
    )
    for what in here:
        least = [params[some][here[what][some]].min(initial=1.0) for some in drawn]
        low, middle, high = np.quantile(least, (0.1, 0.5, 0.9))
        found = [
            trained[one.network] for one, is_kept in zip(known, own[what], strict=True) if is_kept
        ]
        alone = np.mean(np.array(least) > 1 - ALIKE)
        yield (
            f"| {what} | {middle:.1%} | {low:.1%} to {high:.1%} | {alone:.0%} | "
            f"{min(found, default=1.0):.1%} |"
        )
    yield ""


def _fronts(told: Predictions) -> Flags:
    """Mark what is on the predicted front of any cost."""
    on = np.zeros(len(told.lattice.mean), bool)
    mean = np.array(told.lattice.mean)
    for axis in AXES:
        on[pareto.front(np.array(getattr(told.lattice, axis)), mean)] = True
    return on


def _within(
    drop: np.ndarray[tuple[int], np.dtype[np.float64]],
    sigma: np.ndarray[tuple[int], np.dtype[np.float64]],
    confidence: float,
) -> dict[str, Flags]:
    """Mark what keeps within the drop, by what it is expected to lose and by the answer's rule."""
    sure = NormalDist().inv_cdf(confidence)
    return {
        f"is expected to lose at most {DROP:g} point": drop <= DROP,
        f"does so with {confidence:.0%}, as an answer must": drop + sure * sigma <= DROP,
    }
