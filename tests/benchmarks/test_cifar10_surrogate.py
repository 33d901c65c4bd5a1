"""A random search is judged as the search is, by what was predicted of both."""

from __future__ import annotations

import predicted
import pytest

from benchmarks import cifar10_surrogate
from ssr_exp.runs.predictions import Predictions
from tests.conftest import MakeRecord

FULL = 100  # parameters


def told(drops: list[float], size: int | None = None, **columns: object) -> Predictions:
    """Predict networks of 100, 99, ... parameters, which are expected to lose `drops`."""
    count = len(drops)
    networks = [f"d1_w{number}" for number in range(count)]
    usual = {"size": size or count, "network": networks, "params": [FULL - i for i in range(count)]}
    usual |= {axis: [1] * count for axis in ("macs", "gemms")}
    usual |= {"mean": [90.0 - drop for drop in drops], "low": [0.0] * count, "high": [99.0] * count}
    usual |= {"drop": drops, "drop_sigma": [0.5] * count}
    promises = [
        {"network": n, "drop": drop, "sigma": 0.5} for n, drop in zip(networks, drops, strict=True)
    ]
    lattice = predicted.lattice(**(usual | columns))
    return predicted.predictions(lattice=lattice, promises=promises, confidence=0.8)


def rows(told: Predictions, make_record: MakeRecord, *trained: int) -> list[list[str]]:
    records = [
        make_record(network=f"d1_w{i}", params=FULL - i, baseline_params=FULL, score=90.0)
        for i in trained
    ]
    lines = list(cifar10_surrogate.random_search(told, records))
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]


def test_both_searches_are_judged_by_the_same_predictions(make_record: MakeRecord) -> None:
    """Network 2 is expected to keep within the drop, and by the answer's rule only 1 is sure to."""
    drops = [0.0, 0.5, 0.9, 5.0]
    expected, sure = rows(told(drops), make_record, 0, 1, 2, 3)
    assert [expected[1], expected[4]] == ["98.0%", "98.0%"]  # all four are drawn, and trained
    assert [sure[1], sure[4]] == ["99.0%", "99.0%"]


def test_it_counts_draws_that_find_the_baseline_alone(make_record: MakeRecord) -> None:
    expected, _ = rows(told([0.0] + [5.0] * 9), make_record, 0, 3)
    assert expected[1:] == ["100.0%", "100.0% to 100.0%", "100%", "100.0%"]


def test_of_a_lattice_that_is_listed_in_part_the_listed_front_is_not_drawn(
    make_record: MakeRecord,
) -> None:
    """It is listed whole, and of all others few are: a draw would find it far too often."""
    drops = [0.0, 5.0, 5.0, 5.0, 5.0, 0.5]
    ((_, whole, *_), _) = rows(told(drops), make_record, 0, 1, 2, 3, 4, 5)
    ((_, part, *_), _) = rows(told(drops, size=10**6), make_record, 0, 1, 2, 3, 4, 5)
    assert (whole, part) == ("95.0%", "100.0%")


@pytest.mark.parametrize("column", ["drop", "drop_sigma"])
def test_predictions_of_an_earlier_version_say_nothing_of_it(
    make_record: MakeRecord, column: str
) -> None:
    assert not rows(told([0.0, 1.0], **{column: None}), make_record, 0, 1)
