"""What a search believes, as data: everything in it is recomputed here by another way."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssr_exp.config import CostAxis, Outcome, SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import Evaluation, Look, Predictions
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import ACCURACY, VAL_LOSS
from ssr_exp.runs.store import Store
from ssr_exp.search import diagnostics, history, rounds, summary
from ssr_exp.search.belief import Belief
from ssr_exp.search.costs import UNNAMED
from ssr_exp.search.history import History
from ssr_exp.search.proposals import propose
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.rounds import Planned, Round
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell, asked

ROUNDED = 0.5 * 10**-predictions.DIGITS + 1e-9


def summarised(belief: Belief, conf: SearchConfig | None = None, **others: Any) -> Predictions:
    return summary.summarise(belief, conf or SearchConfig(), **others)


def looked(trained: History) -> Look:
    return diagnostics.look(Belief.from_history(trained, SearchConfig()))


@pytest.fixture(scope="module")
def told(believed: Belief) -> Predictions:
    """What is said of what is believed after the first networks, to read."""
    return summarised(believed)


class Phone:
    """A device where a network takes as long as it has parameters, and its first width more."""

    batch = 1

    def __init__(self, space: Space) -> None:
        self.space = space

    def __str__(self) -> str:
        return "a phone"

    def ms(self, points: Points) -> NDArray[np.float64]:
        counts: NDArray[np.int64] = cost.count(self.space.plan, points).params
        return 1 + counts / 1e5 + points[:, 0] / 7

    def measured(self) -> dict[Architecture, float]:
        return {}

    def measure(self, architectures: object) -> bool:
        return False


# The sample of the lattice


def test_a_small_lattice_is_listed_whole(told: Predictions, small: Space) -> None:
    sample = told.lattice
    everything = small.architectures(range(len(small.lattice)))
    assert sample.size == len(small.lattice) == len(everything)
    assert sample.network == tuple(small.code(a) for a in everything)


def test_costs_are_the_exact_ones(told: Predictions, small: Space) -> None:
    sample = told.lattice
    for n in range(0, len(sample.network), 17):
        own = cost.count_one(small.plan, small.parse(sample.network[n]))
        assert (sample.params[n], sample.macs[n], sample.gemms[n]) == own


def test_what_is_listed_is_of_the_lattice_and_at_most_so_many(
    believed: Belief, small: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = {small.code(a) for a in small.architectures(range(len(small.lattice)))}
    for most in (5, 80, 511, 513):  # 5: a front longer than that is cut
        monkeypatch.setattr(summary, "MOST", most)
        sample = summarised(believed).lattice
        assert len(set(sample.network)) == len(sample.network) == min(most, 512)
        assert set(sample.network) <= everything
        assert sample.size == 512


def front(costs: list[float], means: list[float]) -> set[tuple[float, float]]:
    """Keep what no other point matches at less, or beats at no more: pair by pair."""
    pairs = list(zip(costs, means, strict=True))
    return {
        (c, m)
        for c, m in pairs
        if not any((d < c and n >= m) or (d == c and n > m) for d, n in pairs)
    }


@pytest.mark.usefixtures("unfitted")
@pytest.mark.parametrize("timed", [False, True], ids=["costs", "latency"])
def test_a_sample_holds_the_predicted_front_of_each_cost(
    known: History, small: Space, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    latencies = Phone(small) if timed else None
    believed = Belief.from_history(known, SearchConfig(), latencies=latencies)
    monkeypatch.setattr(summary, "MOST", 120)
    sample = summarised(believed).lattice
    listed = set(sample.network)
    architectures = small.architectures(range(len(small.lattice)))
    means = believed.candidates.mean.tolist()
    prices = [cost.count_one(small.plan, a) for a in architectures]
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
    believed: Belief, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST", 150)
    one, same, other = (summarised(believed, seed=seed).lattice for seed in (1, 1, 2))
    assert one == same
    assert one != other and len(one.network) == len(other.network)


def test_intervals_are_those_of_a_proposal(
    believed: Belief, told: Predictions, small: Space
) -> None:
    """A pick's formula, written again: the mean, and 80 % of the trainings around it."""
    sample = told.lattice
    at = {network: n for n, network in enumerate(sample.network)}
    picks = propose.propose(believed, SearchConfig(), count=3, seed=0)
    assert picks
    for pick in picks:
        n = at[pick.network]
        interval = (sample.low[n], sample.mean[n], sample.high[n])
        assert interval == pytest.approx((pick.low, pick.mean, pick.high), abs=ROUNDED)
    architectures = [small.parse(network) for network in sample.network[::31]]
    mean, sigma = believed.surrogate.predict(believed.history.features(architectures))
    spread = 1.2816 * (sigma**2 + believed.surrogate.noise**2).sqrt()
    low, middle, high = (believed.scale.back(v) for v in (mean - spread, mean, mean + spread))
    assert sample.low[::31] == pytest.approx(low.tolist(), abs=ROUNDED)
    assert sample.mean[::31] == pytest.approx(middle.tolist(), abs=ROUNDED)
    assert sample.high[::31] == pytest.approx(high.tolist(), abs=ROUNDED)


