"""Modifiers are shares above 0 and at most 1."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.modifiers import Modifiers

SHARES = st.lists(st.floats(min_value=0, max_value=1, exclude_min=True), max_size=6)


@given(SHARES)
def test_shares_are_kept_as_they_are(shares: list[float]) -> None:
    modifiers = Modifiers(shares, shares[::-1])
    assert (modifiers.depth, modifiers.width) == (tuple(shares), tuple(shares[::-1]))
    assert len(modifiers) == len(shares)
    assert hash(modifiers) == hash(Modifiers(tuple(shares), tuple(shares[::-1])))


def test_integers_become_floats() -> None:
    assert Modifiers([1], [1]) == Modifiers.full(1) == Modifiers((1.0,), (1.0,))


@pytest.mark.parametrize("kind", ["depth", "width"])
@pytest.mark.parametrize("value", [0, -0.5, 1.01, math.nan, math.inf, -math.inf])
def test_other_numbers_are_refused_by_name(kind: str, value: float) -> None:
    fractions = {"depth": [1, 1], "width": [1, 1]} | {kind: [1, value]}
    with pytest.raises(SsrError, match=f"the {kind} modifier of segment 2 is {value:g};"):
        Modifiers(**fractions)


def test_depth_and_width_need_one_length() -> None:
    with pytest.raises(SsrError, match="2 depths and 3 widths"):
        Modifiers([1, 1], [1, 1, 1])
