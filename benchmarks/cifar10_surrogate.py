"""How well a study's surrogate predicted, and what as many random networks would have found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from ssr_exp.runs import pareto
from ssr_exp.runs.predictions import AXES, Predictions
from ssr_exp.runs.record import Record

DRAWS = 2000  # random searches that are drawn
ALIKE = 1e-9  # of a share of parameters

Values = np.ndarray[tuple[int], np.dtype[np.float64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


def error_table(told: Predictions) -> Iterator[str]:
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
    trained = {r.network: r.params / r.baseline_params for r in records}
    promised = [one for one in told.promises if one.network in trained]
    params = np.array(lattice.params) / records[0].baseline_params
    pool = np.arange(len(params))
    of = "the lattice"
    if len(params) < lattice.size:
        pool = np.flatnonzero(~_fronts(told))
        of = f"{len(pool):,} of its {lattice.size:,}, as many of each size, none predicted best"
    draw, count = np.random.default_rng(0), min(len(trained), len(pool))
    drawn = [draw.choice(pool, count, replace=False) for _ in range(DRAWS)]
    yield (
        f"As many random networks ({count} of {of}; {DRAWS:,} draws), judged as the search's own "
        "are here, by the drop on test that the surrogate expects at the end:\n"
    )
    yield "| the smallest that | random, median | 80 % of the draws | baseline alone | the search |"
    yield "|---|---|---|---|---|"
    for what, sure in _rules(told):
        is_kept = np.array(lattice.drop) + sure * np.array(lattice.drop_sigma) <= told.max_drop
        least = np.array([params[some][is_kept[some]].min(initial=1.0) for some in drawn])
        found = [trained[p.network] for p in promised if p.drop + sure * p.sigma <= told.max_drop]
        yield f"| {what} | {_spread(least)} | {min(found, default=1.0):.1%} |"
    yield ""


def _rules(told: Predictions) -> list[tuple[str, float]]:
    """List rules of what keeps within the drop, with the standard deviations that each adds."""
    assert told.confidence is not None
    points = "point" if told.max_drop == 1 else "points"
    expected = f"is expected to lose at most {told.max_drop:g} {points}"
    by_answer = f"does so with {told.confidence:.0%}, as an answer must"
    return [(expected, 0.0), (by_answer, NormalDist().inv_cdf(told.confidence))]


def _spread(least: Values) -> str:
    """Write the quantiles of the smallest shares, and how many are the baseline's."""
    low, middle, high = np.quantile(least, (0.1, 0.5, 0.9))
    return f"{middle:.1%} | {low:.1%} to {high:.1%} | {np.mean(least > 1 - ALIKE):.0%}"


def _fronts(told: Predictions) -> Flags:
    """Mark what is on the predicted front of any cost."""
    lattice, mean = told.lattice, np.array(told.lattice.mean)
    on = np.zeros(len(mean), bool)
    for costs in (*(getattr(lattice, axis) for axis in AXES), lattice.latency_ms):
        if costs is not None:
            on[pareto.front(np.array(costs), mean)] = True
    return on