def test_a_network_is_believed_by_one_figure_whether_it_is_looked_up_as_trained_or_in_the_lattice(
    known: History, small: Space
) -> None:
    """With the noise of val and test: what an untrained one is expected to lose counts it, too."""
    images = ValSet({"cat": 300}, tested=200)
    told, bare = (
        summarised(Belief.from_history(known, SearchConfig(), val=val)) for val in (images, None)
    )
    sample = told.lattice
    assert sample.drop is not None and sample.drop_sigma is not None
    rows = zip(sample.drop, sample.drop_sigma, strict=True)
    at = dict(zip(sample.network, rows, strict=True))
    baseline = small.code(small.plan.baseline)
    promised = [one for one in told.promises if one.network != baseline]
    assert len(promised) == len(known.networks) - 1
    for one in promised:
        assert at[one.network] == pytest.approx((one.drop, one.sigma), abs=2 * ROUNDED)
    assert bare.lattice.drop_sigma is not None
    pairs = zip(sample.drop_sigma, bare.lattice.drop_sigma, strict=True)
    assert all(noisy > 1.5 * quiet for noisy, quiet in pairs)
    assert told.evaluation == Evaluation(val=300, test=200, seeds=SearchConfig().finalists.seeds)


@pytest.mark.usefixtures("unfitted")
@pytest.mark.parametrize("outcome", Outcome)
def test_intervals_are_in_order_whichever_way_is_better(known: History, outcome: Outcome) -> None:
    found = summarised(Belief.from_history(known, asked(surrogate__outcome=outcome)))
    assert found.outcome == (ACCURACY if outcome is Outcome.score else VAL_LOSS)
    assert (found.lattice.drop is None) is (outcome is not Outcome.score)
    sample = found.lattice
    triples = list(zip(sample.low, sample.mean, sample.high, strict=True))
    assert all(low < mean < high for low, mean, high in triples)
    assert all(one.low < one.predicted < one.high for one in found.left_out)


@pytest.mark.usefixtures("unfitted")
def test_without_a_device_there_are_no_latencies_and_with_one_there_are(
    known: History, small: Space, told: Predictions
) -> None:
    assert told.latency is None and told.lattice.latency_ms is None
    found = summarised(Belief.from_history(known, SearchConfig(), latencies=Phone(small)))
    assert found.latency == "a phone"
    points = cost.encode(small.plan, [small.parse(code) for code in found.lattice.network])
    assert found.lattice.latency_ms == pytest.approx(Phone(small).ms(points).tolist(), abs=1e-6)


