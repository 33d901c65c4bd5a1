"""What a search believes, as plain data for pages and dashboards."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.config import SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.runs import pareto
from ssr_exp.runs.predictions import (
    AXES,
    WITHIN_80,
    Batch,
    Evaluation,
    Expected,
    Predictions,
    Promised,
    Sample,
)
from ssr_exp.search import diagnostics, lattice_sample
from ssr_exp.search.belief import Belief
from ssr_exp.search.candidates import Candidates
from ssr_exp.search.rounds import Notebook
from ssr_exp.search.space import Numbers

MOST = 10_000  # points of the lattice that are listed
POOL = 400_000  # points that a sample is drawn from, where there are more
BINS = 50  # of equal width in log parameters, that a sample is drawn from alike


def summarise(
    belief: Belief,
    conf: SearchConfig,
    *,
    book: Notebook | None = None,
    seed: int = 0,
    seen: int | None = None,
) -> Predictions:
    """Summarise what is believed.

    `book` holds a search's plans, `seed` draws the sample of the lattice, and `seen` counts the
    finished records that were there, if the belief is not of all.
    """
    plans = [] if book is None else book.read()
    number = max((plan.number for plan in plans), default=0)
    rounds = [
        (p.number, [Expected.model_validate(one.model_dump()) for one in p.planned]) for p in plans
    ]
    return Predictions(
        study=belief.history.records[0].study,
        search="" if book is None else book.folder.name,
        outcome=belief.scale.outcome,
        score=belief.score,
        levels=diagnostics.LEVELS,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        looks=(diagnostics.look(belief, number),),
        rounds=tuple(Batch(number=n, planned=tuple(planned)) for n, planned in rounds),
        left_out=diagnostics.left_out(belief),
        sensitivities=diagnostics.sensitivities(belief),
        lattice=_sample(belief, seed),
        latency=None if belief.latencies is None else str(belief.latencies),
        max_drop=belief.drop,
        seen=len(belief.history) if seen is None else seen,
        cost=conf.objective.cost.value,
        caps=belief.caps,
        confidence=None if book is None else belief.confidence,
        promises=_promises(belief),
        evaluation=_evaluation(belief),
        latencies=_latencies(belief),
        timed=_timed(belief),
    )


def _promises(belief: Belief) -> tuple[Promised, ...]:
    """List what trained networks are expected to lose."""
    code, rounded = belief.history.space.code, belief.score.rounded
    return tuple(
        Promised(
            network=code(architecture),
            drop=rounded(one.drop),
            sigma=rounded((one.high - one.low) / (2 * WITHIN_80)),
        )
        for architecture, one in belief.promises.items()
    )


def _latencies(belief: Belief) -> dict[str, float]:
    """Tell the latency of trained networks, in ms, where a device's is known."""
    if belief.latencies is None:
        return {}
    space, networks = belief.history.space, belief.history.networks
    times = belief.latencies.ms(cost.encode(space.plan, networks)).tolist()
    return {space.code(a): round(ms, 6) for a, ms in zip(networks, times, strict=True)}


def _timed(belief: Belief) -> tuple[str, ...]:
    """List the networks whose latency was measured on the device that counts, if one does."""
    measured = {} if belief.latencies is None else belief.latencies.measured()
    return tuple(map(belief.history.space.code, measured))


def _evaluation(belief: Belief) -> Evaluation:
    """Say what the promises count beside the surrogate."""
    val, seeds = belief.drops.val, belief.drops.seeds
    if val is None:
        return Evaluation(val=None, test=0, seeds=seeds)
    return Evaluation(val=val.images, test=val.tested, seeds=seeds)


