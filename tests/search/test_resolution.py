"""What a val set can tell apart is said before and after a search."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssr_exp.config import SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.store import Store
from ssr_exp.search import diagnostics, rounds
from ssr_exp.search.loop import Search
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space
from tests.search.conftest import World

First = tuple[Architecture, ...]


def allowing(drop: float) -> SearchConfig:
    conf = SearchConfig()
    conf.objective.max_drop = drop
    return conf


@pytest.mark.parametrize("images", [1, 3, 7, 60, 287, 5000, 60_001])
def test_a_drop_below_two_images_is_warned_of_and_the_advice_is_enough(images: int) -> None:
    val = ValSet({"cat": images - images // 2, "dog": images // 2})
    assert not val.too_coarse(allowing(200 / images))
    (warning,) = val.too_coarse(allowing(199 / images))
    (advice,) = re.findall(r"objective\.max_drop=(\S+) or more", warning)
    assert not val.too_coarse(allowing(float(advice)))


def test_a_baseline_that_names_the_largest_class_is_warned_of() -> None:
    val = ValSet({"cat": 30, "dog": 70})
    assert "always naming its largest class (dog) scores 70.00 %" in val.learnt_nothing(70.0)[0]
    assert val.learnt_nothing(50.0) and val.learnt_nothing(70.4)
    assert not val.learnt_nothing(71.0)


@pytest.mark.parametrize("images", range(2, 300))
def test_one_image_more_than_the_largest_class_is_learnt_however_it_is_rounded(images: int) -> None:
    largest = (images + 1) // 2
    val = ValSet({"cat": largest, "dog": images - largest})
    percent = [100 * float(np.float32(hits / images)) for hits in (largest, largest + 1)]
    percent += [float(np.float32(100) * np.float32(h / images)) for h in (largest, largest + 1)]
    assert [bool(val.learnt_nothing(own)) for own in percent] == [True, False] * 2


def test_nothing_is_said_of_a_val_set_that_is_not_known() -> None:
    assert not ValSet({}).too_coarse(allowing(0.0)) + ValSet({}).learnt_nothing(0.0)


def test_an_error_about_that_of_the_mean_is_poor() -> None:
    one = diagnostics.Check(30, 0.5, 1.0, 0.9, (0.5, 0.8, 0.95), 0.1, flat=False)
    assert not one.warnings()
    assert "predicts poorly" in replace(one, rmse=0.92).warnings()[0]
    assert "predicts poorly" in replace(one, spearman=0.3).warnings()[0]


def test_it_is_said_in_one_line_before_and_after(
    tmp_path: Path,
    small: Space,
    first: First,
    world: World,
    capsys: pytest.CaptureFixture[str],
) -> None:
    conf = allowing(1.0)
    conf.rounds, conf.batch = 0, 1
    book = rounds.notebook(Store(tmp_path), "study", conf)
    search = Search(small, conf, first, book, world, val=ValSet({"cat": 95, "dog": 5}))
    seen, _ = search.run(world.train)
    before = capsys.readouterr().out
    search.conclude(seen)
    after = capsys.readouterr().out
    for text in (before, after):
        lines = [line for line in text.splitlines() if line.startswith("warning: ")]
        assert "less than two of the 100 val images (1 points each)" in lines[0]
        assert "always naming its largest class (cat)" in " ".join(lines)
    plain: Callable[[], Search] = lambda: replace(search, val=None)  # noqa: E731
    plain().conclude(seen)
    assert "val images" not in capsys.readouterr().out
