"""A latency model: from some tens of measured networks to all of a lattice at once.

Two models are fitted and compared by cross-validation, and the better one is kept:

`blocks` adds up what the parts take, as a table of block latencies does: for each segment a time
for each block, for each of its channels and for each of their products, where neighbours meet a
product of their channels, and a constant. All times are at least 0 (non-negative least squares,
Lawson & Hanson 1974, of relative errors), so it stays sensible beyond what was measured.

`corrected` multiplies that by what a Gaussian process learns of the logarithm of its errors from
depth and width: caches, vector lengths and threads do not add up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture, Plan

Floats = NDArray[np.float64]
Predict = Callable[[Points], Floats]
"""Predicts the latency of `n x S` points in ms, `n`."""

FOLDS = 8
CHUNK = 1 << 18  # points whose distances to all measured ones are held at once


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """A fitted latency model."""

    kind: str  # `blocks` or `corrected`
    predict: Predict  # the latency of `n x S` points in ms, `n`
    # of both kinds, in cross-validation: the median of |predicted / measured - 1|
    errors: Mapping[str, float]
    networks: int  # how many it was fitted to


def fit(plan: Plan, measured: Mapping[Architecture, float]) -> LatencyModel:
    """Fit both models to latencies in ms; the one that predicts better what is new is kept."""
    points = cost.encode(plan, list(measured))
    times = np.array(list(measured.values()))
    errors = {kind: float(np.median(_cross_validated(plan, points, times, kind))) for kind in KINDS}
    kind = min(errors, key=lambda kind: errors[kind])
    return LatencyModel(kind, KINDS[kind](plan, points, times), errors, len(times))


def relative_errors(
    model: LatencyModel, plan: Plan, measured: Mapping[Architecture, float]
) -> Floats:
    """Compare predictions with measurements: |predicted / measured - 1|, one for each network."""
    times = np.array(list(measured.values()))
    return np.asarray(np.abs(model.predict(cost.encode(plan, list(measured))) / times - 1))


def _cross_validated(plan: Plan, points: Points, times: Floats, kind: str) -> Floats:
    """Predict each network by a model of the other folds; returns relative errors."""
    if len(times) < 2:
        return np.full(1, np.inf)
    folds = np.arange(len(times)) % min(FOLDS, len(times))
    errors = np.empty(len(times))
    for fold in np.unique(folds):
        out = folds == fold
        predict = KINDS[kind](plan, points[~out], times[~out])
        errors[out] = np.abs(predict(points[out]) / times[out] - 1)
    return errors


def _blocks(plan: Plan, points: Points, times: Floats) -> Predict:
    """Fit times of parts that add up."""
    from scipy.optimize import nnls

    rows = _parts(plan, points)
    scale = np.maximum(rows.max(axis=0), 1e-12)
    shares, _ = nnls(rows / scale / times[:, None], np.ones(len(times)))
    weights = shares / scale

    def predict(points: Points) -> Floats:
        return np.asarray(np.maximum(_parts(plan, points) @ weights, 1e-9))

    return predict


def _corrected(plan: Plan, points: Points, times: Floats) -> Predict:
    """Fit parts that add up, then a Gaussian process to the logarithm of what they miss."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    added = _blocks(plan, points, times)
    X, Y = _unit(plan, points), np.log(times / added(points))
    spread = float(max(Y.std(), 1e-3))
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(
        np.ones(X.shape[1]), (0.1, 100.0), nu=2.5
    ) + WhiteKernel(0.1, (1e-4, 10.0))
    process = GaussianProcessRegressor(kernel, random_state=0)
    # A length scale at its bound says that the direction is flat.
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        process.fit(X, Y / spread)

    def predict(points: Points) -> Floats:
        parts = (points[at : at + CHUNK] for at in range(0, len(points), CHUNK))
        missed = [process.predict(_unit(plan, part)) for part in parts]
        return np.asarray(added(points) * np.exp(np.concatenate(missed) * spread))

    return predict


KINDS = {"blocks": _blocks, "corrected": _corrected}


def _sizes(plan: Plan, points: Points) -> tuple[Floats, Floats]:
    """List the blocks and the channels that each segment keeps, both `n x S`."""
    blocks, channels = [], []
    for s, (segment, widths) in enumerate(zip(plan.segments, plan.widths, strict=True)):
        position, depth = np.divmod(points[:, s], len(segment.blocks))
        sizes = widths.sizes.sum(axis=1) if widths.groups else widths.channels
        blocks.append(depth + 1.0)
        channels.append(sizes[position].astype(np.float64))
    return np.stack(blocks, axis=1), np.stack(channels, axis=1)


def _parts(plan: Plan, points: Points) -> Floats:
    """List what the parts of a network grow with, `n x (5 S)`."""
    blocks, channels = _sizes(plan, points)
    meet = channels[:, 1:] * channels[:, :-1]
    constant = np.ones((len(points), 1))
    return np.concatenate(
        [constant, blocks, blocks * channels, blocks * channels**2, channels, meet], axis=1
    )


def _unit(plan: Plan, points: Points) -> Floats:
    """Place points in the unit cube by the logarithms of their blocks and channels."""
    blocks, channels = _sizes(plan, points)
    full_blocks, full_channels = _sizes(plan, cost.encode(plan, [plan.baseline]))
    least_blocks, least_channels = _sizes(plan, cost.encode(plan, [plan.smallest]))
    logs = []
    for own, full, least in (
        (blocks, full_blocks, least_blocks),
        (channels, full_channels, least_channels),
    ):
        range_ = np.maximum(np.log(full / least), 1e-12)
        logs.append(np.log(own / least) / range_)
    return np.concatenate(logs, axis=1)
