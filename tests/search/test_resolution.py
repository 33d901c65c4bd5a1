"""What a val set can tell apart; `test_loop` has it said before and after a search."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ssr_exp.search.resolution import ValSet


@pytest.mark.parametrize("images", [1, 3, 7, 60, 287, 5000, 60_001])
def test_a_drop_below_two_images_is_warned_of_and_the_advice_is_enough(images: int) -> None:
    val = ValSet({"cat": images - images // 2, "dog": images // 2})
    assert not val.too_coarse(200 / images)
    (warning,) = val.too_coarse(199 / images)
    (advice,) = re.findall(r"objective\.max_drop=(\S+) or more", warning)
    assert not val.too_coarse(float(advice))


def test_a_baseline_that_names_the_largest_class_is_warned_of() -> None:
    val = ValSet({"cat": 30, "dog": 70})
    assert "always naming its largest class (dog) scores 70.00 %" in val.learnt_nothing(70.0)[0]
    assert val.learnt_nothing(50.0) and val.learnt_nothing(70.4)
    assert not val.learnt_nothing(71.0)


def test_one_image_more_than_the_largest_class_is_learnt_however_it_is_rounded() -> None:
    for images in range(2, 300):
        largest = (images + 1) // 2
        val = ValSet({"cat": largest, "dog": images - largest})
        percent = [100 * float(np.float32(hits / images)) for hits in (largest, largest + 1)]
        percent += [float(np.float32(100) * np.float32(h / images)) for h in (largest, largest + 1)]
        assert [bool(val.learnt_nothing(one)) for one in percent] == [True, False] * 2, images


def test_nothing_is_said_of_a_val_set_that_is_not_known() -> None:
    assert not ValSet({}).too_coarse(0.0) + ValSet({}).learnt_nothing(0.0)
