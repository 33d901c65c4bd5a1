"""The finalists of a search's answer are found, whichever training `best/` holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssr_exp.report import search_results
from ssr_exp.runs.record import FINALIST
from ssr_exp.runs.store import Store
from tests.report.conftest import FULL, STUDY, Put


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
