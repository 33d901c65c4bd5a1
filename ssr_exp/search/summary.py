"""What a search believes, as plain data for pages and dashboards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssr_exp.config import SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import AXES, Batch, Expected, LeftOut, Look, Predictions, Sample
from ssr_exp.search import diagnostics
from ssr_exp.search.belief import View
from ssr_exp.search.diagnostics import Check, Sensitivity
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.proposals.propose import WITHIN_80
from ssr_exp.search.rounds import Notebook, Round
from ssr_exp.search.space import Numbers

MOST = 10_000  # points of the lattice that are listed
POOL = 400_000  # points that a sample is drawn from, where there are more
BINS = 50  # of equal width in log parameters, that a sample is drawn from alike
WORTH = 10.0  # points below the baseline, from which on accuracy counts in a hypervolume
DIGITS = 4  # after the point, of percent


def of(
    view: View,
    conf: SearchConfig,
    check: Check,
    sensitivities: Sequence[Sensitivity],
    *,
    book: Notebook | None = None,
    seed: int = 0,
    seen: int | None = None,
) -> Predictions:
    """Summarise what is believed.

    Args:
        view: after reading the records.
        conf: the search.
        check: of the surrogate.
        sensitivities: likewise.
        book: the search's plans; None where no search is behind it.
        seed: of the sample of the lattice.
        seen: finished records that were there; None: those that the view is of.
    """
    plans = [] if book is None else book.read()
    return Predictions(
        study=view.history.records[0].study,
        search="" if book is None else book.folder.name,
        outcome=view.scale.outcome.value,
        levels=diagnostics.LEVELS,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        looks=(_look(view, check, plans),),
        rounds=tuple(_batch(plan) for plan in plans),
        left_out=_left_out(view),
        sensitivities=tuple(_sensitivity(one) for one in sensitivities),
        lattice=_sample(view, seed),
        latency=None if view.latencies is None else str(view.latencies),
        max_drop=conf.objective.max_drop,
        seen=len(view.history) if seen is None else seen,
    )


def _look(view: View, check: Check, plans: Sequence[Round]) -> Look:
    return Look(
        round=max((plan.number for plan in plans), default=0),
        runs=check.count,
        rmse=check.rmse,
        spread=check.spread,
        spearman=check.spearman,
        coverage=check.coverage,
        noise=check.noise,
        hypervolume=_hypervolume(view),
        warnings=tuple(check.warnings()),
    )


def _hypervolume(view: View) -> float:
    """Measure the front of the trained networks, by one measure for all rounds."""
    accuracies, space = view.history.accuracies(), view.history.space
    networks = view.networks
    at = networks.index(space.plan.baseline)
    measured = torch.tensor([accuracies[a] for a in networks], dtype=torch.float64)
    reference = (float(measured[at]) - WORTH, float(view.state.log_costs[at]))
    log_costs = view.state.log_costs[: len(networks)]
    return acquisition.front(measured, log_costs, reference=reference).hypervolume


def _batch(plan: Round) -> Batch:
    planned = (Expected.model_validate(one.model_dump()) for one in plan.planned)
    return Batch(number=plan.number, planned=tuple(planned))


def _sensitivity(one: Sensitivity) -> predictions.Sensitivity:
    kind, _, segment = one.name.partition(" ")
    return predictions.Sensitivity(segment=segment, kind=kind, effect=round(one.effect, DIGITS))


def _left_out(view: View) -> tuple[LeftOut, ...]:
    found = diagnostics.left_out(view)
    spread = WITHIN_80 * found.sigma
    shown = (found.Y, found.mean, found.mean - spread, found.mean + spread)
    columns = [view.accuracy(values).tolist() for values in shown]
    scores = ((found.Y - found.mean) / found.sigma).tolist()
    return tuple(
        LeftOut(
            network=record.network,
            seed=record.seed,
            measured=round(measured, DIGITS),
            predicted=round(predicted, DIGITS),
            low=round(min(ends), DIGITS),
            high=round(max(ends), DIGITS),
            z=round(z, DIGITS),
        )
        for record, measured, predicted, *ends, z in zip(
            view.history.records, *columns, scores, strict=True
        )
    )


def _sample(view: View, seed: int) -> Sample:
    """List the lattice's predicted front for each cost, and points of all sizes."""
    space, found = view.history.space, view.candidates
    numbers = _chosen(view, seed)
    points, at = space.lattice.points(numbers), torch.from_numpy(numbers)
    counts = cost.count(space.plan, points)
    mean = found.mean[at]
    sigma = (found.sigmas(numbers).square() + view.surrogate.noise**2).sqrt()
    low, middle, high = (
        np.round(view.accuracy(values).numpy(), DIGITS)
        for values in (mean - WITHIN_80 * sigma, mean, mean + WITHIN_80 * sigma)
    )
    times = None if view.latencies is None else np.round(view.latencies.ms(points), 6)
    return Sample(
        size=len(space.lattice),
        network=tuple(space.code(a) for a in space.architectures(numbers)),
        params=tuple(counts.params.tolist()),
        macs=tuple(counts.macs.tolist()),
        gemms=tuple(counts.gemms.tolist()),
        latency_ms=None if times is None else tuple(times.tolist()),
        mean=tuple(middle.tolist()),
        low=tuple(np.minimum(low, high).tolist()),
        high=tuple(np.maximum(low, high).tolist()),
    )


