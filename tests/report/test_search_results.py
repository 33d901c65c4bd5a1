"""The finalists of a search's answer are found, whichever training `best/` holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssr_exp.report import search_results
from ssr_exp.runs.record import FINALIST
from ssr_exp.runs.store import Store
from tests.report.conftest import FULL, STUDY, Put


def test_an_answer_that_is_a_plain_net_beside_another_one_keeps_its_tests(
    store: Store, put: Put, answer: Callable[..., None]
) -> None:
    tested = put(network="d1-1-1_w16-32-64", origin=FINALIST, test_score=96.0)
    row = {"network": tested.network, "params": 9, "params_share": 0.5, "seeds": [0]}
    row |= {"test_score_mean": 96.0, "test_score_std": None}
    roles = ("baseline", "resnet20"), ("answer", "resnet20"), ("family", "resnet8")
    rows = [row | {"role": role, "model": model} for role, model in roles]
    rows[0]["network"] = "d3-3-3_w16-32-64"
    answer(tested, measured_on="test", drop=0.1, results=rows)
    assert tested in search_results.read_finals(store, STUDY)


@pytest.mark.parametrize("is_known", [True, False])
def test_finalists_of_a_study_of_their_own_are_found_though_best_holds_the_searchs_own_training(
    store: Store, put: Put, answer: Callable[..., None], is_known: bool
) -> None:
    full = {**FULL, "widths": (16, 32, 64)}
    own, tested = put(**full), {"score": None, "best_score": None, "test_score": 96.0}
    final = put(**full, study="finals", origin=FINALIST, seed=1, **tested)
    answer(own, measured_on="val", results=[], finals_study="finals" if is_known else None)
    assert search_results.read_finals(store, STUDY) == ([final] if is_known else [])
    studies = {STUDY: [own], "finals": [final]}
    named = search_results.finalist_studies(store, studies)[STUDY]
    assert named == (["finals"] if is_known else [])
