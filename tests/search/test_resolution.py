"""What a val set can tell apart; `test_loop` has it said before and after a search."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from ssr_exp.search.resolution import ValSet, difference_variance


@pytest.mark.parametrize("images", [1, 3, 7, 60, 287, 5000, 60_001])
def test_a_drop_below_two_images_is_warned_of_and_the_advice_is_enough(images: int) -> None:
    val = ValSet({"cat": images - images // 2, "dog": images // 2})
    assert not val.too_coarse(200 / images)
    (warning,) = val.too_coarse(199 / images)
    (advice,) = re.findall(r"objective\.max_drop=(\S+) or more", warning)
    assert not val.too_coarse(float(advice))


@pytest.mark.parametrize("accuracy", [None, 70.0, 99.0, 100.0])
@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("drop", [0.1, 0.5, 1.0, 3.0])
def test_as_many_images_as_are_named_are_enough_and_one_less_is_not(
    drop: float, confidence: float, accuracy: float | None
) -> None:
    def warn(images: int) -> list[str]:
        return ValSet({"cat": images}).too_coarse(drop, confidence=confidence, accuracy=accuracy)

    (warning,) = warn(1)
    (needed,) = re.findall(r"([\d,]+) would", warning)
    count = int(needed.replace(",", ""))
    assert not warn(count) and warn(count - 1)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_no_error_in_few_images_is_no_certainty(confidence: float) -> None:
    val = ValSet({"cat": 250}, tested=250)
    sure = torch.full((1,), 100.0, dtype=torch.float64)
    least = 1e4 / 252 / 250  # Laplace's rule: 1 of 252 wrong
    assert float(val.variance(sure, sure, torch.zeros(1))) == pytest.approx(2 * least)
    assert val.noise(100.0) == pytest.approx(math.sqrt(least * 251 / 252))
    assert val.noise(0.0) == pytest.approx(val.noise(100.0))
    assert val.too_coarse(0.2, confidence=confidence, accuracy=100.0)
    large = torch.full((1,), 90.0, dtype=torch.float64)  # where some are wrong nothing changes
    assert float(val.variance(large, large, torch.zeros(1))) == pytest.approx(2 * 1000 / 250)


def test_no_number_of_images_tells_no_drop() -> None:
    (warning,) = ValSet({"cat": 10_000}).too_coarse(0.0)
    assert "no number of them would" in warning and "add" not in warning


def test_the_variance_is_that_of_networks_that_disagree_as_often_as_one_is_wrong() -> None:
    """Drawn: each image's chance to be wrong is common to both networks."""
    rng, images, count = np.random.default_rng(0), 400, 4000
    wrong = np.where(rng.random((count, images)) < 0.2, 0.5, 0.0)  # 10 %, of a fifth of the images
    both = rng.random((2, count, images)) < wrong
    share = both.mean(axis=(1, 2))
    assert (both[0] != both[1]).mean() == pytest.approx(share.mean(), rel=0.02)
    accuracies = torch.tensor(100 * (1 - share))
    drawn = 100 * (both[0].mean(1) - both[1].mean(1))
    told = float(difference_variance(accuracies[0], accuracies[1])) / images
    assert told == pytest.approx(float(drawn.var()), rel=0.1)


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


def test_a_count_without_classes_says_how_coarse_it_is() -> None:
    known, counted = ValSet({"cat": 40}), ValSet({}, count=40)
    assert counted.too_coarse(1.0) == known.too_coarse(1.0) != []
    assert counted.images == 40 and not counted.learnt_nothing(50.0)


def test_nothing_is_said_of_a_val_set_that_is_not_known() -> None:
    assert not ValSet({}).too_coarse(0.0) + ValSet({}).learnt_nothing(0.0)


def test_the_noise_of_an_accuracy_is_binomial() -> None:
    hits = np.random.default_rng(0).binomial(287, 0.93, size=100_000)
    assert ValSet({"cat": 287}).noise(93.0) == pytest.approx(100 * (hits / 287).std(), rel=0.02)
