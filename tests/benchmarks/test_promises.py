"""The replay of the demo's promises, on its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import demo_table, promises
from benchmarks.demo_table import DemoTable
from ssr_exp.errors import SsrError

TABLE = Path(__file__).parents[2] / "results" / "search" / "demo.csv"


def test_the_table_has_all_first_networks_with_every_seed_and_says_what_it_lacks() -> None:
    table = DemoTable(TABLE)
    assert (table.val_size, table.size) == (287, 646)
    baseline = [table.wrong("d3-3-3_w16-32-64", seed) for seed in promises.SEEDS]
    assert all(0.95 < 1 - wrong.mean() < 1 for wrong in baseline)
    counts = [sum(seed == one for _, seed in table.rows) for one in promises.SEEDS]
    assert min(counts) >= 22
    with pytest.raises(SsrError, match=r"lacks d3-3-3_w16-32-64 \(seed 99\): add --train"):
        table.wrong("d3-3-3_w16-32-64", 99)


def test_bits_are_read_back() -> None:
    wrong = np.random.default_rng(0).random(646) < 0.1
    digits = np.packbits(wrong).tobytes().hex()
    assert (demo_table._bits(digits, 646) == wrong).all()


def test_a_summary_counts_what_was_kept_and_what_it_cost() -> None:
    row = {"confidence": 0.8, "params": 50, "probability": 0.9, "test_drop": 0.5, "kept": True}
    rows = [row, row | {"params": 100, "kept": False}, row | {"confidence": 0.5, "params": 20}]
    low, high = promises.summary(rows, 100)
    assert (low["confidence"], low["kept"], low["of"], low["baselines"]) == (0.5, 1, 1, 0)
    assert (high["kept"], high["of"], high["baselines"]) == (1, 2, 1)
    assert high["params_share_median"] == 0.75
