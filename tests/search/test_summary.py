"""What a search believes, as data: everything in it is recomputed here by another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssr_exp.config import Outcome, SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.search import belief as views
from ssr_exp.search import diagnostics, history, rounds, summary
from ssr_exp.search.belief import View
from ssr_exp.search.history import History
from ssr_exp.search.proposals import propose
from ssr_exp.search.rounds import Planned, Round
from ssr_exp.search.space import Space
from tests.search.conftest import Tell

First = tuple[Architecture, ...]
Summarise = Callable[..., Predictions]
ROUNDED = 0.5 * 10**-summary.DIGITS + 1e-9


def seen(known: History, conf: SearchConfig | None = None) -> View:
    return views.of(known, conf or SearchConfig())


def summarised(view: View, **others: object) -> Predictions:
    conf = SearchConfig()
    return summary.of(
        view, conf, diagnostics.check(view), diagnostics.sensitivities(view), **others
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted() -> list[View]:
    return []


@pytest.fixture
def view(known: History, fitted: list[View]) -> View:
    """Fit the surrogate once for all tests that only look at it."""
    if not fitted:
        fitted.append(seen(known))
    return fitted[0]


class Phone:
    """A device where a network takes as long as it has parameters, and its first width more."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __str__(self) -> str:
        return "a phone"

    def ms(self, points: Points) -> NDArray[np.float64]:
        counts: NDArray[np.int64] = cost.count(self.space.plan, points).params
        return 1 + counts / 1e5 + points[:, 0] / 7

    def known(self) -> dict[Architecture, float]:
        return {}

    def measure(self, architectures: object) -> bool:
        return False


# The sample of the lattice


def test_a_small_lattice_is_listed_whole(view: View, small: Space) -> None:
    sample = summarised(view).lattice
    everything = small.architectures(range(len(small.lattice)))
    assert sample.size == len(small.lattice) == len(everything)
    assert sample.network == tuple(small.code(a) for a in everything)


def test_costs_are_the_exact_ones(view: View, small: Space) -> None:
    sample = summarised(view).lattice
    for n in range(0, len(sample.network), 17):
        own = cost.of(small.plan, small.parse(sample.network[n]))
        assert (sample.params[n], sample.macs[n], sample.gemms[n]) == own


