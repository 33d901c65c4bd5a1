"""Warnings of a val set that is too small; `test_loop` has them printed."""

from __future__ import annotations

import pytest

from ssr_exp.config import CapConf, ObjectiveConf
from ssr_exp.runs.score import ACCURACY, Score
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


def test_a_share_of_a_score_without_bounds_is_said_in_its_unit(known: History) -> None:
    gain = Score(key="val/gain", unit="dB", bounds=(None, None))
    baseline = known.space.code(known.space.plan.baseline)
    record = next(r for r in known.records if r.network == baseline)
    record = record.model_copy(update={"score": -0.1, **gain.fields()})
    usual, typed = ObjectiveConf(), ObjectiveConf(max_drop="0.3")
    for val in (None, ValSet({"cat": 100_000, "dog": 100_000})):
        (before,) = ValWarnings(None, usual, CapConf(), baseline).before(gain, ())
        assert "may lose 2% of the baseline's val gain, and of a score without" in before
        said = ValWarnings(val, usual, CapConf(), baseline).of_run(record)[0]
        assert "2% of the baseline's val gain, 0.002 dB of -0.1" in said
        assert "type objective.max_drop=NUMBER (in dB), in a Study max_drop=NUMBER" in said
    assert ValWarnings(None, typed, CapConf(), baseline).of_run(record) == []
    assert ValWarnings(None, usual, CapConf(drop="0.1"), baseline).of_run(record) == []
    points = record.model_copy(update={"unit": "%"})  # of which one point may be lost
    assert ValWarnings(None, usual, CapConf(), baseline).of_run(points) == []
    bound = record.model_copy(update={"bounds": (None, 60.0)})
    assert ValWarnings(None, usual, CapConf(), baseline).of_run(bound) == []