@pytest.mark.usefixtures("unfitted")
def test_it_is_said_which_latencies_were_measured(known: History, small: Space) -> None:
    records = [one.model_copy(update={"latency_ms": 1.0}) for one in known.records[:5]]
    some = replace(known, records=(*records, *known.records[5:]))
    conf = SearchConfig()
    conf.objective.cost = CostAxis.latency_ms
    found = summarised(Belief.from_history(some, conf))
    assert found.latency == UNNAMED
    assert set(found.timed or ()) == {one.network for one in records} < found.latencies.keys()


# How far it is to be believed


def test_left_out_trainings_are_told_with_their_intervals(
    believed: Belief, told: Predictions
) -> None:
    records, columns = believed.history.records, believed.surrogate.leave_one_out()
    for one, record, Y, mean, sigma in zip(told.left_out, records, *columns, strict=True):
        assert (one.network, one.seed) == (record.network, record.seed)
        assert one.measured == pytest.approx(record.score, abs=ROUNDED)
        ends = (mean, mean - 1.2816 * sigma, mean + 1.2816 * sigma)
        expected = [float(believed.scale.back(end)) for end in ends]
        assert (one.predicted, one.low, one.high) == pytest.approx(expected, abs=ROUNDED)
        assert one.z == pytest.approx(float((Y - mean) / sigma), abs=ROUNDED)
        assert (one.low <= one.measured <= one.high) == (abs(one.z) <= 1.2816)


@pytest.mark.usefixtures("unfitted")
def test_the_hypervolume_grows_with_the_front_alone(small: Space, tell: Tell, first: First) -> None:
    def measured(*more: Record) -> float:
        records = [*(tell(a, noise=0) for a in first), *more]
        return looked(history.from_records(small, records)).hypervolume

    (middle,) = small.architectures([300])
    before = measured()
    poor, good = (tell(middle, val_acc=accuracy) for accuracy in (75.0, 90.0))
    (tiny,) = small.architectures([0])
    assert before > 0
    assert measured(poor) == pytest.approx(before)  # whatever it does to the surrogate
    assert measured(tell(tiny, val_acc=10.0, seed=9)) <= before
    assert measured(good) > before


@pytest.mark.usefixtures("unfitted")
def test_the_hypervolume_is_the_area_over_ten_points_below_the_baseline(
    small: Space, tell: Tell
) -> None:
    low, *others, full = small.architectures([0, 100, 200, 511])
    records = [tell(full, val_acc=90.0), tell(low, val_acc=85.0)]
    records += [tell(a, val_acc=70.0) for a in others]
    look = looked(history.from_records(small, records))
    costs = [cost.count_one(small.plan, a).params for a in (low, full)]
    assert look.hypervolume == pytest.approx(5.0 * math.log(costs[1] / costs[0]))


# Where it comes from


def test_without_a_search_there_are_no_rounds(believed: Belief, told: Predictions) -> None:
    assert (told.search, told.rounds, told.looks[0].round) == ("", (), 0)
    assert told.study == believed.history.records[0].study
    assert told.levels == diagnostics.LEVELS
    assert datetime.fromisoformat(told.created_at).utcoffset() is not None


def test_a_searchs_plans_and_limit_are_told_and_survive_their_file(
    known: History, tmp_path: Path
) -> None:
    conf, store = asked(objective__max_drop=2.5), Store(tmp_path)
    believed = Belief.from_history(known, conf)
    book = rounds.notebook(store, believed.history.records[0].study, conf)
    book.write(Round(number=0, seed=0, planned=(Planned(network="d1_w4"),)))
    two = Planned(network="d1_w8", low=1.0, mean=2.0, high=3.0, promise=0.5)
    book.write(Round(number=2, seed=0, planned=(two,), attempts=1, launched=1))
    found = summarised(believed, conf, book=book)
    assert (found.search, found.max_drop) == (book.folder.name, 2.5)
    assert found.looks[0].round == 2
    assert [batch.number for batch in found.rounds] == [0, 2]
    assert found.rounds[1].planned[0].model_dump() == two.model_dump(exclude={"attempts"})
    predictions.write(store, book.folder, found)
    assert predictions.latest(store, found.study) == found