def test_what_is_listed_is_of_the_lattice_and_at_most_so_many(
    view: View, small: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = {small.code(a) for a in small.architectures(range(len(small.lattice)))}
    for most in (80, 200, 511, 512, 513):
        monkeypatch.setattr(summary, "MOST", most)
        sample = summarised(view).lattice
        assert len(set(sample.network)) == len(sample.network) == min(most, 512)
        assert set(sample.network) <= everything
        assert sample.size == 512


def test_a_front_longer_than_the_sample_is_cut(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MOST", 5)
    assert len(summarised(view).lattice.network) == 5


def front(costs: list[float], means: list[float]) -> set[tuple[float, float]]:
    """Keep what no other point matches at less, or beats at no more: pair by pair."""
    pairs = list(zip(costs, means, strict=True))
    return {
        (c, m)
        for c, m in pairs
        if not any((d < c and n >= m) or (d == c and n > m) for d, n in pairs)
    }


some = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(some)
def test_the_front_is_what_comparing_all_pairs_keeps(points: list[tuple[int, int]]) -> None:
    costs, means = ([float(point[n]) for point in points] for n in (0, 1))
    found = summary._front(np.array(costs), np.array(means))
    kept = [(costs[n], means[n]) for n in found]
    assert len(kept) == len(set(kept))  # of equal points one is enough
    assert set(kept) == front(costs, means)


@pytest.mark.parametrize("timed", [False, True], ids=["costs", "latency"])
def test_a_sample_holds_the_predicted_front_of_each_cost(
    known: History, small: Space, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    latencies = Phone(small) if timed else None
    view = views.of(known, SearchConfig(), latencies=latencies)
    monkeypatch.setattr(summary, "MOST", 120)
    sample = summarised(view).lattice
    listed = set(sample.network)
    architectures = small.architectures(range(len(small.lattice)))
    means = view.candidates.mean.tolist()
    prices = [cost.of(small.plan, a) for a in architectures]
    columns = {axis: [float(getattr(p, axis)) for p in prices] for axis in predictions.AXES}
    if timed:
        columns["latency"] = Phone(small).ms(cost.encode(small.plan, architectures)).tolist()
    for axis, costs in columns.items():
        best = front(costs, means)
        points = zip(architectures, costs, means, strict=True)
        held = {(c, m) for a, c, m in points if small.code(a) in listed}
        assert len(best) > 1, axis
        assert best <= held, axis


def test_a_sample_is_spread_over_all_sizes() -> None:
    """Most points of a lattice are of middle size; a sample has as many of each."""
    draw = np.random.default_rng(0)
    sizes = draw.normal(size=40_000).clip(-4, 4)
    chosen = summary._spread(sizes, 2000, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == len(chosen) == 2000
    edges = np.linspace(sizes.min(), sizes.max(), summary.BINS + 1)
    there, taken = (np.histogram(values, edges)[0] for values in (sizes, sizes[chosen]))
    even = 2000 / summary.BINS
    assert (taken[there > 100] > even / 2).all()
    assert (taken < 2.5 * even).all()
    assert (taken[there <= 20] == there[there <= 20]).all()  # few are taken all


def test_nothing_is_drawn_where_nothing_fits_and_all_where_all_do() -> None:
    sizes = np.arange(10.0)
    assert len(summary._spread(sizes, 0, np.random.default_rng(0))) == 0
    for count in (10, 11):
        drawn = summary._spread(sizes, count, np.random.default_rng(0))
        assert drawn.tolist() == list(range(10))
    equal = summary._spread(np.ones(10), 4, np.random.default_rng(0))
    assert len(set(equal.tolist())) == 4


def test_the_same_seed_gives_the_same_sample_and_another_another(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST", 150)
    one, same, other = (summarised(view, seed=seed).lattice for seed in (1, 1, 2))
    assert one == same
    assert one != other and len(one.network) == len(other.network)


def test_intervals_are_those_of_a_proposal(view: View, small: Space) -> None:
    """A pick's formula, written again: the mean, and 80 % of the trainings around it."""
    sample = summarised(view).lattice
    at = {network: n for n, network in enumerate(sample.network)}
    picks = propose.propose(view, SearchConfig(), count=3, seed=0)
    assert picks
    for pick in picks:
        n = at[small.code(pick.architecture)]
        told = (sample.low[n], sample.mean[n], sample.high[n])
        assert told == pytest.approx((pick.low, pick.mean, pick.high), abs=ROUNDED)
    architectures = [small.parse(network) for network in sample.network[::31]]
    mean, sigma = view.surrogate.predict(view.history.features(architectures))
    spread = 1.2816 * (sigma**2 + view.surrogate.noise**2).sqrt()
    low, middle, high = (view.accuracy(v) for v in (mean - spread, mean, mean + spread))
    assert sample.low[::31] == pytest.approx(low.tolist(), abs=ROUNDED)
    assert sample.mean[::31] == pytest.approx(middle.tolist(), abs=ROUNDED)
    assert sample.high[::31] == pytest.approx(high.tolist(), abs=ROUNDED)


@pytest.mark.parametrize("outcome", Outcome)
def test_intervals_are_in_order_whichever_way_is_better(known: History, outcome: Outcome) -> None:
    conf = SearchConfig()
    conf.surrogate.outcome = outcome
    found = summarised(seen(known, conf))
    assert found.outcome == outcome.value
    sample = found.lattice
    triples = list(zip(sample.low, sample.mean, sample.high, strict=True))
    assert all(low < mean < high for low, mean, high in triples)
    assert all(one.low < one.predicted < one.high for one in found.left_out)


def test_without_a_device_there_are_no_latencies_and_with_one_there_are(
    known: History, small: Space, view: View
) -> None:
    assert summarised(view).latency is None and summarised(view).lattice.latency_ms is None
    found = summarised(views.of(known, SearchConfig(), latencies=Phone(small)))
    assert found.latency == "a phone"
    points = cost.encode(small.plan, [small.parse(code) for code in found.lattice.network])
    assert found.lattice.latency_ms == pytest.approx(Phone(small).ms(points).tolist(), abs=1e-6)


# How far it is to be believed


def test_left_out_trainings_are_those_of_the_check(view: View) -> None:
    found = summarised(view).left_out
    mine = diagnostics.left_out(view)
    assert [(one.network, one.seed) for one in found] == [
        (record.network, record.seed) for record in view.history.records
    ]
    for n, (one, record) in enumerate(zip(found, view.history.records, strict=True)):
        assert one.measured == pytest.approx(record.val_acc, abs=ROUNDED)
        assert one.predicted == pytest.approx(float(view.accuracy(mine.mean[n])), abs=ROUNDED)
        assert one.z == pytest.approx(float((mine.Y - mine.mean)[n] / mine.sigma[n]), abs=ROUNDED)
        ends = (mine.mean[n] - 1.2816 * mine.sigma[n], mine.mean[n] + 1.2816 * mine.sigma[n])
        low, high = (float(view.accuracy(end)) for end in ends)
        assert (one.low, one.high) == pytest.approx((low, high), abs=ROUNDED)
        assert (one.low <= one.measured <= one.high) == (abs(one.z) <= 1.2816)


def test_left_out_means_that_the_others_are_conditioned_on(view: View) -> None:
    """Leave one out by hand: condition the same hyperparameters on all other trainings."""
    found, own = summarised(view).left_out, view.surrogate
    for n in (0, 9, 21):
        kept = torch.arange(len(own.X)) != n
        rest = type(own)(
            own.model, own.X[kept], own.y[kept], own.centre, own.spread, _factor(own, kept)
        )
        mean, sigma = rest.predict(own.X[n : n + 1])
        assert found[n].predicted == pytest.approx(float(view.accuracy(mean)), abs=1e-3)
        wide = math.hypot(float(sigma), own.noise)
        measured = float(own.y[n] * own.spread + own.centre)
        assert found[n].z == pytest.approx((measured - float(mean)) / wide, abs=1e-3)


def _factor(own: object, kept: torch.Tensor) -> torch.Tensor:
    whole = own.factor @ own.factor.T  # type: ignore[attr-defined]
    return torch.linalg.cholesky(whole[kept][:, kept])


def test_the_distances_of_what_was_left_out_are_standard_ones(small: Space, tell: Tell) -> None:
    """So a page can draw the calibration at any level from them."""
    drawn = [small.plan.baseline, *small.architectures(range(3, 511, 5))]
    view = seen(history.from_records(small, [tell(a, noise=0.5) for a in drawn]))
    found = summarised(view)
    z = np.array([one.z for one in found.left_out])
    assert abs(z.mean()) < 0.3
    assert z.std() == pytest.approx(1, abs=0.25)
    (look,) = found.looks
    limits = (0.6745, 1.2816, 1.96)
    for level, limit, share in zip(found.levels, limits, look.coverage, strict=True):
        assert float((abs(z) <= limit).mean()) == pytest.approx(share, abs=0.011), level


def test_a_look_says_what_the_check_says(view: View) -> None:
    check = diagnostics.check(view)
    (look,) = summarised(view).looks
    assert (look.round, look.runs, look.rmse, look.spread) == (0, 22, check.rmse, check.spread)
    assert (look.spearman, look.coverage, look.noise) == (
        check.spearman,
        check.coverage,
        check.noise,
    )
    assert look.warnings == ()


def test_the_hypervolume_grows_with_the_front_alone(small: Space, tell: Tell, first: First) -> None:
    def measured(*more: Record) -> float:
        known = [tell(a, noise=0) for a in first]
        (look,) = summarised(seen(history.from_records(small, [*known, *more]))).looks
        return look.hypervolume

    (middle,) = small.architectures([300])
    before = measured()
    poor, good = (tell(middle, val_acc=accuracy) for accuracy in (75.0, 90.0))
    (tiny,) = small.architectures([0])
    assert before > 0
    assert measured(poor) == pytest.approx(before)  # whatever it does to the surrogate
    assert measured(tell(tiny, val_acc=10.0, seed=9)) <= before
    assert measured(good) > before


def test_the_hypervolume_is_the_area_over_ten_points_below_the_baseline(
    small: Space, tell: Tell
) -> None:
    low, *others, full = small.architectures([0, 100, 200, 511])
    known = [tell(full, val_acc=90.0), tell(low, val_acc=85.0)]
    known += [tell(a, val_acc=70.0) for a in others]
    (look,) = summarised(seen(history.from_records(small, known))).looks
    costs = [cost.of(small.plan, a).params for a in (low, full)]
    assert look.hypervolume == pytest.approx(5.0 * math.log(costs[1] / costs[0]))


def test_what_speaks_against_believing_is_kept(small: Space, tell: Tell, first: First) -> None:
    flat = history.from_records(small, [tell(a, val_acc=90.0, val_loss=0.3) for a in first])
    (look,) = summarised(seen(flat)).looks
    assert look.spearman is None
    assert "flat" in look.warnings[0]


def test_sensitivities_are_named_by_segment_and_kind(view: View, small: Space) -> None:
    told = diagnostics.sensitivities(view)
    found = summarised(view).sensitivities
    assert [f"{one.kind} {one.segment}" for one in found] == [one.name for one in told]
    assert {one.segment for one in found} == {s.name for s in small.plan.segments}
    for one, own in zip(found, told, strict=True):
        assert one.effect == pytest.approx(own.effect, abs=ROUNDED)


# Where it comes from


def test_without_a_search_there_are_no_rounds(view: View) -> None:
    found = summarised(view)
    assert (found.search, found.rounds, found.looks[0].round) == ("", (), 0)
    assert found.study == view.history.records[0].study
    assert found.levels == diagnostics.LEVELS
    assert datetime.fromisoformat(found.created_at).utcoffset() is not None


def test_a_searchs_plans_and_limit_are_told(view: View, tmp_path: Path) -> None:
    conf = SearchConfig()
    conf.objective.max_drop = 2.5
    book = rounds.notebook(Store(tmp_path), "study", conf)
    book.write(Round(number=0, seed=0, planned=(Planned(network="d1_w4"),)))
    two = Planned(network="d1_w8", low=1.0, mean=2.0, high=3.0, promise=0.5)
    book.write(Round(number=2, seed=0, planned=(two,), attempts=1, launched=1))
    found = summary.of(
        view, conf, diagnostics.check(view), diagnostics.sensitivities(view), book=book
    )
    assert (found.search, found.max_drop) == (book.folder.name, 2.5)
    assert found.looks[0].round == 2
    assert [batch.number for batch in found.rounds] == [0, 2]
    assert found.rounds[1].planned[0].model_dump() == two.model_dump(exclude={"attempts"})


def test_what_is_summarised_survives_its_file(view: View, tmp_path: Path) -> None:
    store, found = Store(tmp_path), summarised(view)
    predictions.write(store, store.study_folder(found.study) / predictions.FOLDER, found)
    assert predictions.latest(store, found.study) == found
