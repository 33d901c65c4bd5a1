from __future__ import annotations

import math
from typing import Any

import pytest

from ssr_exp.errors import SsrError
from ssr_exp.runs.score import ACCURACY, Direction, Score
from ssr_exp.training.candidate import Told

RMSE = Score(key="val/rmse", direction=Direction.min, unit="m", bounds=(0.0, None))
DICE = Score(key="val/dice", unit="", bounds=(0.0, 1.0))
GAIN = Score(key="val_gain", unit="dB", bounds=(None, None))


def test_it_is_written_by_its_name_and_unit() -> None:
    assert (ACCURACY.heading, ACCURACY.test.heading) == ("val acc %", "test acc %")
    assert (ACCURACY.word, ACCURACY.title) == ("accuracy", "Accuracy")
    assert (ACCURACY.text(97.211), ACCURACY.drop_text(0.5)) == ("97.21 %", "0.50 points")
    assert (RMSE.heading, RMSE.word, RMSE.text(0.12345)) == ("val rmse m", "rmse", "0.1235 m")
    assert (DICE.heading, DICE.title, DICE.text(0.5)) == ("val dice", "Dice", "0.5000")
    assert (GAIN.name, GAIN.test_key, GAIN.short_drop(0.5)) == ("val gain", "test_gain", "0.5 dB")


def test_a_drop_is_a_change_for_the_worse_and_stays_within_the_bounds() -> None:
    assert (ACCURACY.drop(90.0, 92.0), RMSE.drop(0.4, 0.3)) == pytest.approx((2.0, 0.1))
    assert (ACCURACY.lowered(1.0, 2.0), RMSE.lowered(0.3, 0.1)) == pytest.approx((0.0, 0.4))
    for score, value in ((ACCURACY, 50.0), (RMSE, 0.3), (GAIN, -2.0)):
        assert score.drop(score.lowered(value, 0.25), value) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("text", "expected"), [("0.5", 0.5), ("2%", 1.6), (" 2 % ", 1.6), ("1e-2", 0.01), ("0", 0)]
)
def test_an_allowed_drop_is_in_the_unit_or_a_share_of_the_baselines(
    text: str, expected: float
) -> None:
    assert ACCURACY.read_drop(text, 80.0, "objective.max_drop") == pytest.approx(expected)
    assert GAIN.read_drop(text, -80.0, "objective.max_drop") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e999", "half", "", "5 points", "[1]"])
def test_another_drop_is_refused_with_what_to_type(text: str) -> None:
    with pytest.raises(
        SsrError, match=r"^objective\.max_drop=.* such as objective\.max_drop=2%\.$"
    ):
        RMSE.read_drop(text, 1.0, "objective.max_drop")


def test_a_value_out_of_bounds_is_refused() -> None:
    for score, good in ((ACCURACY, 100.0), (RMSE, 1e9), (DICE, 0.0), (GAIN, -1e9)):
        score.check(good)
    with pytest.raises(SsrError, match=r"val/dice is 87.5, .* 0 to 1: .*percent from 0 to 100\?"):
        DICE.check(87.5)
    with pytest.raises(SsrError, match=r"val/rmse is -0.5, out of its bounds 0 to any"):
        RMSE.check(-0.5)


@pytest.mark.parametrize("value", [1.0000001192, -1e-9])
def test_what_rounding_put_outside_is_brought_within_the_bounds(value: float) -> None:
    inside = round(value)
    assert DICE.check(value) == DICE.within_bounds(value) == inside
    told = Told.read({"score": value, "test": value}, DICE)
    assert (told.score, told.test, told.error) == (inside, inside, "")
    assert GAIN.within_bounds(value) == value
    for outside in (1.00002, -2e-5):
        assert DICE.within_bounds(outside) is None


def test_a_score_on_test_is_told_from_that_on_val() -> None:
    assert RMSE.on("test").heading == "test rmse m"
    plain = Score("dice", "max", bounds=(0, 1))
    assert plain.test_key == "dice"  # what its task logs
    assert (plain.on("val").name, plain.on("test").name) == ("dice", "test dice")


def test_an_expected_gain_has_the_interval_of_a_gain() -> None:
    assert ACCURACY.expected_text(0.21, -0.7, 1.12) == (
        "to lose 0.21 points (80 % interval -0.70 to 1.12)"
    )
    assert ACCURACY.expected_text(-5.28, -8.87, -1.69) == (
        "to gain 5.28 points (80 % interval 1.69 to 8.87)"
    )


@pytest.mark.parametrize(
    ("key", "on_test"),
    [
        ("val/acc", "test/acc"),
        ("val_loss", "test_loss"),
        ("net/val.iou", "net/test.iou"),
        ("eval/dice", "test/dice"),
        ("valid_loss", "test_loss"),
        ("validation/x", "test/x"),
        ("retrieval/map", "retrieval/map"),
        ("value", "value"),
    ],
)
def test_the_key_on_test_is_that_of_val_as_a_word(key: str, on_test: str) -> None:
    assert Score(key=key, unit="", bounds=(None, None)).test_key == on_test


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"bound": (0, 1)}, "a score has no bound: it has key, direction, unit, bounds."),
        ({"bounds": (0, "1 m")}, "a score's bounds.1 is '1 m': "),
        ({"unit": 5}, "a score's unit is 5: "),
    ],
)
def test_words_that_a_score_does_not_have_are_refused(words: dict[str, Any], said: str) -> None:
    """Else a misspelt `bounds` would be none."""
    with pytest.raises(SsrError) as refused:
        Score("dice", "max", **words)
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


def test_an_infinite_bound_is_none() -> None:
    assert Score("rmse", "min", bounds=(0, math.inf)).bounds == (0, None)
    assert Score("nll", "min", bounds=(-math.inf, math.inf)).bounds == (None, None)
