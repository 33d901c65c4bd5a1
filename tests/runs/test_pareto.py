from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssr_exp.runs import pareto

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)))


@given(POINTS)
def test_the_front_is_what_none_as_cheap_matches(points: list[tuple[int, int]]) -> None:
    places = pareto.front([cost for cost, _ in points], [score for _, score in points]).tolist()
    kept = [points[at] for at in places]
    naive = {
        (c, s)
        for c, s in points
        if not any((a <= c and b >= s and (a, b) != (c, s)) for a, b in points)
    }
    assert set(kept) == naive and len(kept) == len(naive)
    assert kept == sorted(kept)
    assert places == [points.index(point) for point in kept]  # of equals the first one
