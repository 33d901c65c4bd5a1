"""A claim is held by records alone, and what no record says was not tried."""

from __future__ import annotations

from collections.abc import Callable

import predicted
import pytest

from benchmarks.cifar10_claims import Claim, claims, scbp_claims
from ssr_exp.runs.record import FINALIST, Record
from tests.conftest import MakeRecord

FULL, WHOLE = "d3-3-3_w16-32-64", 269_434
Make = Callable[..., Record]


@pytest.fixture
def trained(make_record: MakeRecord) -> Make:
    def make(network: str, params: int, score: float | None, **fields: object) -> Record:
        given = {"origin": "sentinel_all", "baseline_params": WHOLE} | fields
        return make_record(network=network, params=params, score=score, **given)

    return make


def said(found: list[Claim], word: str) -> list[tuple[str, str]]:
    rows = [claim.row.strip("| ").split(" | ") for claim in found if word in claim.claim]
    return [(held, text) for _, held, text in rows]


def test_first_networks_alone_say_nothing_of_the_surrogate(trained: Make) -> None:
    first = [
        trained(FULL, WHOLE, 90.0),
        trained("d1-3-3_w16-32-64", WHOLE // 4, 89.0, gemms=10),
        trained("d1-1-3_w16-32-64", WHOLE // 8, 88.9, gemms=4),
    ]
    found = claims(first, [], None)
    assert said(found, "first networks") == [
        ("yes", "d1-3-3_w16-32-64, 75.0% fewer parameters, loses 1.00 points on val")
    ]
    assert said(found, "with the surrogate") == [("not tried", "not tried")] * 2
    assert said(found, "GeMMs")[0] == ("no", f"2.0 times: {said(found, 'first')[0][1]}")
    assert {*said(found, "latency"), *said(found, "10^5")} == {("not tried", "not tried")}


def test_of_finalists_the_mean_on_test_decides_and_another_family_is_none_of_them(
    trained: Make,
) -> None:
    small = "d1-1-1_w4-8-16"
    records = [
        trained(FULL, WHOLE, 90.0),
        trained("d1-1-2_w4-8-16", WHOLE // 3, 85.0),
        trained(small, WHOLE // 20, 90.5, origin="round1"),
    ]
    tests = {FULL: (91.0, 89.0), small: (88.0, 90.5)}
    finals = [
        trained(network, params, None, origin=FINALIST, seed=seed, test_score=score)
        for network, params in ((FULL, WHOLE), (small, WHOLE // 20))
        for seed, score in enumerate(tests[network])
    ]
    plain = trained("d2-2-2_w8-8-8", WHOLE // 20, None, origin=FINALIST, model="resnet14")
    finals.append(plain.model_copy(update={"test_score": 99.0}))
    over = said(claims(records, finals, None), "with the surrogate")
    best = f"the best of them: {small}, 95.0% fewer parameters, loses 0.75 points on test"
    assert over == [("yes", best)] * 2
    worse = [r.model_copy(update={"test_score": 88.0}) if r.network == small else r for r in finals]
    assert {held for held, _ in said(claims(records, worse, None), "surrogate")} == {"no"}


def test_latencies_are_compared_in_each_setting_that_measured_both(trained: Make) -> None:
    first = [
        trained(FULL, WHOLE, 90.0, latencies={"onnxruntime": 9.0, "eager": 8.0}),
        trained("d1-3-3_w16-32-64", WHOLE // 2, 89.5, latencies={"onnxruntime": 3.0}),
        trained("d1-1-3_w16-32-64", WHOLE // 3, 80.0, latencies={"onnxruntime": 1.0}),
    ]
    found = said(claims(first, [], None), "latency")
    assert [(held, text.partition(":")[0]) for held, text in found] == [
        ("yes", "3.0 times, of 3 networks that were measured (onnxruntime)")
    ]


def test_the_answers_latency_stands_beside_the_lowest_and_none_within_the_drop_is_a_no(
    trained: Make,
) -> None:
    answer = trained("d3-1-3_w16-32-64", WHOLE // 2, 89.9, latencies={"eager": 6.0})
    others = [
        trained(FULL, WHOLE, 90.0, latencies={"eager": 9.0}),
        trained("d1-1-3_w16-32-64", WHOLE // 3, 89.5, latencies={"eager": 4.5}),
    ]
    ((held, text),) = said(claims([*others, answer], [], None, answer=answer.network), "latency")
    assert held == "no" and text.startswith("2.0 times, of 3 networks that were measured (eager)")
    assert ": d1-1-3_w16-32-64, " in text and text.endswith("; the answer: 1.5 times")
    others[1] = others[1].model_copy(update={"score": 80.0})
    assert said(claims(others, [], None), "latency") == [
        ("no", "none loses 1 point or less (eager)")
    ]


def test_a_latency_claim_is_of_test_where_the_network_was_tested(trained: Make) -> None:
    small = "d1-1-3_w16-32-64"
    searched = [
        trained(FULL, WHOLE, 90.0, latencies={"eager": 9.0}),
        trained(small, WHOLE // 3, 85.0, latencies={"eager": 4.5}),
    ]
    finals = [
        trained(FULL, WHOLE, None, test_score=88.0, origin=FINALIST),
        trained(small, WHOLE // 3, None, test_score=87.5, origin=FINALIST),
    ]
    ((_, text),) = said(claims(searched, finals, None, answer=small), "latency")
    assert text.startswith("2.0 times") and text.endswith("loses 0.50 points on test")


def test_first_networks_and_arms_are_not_what_the_surrogate_proposed(trained: Make) -> None:
    records = [
        trained(FULL, WHOLE, 90.0),
        trained("d1-1-1_w4-8-16", WHOLE // 20, 89.9),
        trained("d1-3-3_w16-32-64", WHOLE // 2, 89.0, origin="round1"),
    ]
    arm = "d2-2-2_w4-8-16"
    finals = [
        trained(network, params, None, origin=FINALIST, test_score=90.0)
        for network, params in ((FULL, WHOLE), (arm, WHOLE // 10))
    ]
    listed = {"network": [arm, FULL], "params": [WHOLE // 10, WHOLE], "drop": [4.0, 0.0]}
    told = predicted.predictions(lattice=predicted.lattice(**listed))
    over = said(claims(records, finals, told), "with the surrogate")
    assert {held for held, _ in over} == {"no"}
    assert over[0][1].startswith(f"none was proposed; of all {arm} is expected to lose least, 4.00")
    assert "of the first networks d1-1-1_w4-8-16, 95.0% fewer parameters" in over[0][1]


@pytest.mark.parametrize(
    ("ms", "held", "text"),
    [
        (None, "not tried", "1 of 1 have at most half of the parameters; latency was not measured"),
        (0.3, "yes", "1 of 1 have at most half of the parameters, 1 of them at most 80 %"),
        (0.39, "no", "1 of 1 have at most half of the parameters, 0 of them at most 80 %"),
    ],
)
def test_derived_models_are_held_against_their_seed(
    trained: Make, ms: float | None, held: str, text: str
) -> None:
    def latencies(value: float | None) -> dict[str, float] | None:
        return None if ms is None or value is None else {"a runtime": value}

    seed = trained("d1-1_w16-32", WHOLE, 86.0, latencies=latencies(0.4), origin="scbp")
    assert said(scbp_claims([seed]), "derived")[0][0] == "not tried"
    small = trained("d1-1_w8-16", WHOLE // 2, 85.0, latencies=latencies(ms), origin="scbp")
    ((found, why),) = said(scbp_claims([seed, small]), "derived")
    assert found == held and why.startswith(text)
