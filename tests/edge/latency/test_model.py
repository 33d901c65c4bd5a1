"""Two latency models: parts that add up, and what corrects them; the better one is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from ssr_exp.edge.latency import design, model
from ssr_exp.rescaling import cost, lattice
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Architecture
from tests.rescaling import probes

Floats = NDArray[np.float64]
Law = Callable[[Floats, Floats], Floats]
"""Makes a latency in ms of blocks and channels, both `n x S`."""


@cache
def whole() -> Lattice:
    return lattice.from_plan(probes.plan_of("resnet20"))


@cache
def all_points() -> Points:
    return whole().points(range(whole().size))


def added(blocks: Floats, channels: Floats) -> Floats:
    """A constant, and blocks with an overhead, a pass over memory and a product each."""
    return 1 + (blocks * (0.2 + 0.01 * channels + 0.001 * channels**2)).sum(axis=1)


def constant(blocks: Floats, channels: Floats) -> Floats:
    return np.full(len(blocks), 0.5)


def bent(blocks: Floats, channels: Floats) -> Floats:
    """Parts that do not add up: what caches make of depth and width."""
    shares = np.log(channels / channels.max(axis=0)), np.log(blocks / blocks.max(axis=0))
    waves = np.sin(2 * shares[0][:, 1]) + np.sin(2 * shares[0][:, 2] + shares[1][:, 0])
    return added(blocks, channels) * np.exp(0.3 * waves)


def squared(blocks: Floats, channels: Floats) -> Floats:
    return added(blocks, channels) ** 2


def noisy(blocks: Floats, channels: Floats) -> Floats:
    draw = np.random.default_rng(0)
    return added(blocks, channels) * np.exp(draw.normal(0, 1.5, len(blocks)))


def times(law: Law, points: Points) -> Floats:
    """Count blocks and channels of `n x S` points, independently of the model."""
    plan = whole().plan
    architectures = cost.decode(plan, points)
    blocks = np.array([a.blocks for a in architectures], dtype=float)
    channels = np.array([plan.channels(a) for a in architectures], dtype=float)
    return law(blocks, channels)


def measured(law: Law, count: int = 48) -> dict[Architecture, float]:
    plan, chosen = whole().plan, design.choose(whole(), count)
    own = times(law, cost.encode(plan, chosen))
    return dict(zip(chosen, own.tolist(), strict=True))


def sample(law: Law, count: int = 48) -> tuple[Points, Floats]:
    known = measured(law, count)
    return cost.encode(whole().plan, list(known)), np.array([*known.values()])


def unseen(law: Law) -> dict[Architecture, float]:
    drawn = whole().sample(200, seed=7)
    own = times(law, cost.encode(whole().plan, drawn))
    return dict(zip(drawn, own.tolist(), strict=True))


@pytest.mark.parametrize("law", [added, constant])
def test_parts_that_add_up_are_predicted_within_a_percent(law: Law) -> None:
    fitted = model.fit(whole().plan, measured(law))
    errors = np.abs(fitted.predict(all_points()) / times(law, all_points()) - 1)
    assert errors.max() < 0.01
    assert fitted.errors["blocks"] < 0.01 and fitted.networks == 48


def test_few_networks_are_enough_for_a_rough_model() -> None:
    fitted = model.fit(whole().plan, measured(added, design.FEWEST))
    assert np.median(model.relative_errors(fitted, whole().plan, unseen(added))) < 0.1


def test_what_does_not_add_up_is_corrected_and_predicted_better() -> None:
    plan, known = whole().plan, measured(bent)
    fitted = model.fit(plan, known)
    assert fitted.kind == "corrected"
    assert fitted.errors["corrected"] < 0.5 * fitted.errors["blocks"]
    blocks = model.KINDS["blocks"](plan, *sample(bent))
    plain = model.LatencyModel("blocks", blocks, {}, 48)
    mine, theirs = (model.relative_errors(m, plan, unseen(bent)) for m in (fitted, plain))
    assert np.median(mine) < 0.5 * np.median(theirs)


@pytest.mark.parametrize("law", [added, bent, noisy])
def test_the_better_kind_in_cross_validation_is_kept(law: Law) -> None:
    fitted = model.fit(whole().plan, measured(law, 24))
    assert set(fitted.errors) == set(model.KINDS)
    assert fitted.errors[fitted.kind] == min(fitted.errors.values())


def test_cross_validation_promises_no_more_than_unseen_networks_show() -> None:
    fitted = model.fit(whole().plan, measured(bent))
    shown = np.median(model.relative_errors(fitted, whole().plan, unseen(bent)))
    assert shown / 2 < fitted.errors[fitted.kind] < 5 * shown


def test_small_networks_count_as_much_as_large_ones() -> None:
    plan, (points, own) = whole().plan, sample(squared)
    found = model.KINDS["blocks"](plan, points, own)(points)
    errors = np.abs(found / own - 1)[np.argsort(own)]
    assert np.mean(errors[:16]) < 1.5 * np.mean(errors[-16:])


@pytest.mark.parametrize("kind", model.KINDS)
@pytest.mark.parametrize("count", [8, 24])
def test_no_network_is_predicted_to_take_no_time(kind: str, count: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = model.KINDS[kind]
        predict = fit(whole().plan, *sample(noisy, count))
    found = predict(all_points())
    assert np.isfinite(found).all() and (found > 0).all()


@pytest.mark.parametrize("kind", model.KINDS)
def test_neither_the_order_nor_the_unit_of_latencies_changes_a_prediction(kind: str) -> None:
    plan, (points, own), fit = whole().plan, sample(bent), model.KINDS[kind]
    order = np.random.default_rng(0).permutation(len(own))
    expected = fit(plan, points, own)(all_points())
    others = {1: fit(plan, points[order], own[order]), 1000: fit(plan, points, 1000 * own)}
    for unit, other in others.items():
        np.testing.assert_allclose(other(all_points()), unit * expected, rtol=1e-3)


def test_chunks_do_not_change_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = model.fit(whole().plan, measured(bent))
    expected = fitted.predict(all_points())
    monkeypatch.setattr(model, "CHUNK", 1000)
    np.testing.assert_allclose(fitted.predict(all_points()), expected, rtol=1e-9)


def test_errors_are_relative_and_none_where_all_is_as_predicted() -> None:
    plan, known = whole().plan, measured(added)
    fitted = model.fit(plan, known)
    predicted = dict(zip(known, fitted.predict(cost.encode(plan, list(known))), strict=True))
    assert model.relative_errors(fitted, plan, predicted).max() == 0
    twice = {a: 2 * ms for a, ms in predicted.items()}
    np.testing.assert_allclose(model.relative_errors(fitted, plan, twice), 0.5)