def _chosen(view: View, seed: int) -> Numbers:
    """Choose the points that are listed, in order.

    The fronts are those of the whole lattice, the rest is drawn from at most `POOL` points of it.
    """
    space, draw = view.history.space, np.random.default_rng(seed)
    kept = np.unique(np.concatenate(_fronts(view)))[:MOST]
    total = len(space.lattice)
    pool = np.arange(total) if total <= POOL else np.unique(draw.integers(total, size=POOL))
    others = np.setdiff1d(pool, kept, assume_unique=True)
    sizes = np.log(cost.count(space.plan, space.lattice.points(others)).params.astype(np.float64))
    drawn = others[_spread(sizes, MOST - len(kept), draw)]
    return np.sort(np.concatenate([kept, drawn])).astype(np.int64)


def _fronts(view: View) -> list[Numbers]:
    """Find the predicted front of the lattice for each cost."""
    space, mean = view.history.space, view.candidates.mean.numpy()
    parts: dict[str, list[Numbers]] = {}
    for part, points in space.chunks():  # a front of the whole is one of its parts' fronts
        for axis, costs in _costs(view, points).items():
            parts.setdefault(axis, []).append(part.start + _front(costs, mean[part]))
    fronts = []
    for axis, found in parts.items():
        numbers = np.concatenate(found)
        costs = _costs(view, space.lattice.points(numbers))[axis]
        fronts.append(numbers[_front(costs, mean[numbers])])
    return fronts


def _costs(view: View, points: cost.Points) -> dict[str, NDArray[Any]]:
    """Price `m` points: their exact costs, and latency in ms where a device's is known."""
    counts = cost.count(view.history.space.plan, points)
    found = {axis: getattr(counts, axis) for axis in AXES}
    return found if view.latencies is None else found | {"latency": view.latencies.ms(points)}


def _front(costs: NDArray[Any], mean: NDArray[np.float64]) -> Numbers:
    """Find the points that no cheaper one is predicted to match."""
    order = np.lexsort((-mean, costs))
    best = np.maximum.accumulate(mean[order])
    rises = np.concatenate([[True], best[1:] > best[:-1]])
    return order[rises]


def _spread(sizes: NDArray[np.float64], count: int, draw: np.random.Generator) -> Numbers:
    """Draw up to `count` points, as many from each bin of sizes as there are."""
    if len(sizes) <= count:
        return np.arange(len(sizes))
    edges = np.linspace(sizes.min(), sizes.max(), BINS + 1)[1:-1]
    bins = np.digitize(sizes, edges)
    # A random key within its bin, divided by the bin's size, ranks points of all bins alike.
    keys = draw.random(len(sizes)) * np.bincount(bins, minlength=BINS)[bins]
    return np.argpartition(keys, count - 1)[:count]
