from __future__ import annotations

import csv
import itertools
import lzma
from pathlib import Path

import numpy as np
import pytest

from benchmarks import published_widths, replay
from benchmarks.published_widths import COLUMNS, FULL, PublishedResNet
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture


@pytest.fixture(scope="module")
def rows() -> list[list[object]]:
    """A table of all widths, at our cost, with accuracies that are drawn."""
    own = published_widths.spanned()
    widths = list(itertools.product("1234", repeat=len(FULL)))
    networks = [Architecture((1,) * len(FULL), _positions(digits)) for digits in widths]
    counted = cost.count(own.plan, cost.encode(own.plan, networks))
    drawn = np.random.default_rng(0).uniform(88, 94, (len(widths), 3)).round(2)
    columns = (widths, drawn.tolist(), counted.params.tolist(), counted.macs.tolist())
    return [["".join(w), *a, p, m] for w, a, p, m in zip(*columns, strict=True)]


def _positions(digits: tuple[str, ...]) -> tuple[int, ...]:
    pairs = zip(digits, FULL, strict=True)
    return tuple(int(digit) * full // 4 // 64 - 1 for digit, full in pairs)


def written(path: Path, rows: list[list[object]]) -> Path:
    with lzma.open(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def test_parameters_and_macs_are_those_of_the_paper() -> None:
    own = published_widths.spanned()
    assert own.lattice.size == 4**7
    assert own.baseline.params == sum(p.numel() for p in PublishedResNet().parameters())
    assert own.baseline.params == 15_356_170
    smallest = cost.count(own.plan, own.lattice.points([0]))
    assert (smallest.params[0], smallest.macs[0]) == (963_658, 90_096_896)


def test_a_table_is_read_and_two_of_three_trainings_are_not_seen(
    tmp_path: Path, rows: list[list[object]]
) -> None:
    path = written(tmp_path / "table.csv.xz", rows)
    assert published_widths.is_one(path)
    table = replay.load(path)
    assert len(table.accuracies) == len(table.unseen) == len(rows)
    assert table.accuracies[table.baseline] == rows[-1][1]
    assert table.unseen[table.baseline] == pytest.approx((rows[-1][2] + rows[-1][3]) / 2)  # type: ignore[operator]
    assert len(table.sentinels) == len(FULL) + 2


@pytest.mark.parametrize(("column", "name"), [(4, "params"), (5, "macs")])
def test_another_cost_than_ours_is_refused(
    tmp_path: Path, rows: list[list[object]], column: int, name: str
) -> None:
    wrong = [list(row) for row in rows]
    wrong[7][column] += 1  # type: ignore[operator]
    with pytest.raises(SsrError, match=rf"1111124 has \d+ {name}, and ours \d+; 1 networks differ"):
        published_widths.load(written(tmp_path / "table.csv.xz", wrong))


def test_a_table_that_lacks_networks_is_refused(tmp_path: Path, rows: list[list[object]]) -> None:
    with pytest.raises(SsrError, match="has 16383 networks; the lattice has 16384"):
        published_widths.load(written(tmp_path / "table.csv.xz", rows[1:]))


def test_a_table_of_ours_is_none(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("network,seed,val_acc\n")
    assert not published_widths.is_one(tmp_path / "table.csv")
    assert not published_widths.is_one(tmp_path / "none.csv.xz")