def _sample(belief: Belief, seed: int) -> Sample:
    """List the lattice's predicted front for each cost, and points of all sizes."""
    space = belief.history.space
    candidates, numbers = _chosen(belief, seed)
    points, at = candidates.points(numbers), torch.from_numpy(numbers)
    counts = cost.count(space.plan, points)
    mean = candidates.mean[at]
    sigma = (candidates.sigmas(numbers).square() + belief.surrogate.noise**2).sqrt()
    low, middle, high = (
        np.array([belief.scale.outcome.rounded(v) for v in belief.scale.back(values).tolist()])
        for values in (mean - WITHIN_80 * sigma, mean, mean + WITHIN_80 * sigma)
    )
    times = None if belief.latencies is None else np.round(belief.latencies.ms(points), 6)
    lost = belief.expected_drops(points) or (None, None)
    drop, drop_sigma = (
        None if column is None else tuple(map(belief.score.rounded, column.tolist()))
        for column in lost
    )
    return Sample(
        size=space.lattice.size,
        network=tuple(space.code(a) for a in candidates.architectures(numbers)),
        params=tuple(counts.params.tolist()),
        macs=tuple(counts.macs.tolist()),
        gemms=tuple(counts.gemms.tolist()),
        latency_ms=None if times is None else tuple(times.tolist()),
        mean=tuple(middle.tolist()),
        low=tuple(np.minimum(low, high).tolist()),
        high=tuple(np.maximum(low, high).tolist()),
        drop=drop,
        drop_sigma=drop_sigma,
    )


def _chosen(belief: Belief, seed: int) -> tuple[Candidates, Numbers]:
    """Choose the points that are listed; returns what they are among, and their numbers, in order.

    The fronts are those of the whole lattice, the rest is drawn from at most `POOL` points of it.
    """
    candidates, draw = belief.candidates, np.random.default_rng(seed)
    if candidates.sample is not None:
        candidates = _with_fronts(belief, draw)
    kept = np.unique(np.concatenate(_fronts(belief, candidates)))[:MOST]
    total = len(candidates.mean)
    pool = np.arange(total) if total <= POOL else np.unique(draw.integers(total, size=POOL))
    others = np.setdiff1d(pool, kept, assume_unique=True)
    counts = cost.count(candidates.space.plan, candidates.points(others))
    sizes = np.log(counts.params.astype(np.float64))
    drawn = others[_spread(sizes, MOST - len(kept), draw)]
    return candidates, np.sort(np.concatenate([kept, drawn])).astype(np.int64)


def _with_fronts(belief: Belief, draw: np.random.Generator) -> Candidates:
    """Add to a sample the predicted front for each cost, which local search climbs to."""
    candidates = belief.candidates
    for axis in _costs(belief, belief.history.space.ends):

        def log_cost(points: cost.Points, axis: str = axis) -> Tensor:
            return torch.from_numpy(np.log(_costs(belief, points)[axis].astype(np.float64)))

        candidates = lattice_sample.with_front(candidates, log_cost, draw)
    return candidates


def _fronts(belief: Belief, candidates: Candidates) -> list[Numbers]:
    """Find the predicted front of the points for each cost."""
    mean, parts = candidates.mean.numpy(), dict[str, list[Numbers]]()
    for part, points in candidates.chunks():  # a front of the whole is one of its parts' fronts
        for axis, costs in _costs(belief, points).items():
            parts.setdefault(axis, []).append(part.start + pareto.front(costs, mean[part]))
    fronts = []
    for axis, some in parts.items():
        numbers = np.concatenate(some)
        costs = _costs(belief, candidates.points(numbers))[axis]
        fronts.append(numbers[pareto.front(costs, mean[numbers])])
    return fronts


def _costs(belief: Belief, points: cost.Points) -> dict[str, NDArray[Any]]:
    """Price `m` points: their exact costs, and latency in ms where a device's is known."""
    counts = cost.count(belief.history.space.plan, points)
    times = {} if belief.latencies is None else {"latency": belief.latencies.ms(points)}
    return {axis: getattr(counts, axis) for axis in AXES} | times


def _spread(sizes: NDArray[np.float64], count: int, draw: np.random.Generator) -> Numbers:
    """Draw up to `count` points, as many from each bin of sizes as there are."""
    if len(sizes) <= count:
        return np.arange(len(sizes))
    edges = np.linspace(sizes.min(), sizes.max(), BINS + 1)[1:-1]
    bins = np.digitize(sizes, edges)
    # A random key within its bin, divided by the bin's size, ranks points of all bins alike.
    keys = draw.random(len(sizes)) * np.bincount(bins, minlength=BINS)[bins]
    return np.argpartition(keys, count - 1)[:count]
