"""What a page shows, as plain data: whatever else lies in the folder, records are shown."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

import ssr_exp
from ssr_exp import files
from ssr_exp.report import page_data
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import FINALIST, NOT_TOLD, Fractions, Record, Status
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, PICTURE_FILE, Store
from tests.report.conftest import FULL, STUDY, Put, made

Predict = Callable[..., Predictions]
Answer = Callable[..., None]
FINALS = "resnet20-digits-ffffffff"


def shown(store: Store, *only: str) -> list[dict[str, Any]]:
    """Gather, and hold the whole against JSON, which knows neither NaN nor infinity."""
    found = page_data.collect(store, only)
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))
    studies: list[dict[str, Any]] = found["studies"]
    return studies


def one(store: Store) -> dict[str, Any]:
    (study,) = shown(store)
    return study


def network(study: dict[str, Any], code: str, kind: str | None = None) -> dict[str, Any]:
    rows = [n for n in study["networks"] if n["code"] == code and kind in (None, n["kind"])]
    (row,) = rows
    found: dict[str, Any] = row
    return found


def write(store: Store, name: str, text: str, study: str = STUDY) -> Path:
    path = store.study_folder(study) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Networks


def test_an_empty_folder_has_no_studies(store: Store) -> None:
    assert shown(store) == []
    store.root.mkdir()
    found = page_data.collect(store)
    assert (found["studies"], found["version"]) == ([], ssr_exp.__version__)


def test_a_networks_trainings_are_averaged_with_their_standard_deviation(
    store: Store, put: Put
) -> None:
    accuracies = [97.0, 96.0, 98.5]
    for seed, accuracy in enumerate(accuracies):
        put(seed=seed, val_acc=accuracy, best_val_acc=accuracy + 1, wall_s=10.0)
    put(**FULL, val_acc=99.0)
    study = one(store)
    assert len(study["networks"]) == 2 and len(study["runs"]) == 4
    own = network(study, "d3-1-3_w16-32-64")
    mean, std = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert own["score"] == pytest.approx([mean, std], abs=1e-4)
    assert own["best_score"] == pytest.approx([mean + 1, std], abs=1e-4)
    assert own["test_score"] is None
    assert (own["seeds"], own["wall_s"], own["status"]) == ([0, 1, 2], 30.0, "finished")
    full = network(study, str(FULL["network"]))
    assert (full["score"], full["kind"]) == ([99.0, None], "baseline")
    assert (own["params"], full["params"]) == (232_410, 269_434)
    assert study["baseline"] == {"params": 269_434, "macs": 2_500_000, "gemms": 20}


def test_failed_and_diverged_runs_are_listed_and_not_averaged(store: Store, put: Put) -> None:
    put(seed=0, val_acc=97.0)
    put(seed=1, val_acc=10.0, status=Status.diverged, error="the loss is nan")
    put(seed=2, val_acc=None, status=Status.failed, error="out of memory", wall_s=1.0)
    put(network="d1-1-1_w4-8-8", val_acc=None, status=Status.failed, error="it broke")
    study = one(store)
    own = network(study, "d3-1-3_w16-32-64")
    assert (own["score"], own["seeds"], own["status"]) == ([97.0, None], [0], "finished")
    lost = network(study, "d1-1-1_w4-8-8")
    assert (lost["score"], lost["seeds"], lost["status"]) == (None, [], "failed")
    errors = {run["error"] for run in study["runs"] if "error" in run}
    assert errors == {"the loss is nan", "out of memory", "it broke"}
    assert study["about"]["statuses"] == {"finished": 1, "diverged": 1, "failed": 2}


def test_kind_and_round_are_the_records(store: Store, put: Put) -> None:
    put(network="n1", origin="round3")
    put(network="n2", origin="compound")
    put(network="n3")
    study = one(store)
    told = [(n["code"], n["kind"], n["round"]) for n in study["networks"]]
    assert told == [("n1", "proposed", 3), ("n2", "uniform", None), ("n3", "other", None)]
    assert [run["kind"] for run in study["runs"]] == ["proposed", "uniform", "other"]


# Finalists


def test_finalists_stand_in_their_search_s_study_and_are_no_study_of_their_own(
    store: Store, put: Put, answer: Answer
) -> None:
    put(**FULL, val_acc=99.0)
    put(val_acc=97.0)
    tested = {"study": FINALS, "origin": FINALIST, "val_acc": None}
    finalists = [put(**tested, seed=seed, test_acc=96.0 + seed) for seed in (0, 1)]
    put(**tested, **FULL, test_acc=98.0)
    answer(finalists[0])
    study = one(store)
    assert study["name"] == STUDY
    code = "d3-1-3_w16-32-64"
    searched, final = network(study, code, "other"), network(study, code, "finalist")
    assert (searched["score"], searched["test_score"]) == ([97.0, None], None)
    assert (final["score"], final["test_score"]) == (None, [96.5, 0.707107])
    assert network(study, str(FULL["network"]), "finalist")["test_score"] == [98.0, None]
    assert network(study, str(FULL["network"]), "baseline")["score"] == [99.0, None]
    assert len(study["runs"]) == 5
    assert study["answer"]["results"][0]["network"] == code
    assert study["answer"]["drop"] == 0.5


def test_a_network_that_is_a_finalist_and_was_trained_by_hand_stands_there_twice(
    store: Store, put: Put
) -> None:
    put(origin=FINALIST, seed=0, test_acc=96.0)
    put(origin="explicit", seed=1, test_acc=90.0)
    study = one(store)
    told = {n["kind"]: (n["seeds"], n["test_score"]) for n in study["networks"]}
    assert told == {"finalist": ([0], [96.0, None]), "other": ([1], [90.0, None])}


def test_a_picture_of_the_answer_is_shown_if_it_is_one(
    store: Store, put: Put, answer: Answer
) -> None:
    answer(put())
    path = store.study_folder(STUDY) / BEST_FOLDER / PICTURE_FILE
    assert shown(store)[0]["picture"] is None
    path.write_bytes(b"\x89PNG\r\n\x1a\n...")
    assert shown(store)[0]["picture"] == "data:image/png;base64,iVBORw0KGgouLi4="
    for content in (b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + bytes(2**22)):
        path.write_bytes(content)
        assert shown(store)[0]["picture"] is None


def test_without_an_answer_finalists_are_a_study_of_their_own(store: Store, put: Put) -> None:
    put()
    put(study=FINALS, origin=FINALIST)
    assert {study["name"] for study in shown(store)} == {STUDY, FINALS}
    assert {study["answer"] for study in shown(store)} == {None}


def test_an_answer_of_the_searched_study_itself_joins_nothing(
    store: Store, put: Put, answer: Answer
) -> None:
    answer(put())
    assert len(one(store)["runs"]) == 1


def test_an_answer_whose_own_study_is_gone_is_shown_alone(
    store: Store, put: Put, answer: Answer
) -> None:
    answer(put().model_copy(update={"study": "elsewhere"}))
    assert len(one(store)["runs"]) == 1


def test_two_studies_that_name_each_other_are_both_shown(
    store: Store, put: Put, answer: Answer
) -> None:
    first, second = put(), put(study=FINALS)
    answer(second, STUDY)
    answer(first, FINALS)
    assert shown(store)


# What is asked for


def test_only_what_is_asked_for_is_shown(store: Store, put: Put, answer: Answer) -> None:
    put()
    put(study="other-digits-1")
    answer(put(study=FINALS, origin=FINALIST, val_acc=None, test_acc=97.0))
    assert [s["name"] for s in shown(store, STUDY)] == [STUDY]
    assert len(shown(store, STUDY)[0]["runs"]) == 2  # with its finalists
    assert [s["name"] for s in shown(store, FINALS)] == [FINALS]  # by name, these too
    assert {s["name"] for s in shown(store, STUDY, "other-digits-1")} == {STUDY, "other-digits-1"}
    assert shown(store, "nothing") == []


def test_the_study_that_ran_last_comes_first(store: Store, put: Put) -> None:
    for n, day in enumerate((3, 9, 6)):
        put(study=f"s{n}", started_at=f"2026-01-0{day}T00:00:00+00:00")
    assert [study["name"] for study in shown(store)] == ["s1", "s2", "s0"]


# Latency


def test_latencies_are_told_by_setting(store: Store, put: Put) -> None:
    put(network="n1", latencies={"phone": 2.0, "gpu": 0.5}, latency_ms=0.5, latency_device="gpu")
    put(network="n2", latencies={"phone": 3.0})
    put(network="n3", latency_ms=4.0, latency_device="phone")
    put(network="n4")
    put(network="n5", latency_ms=9.0, latency_device="board")
    study = one(store)
    assert sorted(study["settings"]) == ["board", "gpu", "phone"]
    told = {
        n["code"]: {s: ms for s, ms in zip(study["settings"], n["latency"], strict=True) if ms}
        for n in study["networks"]
    }
    assert told == {
        "n1": {"phone": 2.0, "gpu": 0.5},
        "n2": {"phone": 3.0},
        "n3": {"phone": 4.0},
        "n4": {},
        "n5": {"board": 9.0},
    }


def test_the_setting_with_most_networks_comes_first(store: Store, put: Put) -> None:
    put(network="n1", latencies={"gpu": 0.5, "phone": 900.0})
    put(network="n2", latencies={"gpu": 0.5})
    put(network="n3", latency_ms=0.5, latency_device="gpu")
    assert one(store)["settings"] == ["gpu", "phone"]


def test_a_networks_latency_is_the_mean_of_its_runs_that_have_one(store: Store, put: Put) -> None:
    put(seed=0, latencies={"phone": 2.0})
    put(seed=1, latencies={"phone": 4.0})
    put(seed=2)
    assert one(store)["networks"][0]["latency"] == [3.0]


def test_a_latency_that_a_search_predicted_of_a_trained_network_is_marked(
    store: Store, put: Put, predict: Predict
) -> None:
    put(network="n1", latencies={"phone": 2.0})
    put(network="n2")
    put(network="n3")
    more = {"latency": "phone", "latencies": {"n1": 2.0, "n2": 3.0, "n3": 4.0}}

    def marked() -> list[str]:
        return [n["code"] for n in one(store)["networks"] if n["latency_predicted"] == [True]]

    predict(**more, timed=("n1", "n2"))
    assert marked() == ["n3"]
    predict(**more)  # of an earlier version, which does not say it
    assert marked() == []


def test_the_device_of_the_predictions_is_told_though_nothing_was_measured_on_it(
    store: Store, put: Put, predict: Predict
) -> None:
    put(latencies={"gpu": 1.0})
    predict(latency="phone")
    assert one(store)["settings"] == ["phone", "gpu"]
    predict(latency="gpu")
    assert one(store)["settings"] == ["gpu"]


# Predictions


def test_predictions_are_shown_as_they_are(store: Store, put: Put, predict: Predict) -> None:
    put()
    assert one(store)["predictions"] is None
    told = predict(points=50)
    shown, fields = one(store)["predictions"], told.model_dump(mode="json")
    assert shown == fields | {"outcome": fields["outcome"] | shown["outcome"]}
    assert shown["outcome"]["heading"] == "val acc %"


@pytest.mark.parametrize("timed", [False, True], ids=["costs", "latency"])
def test_many_studies_share_the_points_of_a_page(
    store: Store, put: Put, predict: Predict, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    monkeypatch.setattr(page_data, "POINTS", 100)
    for n in range(3):
        put(study=f"s{n}")
        lattice = predict(f"s{n}", points=90).lattice
        if timed:
            own = lattice.model_copy(update={"latency_ms": tuple(float(m) for m in range(1, 91))})
            predict(f"s{n}", lattice=own.model_dump(), latency="phone")
    for study in shown(store):
        thinned = study["predictions"]["lattice"]
        columns = {len(v) for v in thinned.values() if isinstance(v, list)}
        assert columns == {30} and thinned["size"] == 10**6
        assert thinned["network"] == [f"d1-1-1_w{n}-8-8" for n in range(1, 91, 3)]
        assert thinned["params"] == list(range(10, 901, 30))
        times = list(map(float, range(1, 91, 3))) if timed else None
        assert thinned["latency_ms"] == times
    (alone,) = shown(store, "s1")
    assert len(alone["predictions"]["lattice"]["network"]) == 90


def test_the_predicted_front_is_shown_whole(
    store: Store, put: Put, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_data, "POINTS", 30)
    lattice = made(points=90).lattice
    means = [80.0] * 90
    means[0], means[7], means[8], means[50] = 81.0, 85.0, 85.0, 90.0
    put()
    predict(lattice=lattice.model_copy(update={"mean": tuple(means)}).model_dump())
    kept = {code.split("_w")[1] for code in one(store)["predictions"]["lattice"]["network"]}
    front = {"1-8-8", "8-8-8", "51-8-8"}
    assert kept == front | {f"{n}-8-8" for n in range(1, 91, 3)}


def test_more_studies_than_points_do_no_harm(
    store: Store, put: Put, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_data, "POINTS", 1)
    for n in range(2):
        put(study=f"s{n}")
        predict(f"s{n}", points=9)
    assert [len(s["predictions"]["lattice"]["network"]) for s in shown(store)] == [1, 1]


# Segments


def about(*segments: Any) -> str:
    return json.dumps({"segments": segments})


def test_segments_are_named_as_the_study_names_them(store: Store, put: Put) -> None:
    put()
    parts = [{"name": f"layer{n}", "blocks": 3, "channels": 16 * 2**n} for n in range(3)]
    write(store, "network.json", about(*parts))
    assert one(store)["segments"] == parts


def test_without_their_file_segments_have_their_full_sizes_and_the_surrogates_names(
    store: Store, put: Put, predict: Predict
) -> None:
    put(
        blocks=(3, 1, 2),
        widths=(16, 8, 48),
        modifiers=Fractions(depth=(1.0, 1 / 3, 2 / 3), width=(1.0, 0.25, 0.75)),
    )
    sizes = [(3, 16), (3, 32), (3, 64)]
    found = one(store)["segments"]
    assert [(s["blocks"], s["channels"]) for s in found] == sizes
    assert [s["name"] for s in found] == ["segment 1", "segment 2", "segment 3"]
    predict()
    assert [s["name"] for s in one(store)["segments"]] == ["stage1", "stage2", "stage3"]


# What is damaged


# Of JSON that is whole; what is cut short, or no JSON, is in tests/test_files.py.
FOREIGN = {
    "keys": '{"segments": 3, "results": 3, "looks": 3}',
    "of nulls": '{"segments": [null, null, null], "results": [null]}',
    "unnamed": about({"blocks": 3}, {"blocks": 3}, {"blocks": 3}),
    "too few": about({"name": "one", "blocks": 3, "channels": 16}),
    "in words": about(*[{"name": "s", "blocks": "many", "channels": "few"}] * 3),
    "infinite": about(*[{"name": "s", "blocks": math.inf, "channels": 16}] * 3),
    "surrogate": '{"results": [], "accuracy": "\\ud800", "drop": 1}',
    "cut": '{"segments": [{"name": "stage1", "blo',
}
FILES = (
    "study.json",
    "network.json",
    "best/metrics.json",
    "best/record.json",
    "search/predictions.json",
    "search/tradeoff-1/predictions.json",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_strange_file_beside_the_records_breaks_nothing(
    store: Store, put: Put, name: str
) -> None:
    put()
    put(seed=1)
    for file in FILES:
        path = write(store, file, FOREIGN[name])
        study = one(store)
        assert len(study["runs"]) == 2 and len(study["segments"]) == 3
        assert study["answer"] is None and study["predictions"] is None
        assert [s["name"] for s in study["segments"]] == ["segment 1", "segment 2", "segment 3"]
        path.unlink()


def test_a_record_whose_columns_are_of_different_lengths_breaks_nothing(
    store: Store, put: Put
) -> None:
    put(modifiers=Fractions(depth=(1.0,), width=(1.0,)), blocks=(3, 3), widths=(16, 32))
    assert len(one(store)["runs"]) == 1


def test_an_answer_that_cannot_be_used_is_none(store: Store, put: Put, answer: Answer) -> None:
    answer(put(), drop=1234.5)
    path = store.study_folder(STUDY) / BEST_FOLDER / METRICS_FILE
    whole, told = path.read_text(), files.read_fields(path)
    assert one(store)["answer"] is not None
    for row in ({"params": "many"}, {"seeds": [0.5]}, {"test_score_mean": None}, {"model": 3}):
        path.write_text(json.dumps(told | {"results": [told["results"][0] | row]}))
        assert one(store)["answer"] is None, row
    promise = {"drop": 0.2, "low": -0.7, "high": 1.1, "probability": 0.83}
    promise |= {"allowed": 1.0, "confidence": 0.8}
    for wrong in ({"probability": None}, {"low": "less"}, {}):
        path.write_text(json.dumps(told | {"promise": promise | wrong}))
        stated = one(store)["answer"]
        assert (stated is None) == bool(wrong)
    assert stated is not None and stated["promise"] == promise
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        path.write_text(whole.replace("1234.5", number))
        assert one(store)["answer"] is None, number


def test_what_json_has_no_number_for_is_text(store: Store, put: Put) -> None:
    put()
    write(
        store,
        "study.json",
        '{"recipe": {"lr": 0.1, "clip": Infinity, "deep": [1, -Infinity, {"x": NaN}]}}',
    )
    assert one(store)["about"]["fields"] == {
        "recipe": {"lr": 0.1, "clip": "inf", "deep": [1, "-inf", {"x": "nan"}]}
    }


# About


def test_what_a_study_took_is_summed_up(store: Store, put: Put) -> None:
    put(seed=0, wall_s=1800.0, device="a gpu", versions={"torch": "2.1"}, git_commit="abc")
    put(seed=1, wall_s=5400.0, device="a gpu", versions={"torch": "2.2"})
    put(seed=2, wall_s=0.0, status=Status.failed, val_acc=None, started_at="2027", precision="bf16")
    write(store, "study.json", '{"recipe": {"lr": 0.1}}')
    found = one(store)["about"]
    assert found["hours"] == 2.0
    assert found["devices"] == {"a gpu": 2, "a processor, 1 threads": 1}
    assert found["versions"]["torch"] == ["2.1", "2.2", "2.11.0"]
    assert (found["seeds"], found["epochs"], found["commits"]) == ([0, 1, 2], [8], ["abc"])
    assert found["precisions"] == ["32-true", "bf16"]
    assert (found["first"], found["last"]) == ("2026-01-01T00:00:00+00:00", "2027")
    assert found["fields"] == {"recipe": {"lr": 0.1}}


def test_what_a_loop_did_not_tell_is_no_epoch_no_precision_and_no_device(
    store: Store, put: Put
) -> None:
    put(epochs=0, precision=NOT_TOLD, device=NOT_TOLD)
    write(store, "study.json", '{"task": {"name": "loop"}}')
    study = one(store)
    about = study["about"]
    assert study["by_loop"] and study["runs"][0]["epochs"] is None
    assert (about["epochs"], about["precisions"], about["devices"]) == ([], [], {})
    put(seed=1, epochs=5)
    assert one(store)["about"]["epochs"] == [5]


# Warnings


def test_what_speaks_against_comparing_by_val_is_among_what_the_page_shows(
    store: Store, put: Put, predict: Predict, answer: Answer
) -> None:
    assert put() and one(store)["warnings"] == []
    few, shy = "9 val images tell nothing", "the surrogate is shy"
    predict(val_warnings=[few])
    assert one(store)["warnings"] == [few]
    known = predict().looks[-1].model_copy(update={"warnings": (shy,)})
    predict(val_warnings=[few], looks=[known])
    assert one(store)["warnings"] == [few]  # the Surrogate view has the other one
    answer(put())
    assert one(store)["warnings"] == [few, shy]  # as the terminal repeats them beside the answer


def test_a_baseline_whose_seeds_differ_by_more_than_may_be_lost_is_warned_of(
    store: Store, put: Put, predict: Predict, answer: Answer
) -> None:
    for seed, score in enumerate((95.0, 99.0)):
        put(**FULL, seed=seed, val_acc=score)
    predict(max_drop=3.0, search="smallest-1")
    assert one(store)["warnings"] == []
    predict(max_drop=1.0, search="smallest-1")
    (said,) = one(store)["warnings"]
    assert "2 trainings differ by 2.83 points on val" in said and "1 point may be lost" in said
    promise = {"drop": 0.2, "low": -0.7, "high": 1.1, "probability": 0.83}
    promise |= {"allowed": 1.0, "confidence": 0.8}
    figures = {name: {"mean": 97.0, "std": 2.8, "seeds": 2} for name in ("answer", "baseline")}
    answer(put(), promise=promise, measured=figures)
    study = one(store)
    assert "noise" in dict(study["block"]) and study["warnings"] == []  # it is said once


def test_the_page_believes_of_the_answer_what_its_rows_say(
    store: Store, put: Put, predict: Predict, answer: Answer
) -> None:
    """Predictions that were made later, by more trainings, would say it by another figure."""
    record, other = put(), put(network="d1-1-1_w4-8-16")
    promises = [{"network": r.network, "drop": 5.0, "sigma": 1.0} for r in (record, other)]
    predict(confidence=0.8, promises=promises)
    promise = {"drop": 0.2, "low": -0.9, "high": 1.3, "allowed": 1.0, "confidence": 0.8}
    answer(record, promise=promise | {"probability": NormalDist(0.2, 1.1 / 1.2816).cdf(1.0)})
    told = {one["network"]: one for one in one(store)["predictions"]["promises"]}
    assert told[other.network]["drop"] == 5.0
    drop, sigma = (told[record.network][key] for key in ("drop", "sigma"))
    stated = one(store)["answer"]["promise"]["probability"]
    assert NormalDist(drop, sigma).cdf(1.0) == pytest.approx(stated, abs=1e-6)


def test_a_studys_fields_are_found_whatever_its_name_is(store: Store, put: Put) -> None:
    """A folder's name is not always the study's."""
    odd = "my net/with spaces"
    put(study=odd)
    write(store, "study.json", '{"recipe": {"lr": 0.1}}', study=odd)
    assert one(store)["name"] == odd
    assert one(store)["about"]["fields"] == {"recipe": {"lr": 0.1}}


def test_a_run_keeps_what_a_table_needs(store: Store, put: Put) -> None:
    record: Record = put(latency_ms=1.5, latency_device="phone", wall_s=math.pi)
    (run,) = one(store)["runs"]
    kept = """network study seed epochs score val_loss test_score device started_at best_score
    latency_ms latency_device round""".split()
    made = {"wall_s": 3.14, "status": "finished", "kind": "other", "latency": [1.5]}
    assert run == {name: getattr(record, name) for name in kept} | made


# Finalists of other seed networks


def test_a_finalist_of_another_seed_network_stands_beside_the_answer(
    store: Store, put: Put, answer: Answer
) -> None:
    put()
    tested = {"val_acc": None, "test_acc": 97.0}
    best = put(study=FINALS, **tested)
    sibling = put(study="resnet8-finals", model="resnet8", network="d1-1-1_w16-32-64", **tested)
    put(study="resnet8-others", model="resnet8", network="d9-9-9_w16-32-64", **tested)
    longer = {"model": "resnet8", "network": sibling.network, "epochs": 2 * sibling.epochs}
    put(study="resnet8-longer", **longer, **tested)  # the answer of another search
    row = {"role": "family", "model": "resnet8", "network": sibling.network, "params": 1}
    row |= {"params_share": 0.1, "test_score_mean": 97.0, "test_score_std": None, "seeds": [0]}
    answer(best, results=[row])
    by_name = {study["name"]: study for study in shown(store)}
    assert set(by_name) == {STUDY, "resnet8-others", "resnet8-longer"}
    finalists = [n for n in by_name[STUDY]["networks"] if n["kind"] == "finalist"]
    assert {n["model"] for n in finalists} == {"resnet20", "resnet8"}


def test_errors_name_no_folder_of_the_machine(store: Store, put: Put) -> None:
    error = "cannot read /home/someone/secret/images.tar: no such file"
    put(status=Status.failed, val_acc=None, error=error)
    assert one(store)["runs"][0]["error"] == "cannot read <path> no such file"
