"""Predictions where no search has made them, or runs came after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs import pareto, predictions
from ssr_exp.runs.predictions import FEWEST, Batch, Expected, Predictions
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.score import VAL_LOSS
from ssr_exp.runs.store import Store
from ssr_exp.search import diagnostics, history, lattice_sample, refit, space, summary
from ssr_exp.search.belief import Belief
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell, asked

pytestmark = pytest.mark.usefixtures("unfitted")


def fit(small: Space, runs: Sequence[Record], before: Predictions | None = None) -> Predictions:
    found = refit.predict(runs, small.plan, width_steps=4, before=before)
    assert found is not None
    return found


def test_too_few_networks_or_no_baseline_have_no_predictions(
    small: Space, tell: Tell, first: First
) -> None:
    def predict(runs: Sequence[Record]) -> Predictions | None:
        return refit.predict(runs, small.plan, width_steps=4)

    few = [tell(a) for a in first[: FEWEST - 1]]
    failed = tell(first[FEWEST], status=Status.failed, val_acc=None)
    repeated = tell(first[1], seed=1)
    assert predict([]) is None
    assert predict(few) is None
    assert predict([*few, failed, repeated]) is None
    assert predict([*few, tell(first[FEWEST])]) is not None
    assert predict([tell(a) for a in first if a != small.plan.baseline]) is None


def test_of_too_large_a_lattice_a_sample_is_predicted_that_holds_its_front(
    small: Space, tell: Tell, first: First, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST", 512)
    whole = fit(small, [tell(a) for a in first]).lattice
    monkeypatch.setattr(space, "LIMIT", 511)
    monkeypatch.setattr(lattice_sample, "DRAWN", 50)
    sample = fit(small, [tell(a) for a in first]).lattice
    assert sample.size == whole.size == 512 == len(whole.network) > len(sample.network)
    for axis in ("params", "macs"):
        front = pareto.front(getattr(whole, axis), whole.mean)
        assert {whole.network[at] for at in front} <= set(sample.network)


def test_it_is_the_usual_surrogates_and_runs_are_counted(
    small: Space, tell: Tell, first: First
) -> None:
    runs = [tell(a) for a in first]
    again = [tell(first[0], seed=1), tell(first[3], status=Status.failed, val_acc=None)]
    found = fit(small, [*runs, *again])
    assert (found.study, found.search, found.rounds) == (runs[0].study, "", ())
    assert found.looks[0].runs == len(runs) + 1 == len(found.left_out)
    assert not predictions.are_due([*runs, *again], found)
    assert predictions.are_due([*runs, *again, tell(first[1], seed=1)], found)
    assert found.lattice.size == len(small.lattice)
    trained = history.from_records(small, [*runs, *again])
    look = diagnostics.look(Belief.from_history(trained, SearchConfig()))
    assert found.looks[0].rmse == pytest.approx(look.rmse, rel=1e-6)


def test_the_order_of_the_records_does_not_matter(small: Space, tell: Tell, first: First) -> None:
    runs = [tell(a) for a in first]
    one, other = (
        fit(small, order).model_copy(update={"created_at": "now"}) for order in (runs, runs[::-1])
    )
    assert one == other


def test_a_searchs_rounds_and_earlier_looks_stay(small: Space, tell: Tell, first: First) -> None:
    runs = [tell(a) for a in first]
    alone = fit(small, runs)
    (look,) = alone.looks
    looks = (look.model_copy(update={"rmse": 9.0}), look.model_copy(update={"round": 2, "runs": 9}))
    plans = (Batch(number=1, planned=(Expected(network="d1_w4", mean=90.0),)),)
    searched = {"search": "smallest-1", "rounds": plans, "max_drop": 2.5, "looks": looks}
    asked = {"cost": "macs", "caps": {"macs": 900.0}, "confidence": 0.7}
    searched |= asked | {"val_warnings": ("9 val images tell nothing",)}
    before = alone.model_copy(update=searched)
    found = fit(small, [*runs, tell(first[1], seed=1)], before)
    assert (found.search, found.rounds, found.max_drop) == ("smallest-1", plans, 2.5)
    assert found.val_warnings == searched["val_warnings"]
    assert {key: getattr(found, key) for key in asked} == asked
    assert found.looks[:-1] == looks[:-1]
    assert (found.looks[-1].round, found.looks[-1].runs) == (2, len(runs) + 1)
    assert len(found.left_out) == len(runs) + 1
    assert found.lattice.mean != before.lattice.mean


def test_promises_that_are_made_anew_count_the_noise_that_the_searchs_did(
    small: Space, tell: Tell, first: First
) -> None:
    runs = [tell(a) for a in first]
    conf, val = asked(finalists__seeds=2), ValSet({"cat": 200, "dog": 100}, tested=200)
    trained = history.from_records(small, runs)
    before = summary.summarise(Belief.from_history(trained, conf, val=val), conf)
    before = before.model_copy(update={"confidence": 0.7})
    again = fit(small, runs, before)
    assert again.promises == before.promises and again.lattice == before.lattice
    assert (again.confidence, again.evaluation) == (0.7, before.evaluation)
    older = fit(small, runs, before.model_copy(update={"evaluation": None}))
    assert older.confidence is None  # nobody says what those of an earlier version counted


def test_predictions_that_are_continued_twice_tell_each_round_once(
    small: Space, tell: Tell, first: First, tmp_path: Path
) -> None:
    """A page after a search, and a page after one more run."""
    runs = [tell(a) for a in first]
    alone = fit(small, runs)
    looks = tuple(alone.looks[0].model_copy(update={"round": n}) for n in range(3))
    store = Store(tmp_path)
    folder = store.study_folder(alone.study) / predictions.FOLDER
    predictions.write(store, folder / "smallest-1", alone.model_copy(update={"looks": looks}))
    for seed in (1, 2):
        runs.append(tell(first[1], seed=seed))
        found = fit(small, runs, predictions.latest(store, alone.study))
        predictions.write(store, folder, found)
    last = predictions.latest(store, alone.study)
    assert last is not None
    assert [one.round for one in last.looks] == [0, 1, 2]


def test_predictions_of_a_loss_or_of_a_device_are_left_to_their_search(
    small: Space, tell: Tell, first: First
) -> None:
    runs = [tell(a) for a in first]
    alone = fit(small, runs)
    for other in ({"outcome": VAL_LOSS}, {"latency": "a phone"}):
        before = alone.model_copy(update=other)
        with pytest.raises(SsrError, match=r"val/loss|a phone.*rounds=0"):
            refit.predict(runs, small.plan, width_steps=4, before=before)


def test_of_many_runs_some_are_learned_from_and_never_because_of_their_outcomes(
    small: Space, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was picked for being good would pass for typical: the best of many was lucky, too."""
    monkeypatch.setattr(refit, "MOST", 20)
    architectures = [*small.architectures(range(0, 500, 5)), small.plan.baseline]
    learned = []
    for seed in (0, 1):
        draw = np.random.default_rng(seed).uniform(60, 90, len(architectures))
        runs = [tell(a, val_acc=acc) for a, acc in zip(architectures, draw, strict=True)]
        found = fit(small, runs)
        assert len(found.left_out) == found.looks[0].runs == 20
        assert found.seen == len(runs)
        assert not predictions.are_due(runs, found)
        learned.append({one.network for one in found.left_out})
    assert learned[0] == learned[1] >= {small.code(small.plan.baseline)}
