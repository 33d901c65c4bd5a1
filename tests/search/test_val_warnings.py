"""Warnings of a val set that is too small; `test_loop` has them printed."""

from __future__ import annotations

import pytest

from ssr_exp.config import CapConf, ObjectiveConf
from ssr_exp.runs.score import ACCURACY
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.val_warnings import ValWarnings
from tests.search.conftest import asked

pytestmark = pytest.mark.usefixtures("unfitted")


@pytest.mark.parametrize(
    ("allowed", "cap", "named"),
    [
        ("1", None, "objective.max_drop=1 "),
        ("1", "2", "objective.max_drop=1 "),
        ("9", "0.5", "cap.drop=0.5 "),
        ("9", "1%", "cap.drop="),
    ],
)
def test_the_key_that_allows_less_is_named_before_and_after_a_training(
    known: History, allowed: str, cap: str | None, named: str
) -> None:
    code, plan = known.space.code, known.space.plan
    objective = ObjectiveConf(max_drop=allowed)
    said = ValWarnings(ValSet({"cat": 60}), objective, CapConf(drop=cap), code(plan.baseline))
    belief = Belief.from_history(known, asked(objective__max_drop=allowed, cap__drop=cap))
    baseline = next(r for r in known.records if r.network == code(plan.baseline))
    key = named.partition("=")[0]
    for warnings in (said.before(ACCURACY, ()), said.of_run(baseline), said.of_belief(belief)):
        assert f"cannot tell {named}" in warnings[0]
        assert f"type {key}=" in warnings[0]
    assert f"{key}={belief.drop:g} from no drop" in said.of_belief(belief)[0]


def test_nothing_is_said_where_the_images_tell_the_drop_of_both_keys(known: History) -> None:
    baseline = known.space.code(known.space.plan.baseline)
    many = ValSet({"cat": 100_000, "dog": 100_000})
    said = ValWarnings(many, ObjectiveConf(max_drop="9"), CapConf(drop="1"), baseline)
    assert said.before(ACCURACY, known.records) == []
    unknown = ValWarnings(None, ObjectiveConf(max_drop="0"), CapConf(drop="1"), baseline)
    assert unknown.before(ACCURACY, ()) == unknown.of_run(known.records[0]) == []
