"""What became of an answer: whether a drop is more than may be lost."""

from __future__ import annotations

import pytest

from ssr_exp.runs import verdict


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1.0, 1e6])
def test_a_drop_is_judged_by_what_is_allowed_however_small_that_is(size: float) -> None:
    assert verdict.is_kept(0.3 * size, 0.3 * size)
    assert not verdict.is_kept(0.301 * size, 0.3 * size)
    assert verdict.is_kept(-0.3 * size, 0.0)


def test_what_floating_point_makes_of_a_drop_is_no_loss() -> None:
    assert 90.9 - 90.6 > 0.3 and verdict.is_kept(90.9 - 90.6, 0.3)
    assert 0.1 * 3 > 0.3 and verdict.is_kept(0.1 * 3 - 0.3, 0.0)
