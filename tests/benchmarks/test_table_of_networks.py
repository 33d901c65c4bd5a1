from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from benchmarks import table_of_networks
from benchmarks.table_of_networks import Table
from ssr_exp.errors import SsrError
from ssr_exp.runs import tables
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import Store


def test_a_table_holds_all_finished_runs_and_search_reads_it(store: Path, gathered: Path) -> None:
    finished = [r for r in Store(store).records() if r.status is Status.finished]
    rows = {(row.network, row.seed): row.val_acc for row in tables.read(gathered)}
    assert rows == {(r.network, r.seed): r.val_acc for r in finished}


def test_a_table_is_sorted_and_starts_with_its_columns(gathered: Path) -> None:
    with gathered.open() as file:
        columns, *rows = csv.reader(file)
    assert tuple(columns) == table_of_networks.COLUMNS
    assert rows == sorted(rows)


def test_beside_a_table_stands_what_it_is(gathered: Path, table: Table) -> None:
    about = json.loads(gathered.with_suffix(".json").read_text())
    assert table_of_networks.spanned(**about["lattice"]).names == table.space.names
    assert about["lattice"]["num_classes"] == 10
    assert about["counts"]["rows"] == sum(about["counts"]["by_seed"].values())
    assert about["counts"]["left_out"] == 1
    assert {"study", "definition", "commits", "devices", "versions", "epochs"} <= set(about)


def test_the_first_seed_answers_and_the_others_tell_the_noise(store: Path, table: Table) -> None:
    finished = [r for r in Store(store).records() if r.status is Status.finished]
    answers = {r.network: r.val_acc for r in finished if r.seed == 0}
    others = {r.network: r.val_acc for r in finished if r.seed == 1}
    assert {table.space.code(a): value for a, value in table.accuracies.items()} == answers
    assert sorted(table.repeats) == sorted((answers[code], others[code]) for code in others)


def test_sentinels_and_others_make_the_table(table: Table) -> None:
    assert set(table.sentinels) | set(table.others) == set(table.accuracies)
    assert not set(table.sentinels) & set(table.others)


def test_no_table_is_made_without_a_sentinel(gathered: Path, table: Table, tmp_path: Path) -> None:
    code = table.space.code(table.sentinels[3])
    lines = [line for line in gathered.read_text().splitlines() if not line.startswith(code)]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    shutil.copy(gathered.with_suffix(".json"), tmp_path)
    with pytest.raises(SsrError, match=code):
        table_of_networks.load(tmp_path / "table.csv")


def test_a_store_with_several_studies_asks_which(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text("{}")
    with pytest.raises(SsrError, match="--study"):
        table_of_networks.gather(tmp_path, tmp_path / "it.csv")
