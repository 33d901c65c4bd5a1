"""A training of few steps learns little: that is said before it, with what to type."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from ssr_exp.config import Config, RecipeConf, TrainerConf
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.user_data import UserData
from ssr_exp.training import few_steps


@pytest.mark.parametrize(
    ("images", "size", "epochs", "said"),
    [
        (284, 128, 6, "12 steps, 2 of 128 images an epoch"),
        (284, 128, 60, ""),
        (1_280, 128, 1, ""),
        (40, 128, 3, "3 steps, 1 of 40 images an epoch"),
        (40, 8, 3, "15 steps, 5 of 8 images an epoch"),
        (40, 8, 30, ""),
    ],
)
def test_few_steps_are_said_with_a_batch_that_gives_more(
    digits: Splits, images: int, size: int, epochs: int, said: str
) -> None:
    few = replace(digits, train=digits.train.subset(np.arange(images)))
    conf = Config(recipe=RecipeConf(batch_size=size), trainer=TrainerConf(max_epochs=epochs))
    before, told = digits.reading, few_steps.reading(conf, few)
    added = told.warnings[len(before.warnings) :]
    assert [said in one for one in added] == [True] * bool(said)
    for named in re.findall(r"recipe.batch_size=(\d+)", " ".join(added)):
        assert int(named) < size
        conf.recipe.batch_size = int(named)
        steps = images // conf.recipe.batch_size
        assert steps >= few_steps.AN_EPOCH or conf.recipe.batch_size == few_steps.SMALLEST
    assert digits.reading == before  # a study keeps what was read, and not how it is trained


def test_of_data_of_the_users_own_nothing_is_said(digits: Splits) -> None:
    own = UserData("own", "", (1, 8, 8), 2, True, digits.reading)
    assert few_steps.reading(Config(), own) is digits.reading
