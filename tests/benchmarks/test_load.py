from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import load, load_study, load_surrogate, load_writers, proposals
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store, is_done
from ssr_exp.search import surrogate

MODEL, RUNS = "resnet20", 630  # of which 608 have the table's outcomes


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    runs = tmp_path_factory.mktemp("load") / "runs"
    runs.mkdir()
    return Store(runs), load_study.fill(MODEL, runs, RUNS)


@pytest.fixture(scope="module")
def made(filled: tuple[Store, Path]) -> list[Record]:
    return filled[0].records()


def test_a_filled_folder_holds_so_many_finished_runs_and_the_baseline(made: list[Record]) -> None:
    assert len(made) == len({r.network for r in made}) == RUNS
    assert all(is_done(r) for r in made)
    assert any(r.params == r.baseline_params for r in made)


def test_known_networks_have_their_outcomes_and_made_up_ones_say_so(made: list[Record]) -> None:
    rows = (line.split(",") for line in load_study.TABLE.read_text().splitlines()[1:])
    table = {network: float(accuracy) for network, seed, accuracy, *_ in rows if seed == "0"}
    real = {r.network: r.val_acc for r in made if r.device == load_study.REAL}
    assert len(real) == 608  # the baseline is another network where the model is
    assert real.items() <= table.items()
    assert {r.device for r in made} == {load_study.REAL, load_study.MADE_UP}


def test_the_same_records_are_made_each_time(filled: tuple[Store, Path]) -> None:
    store, _ = filled
    first, second = (
        load_study.records(*load_study.opened(MODEL, store.root)[1:], 40) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(("writers", "each"), [(3, 6)])
def test_writers_at_once_lose_nothing_and_repeat_nothing(
    made: list[Record], tmp_path: Path, writers: int, each: int
) -> None:
    found = load_writers.at_once(tmp_path / "runs", made, writers=writers, each=each)
    assert found.wanted == 3 + 3 * 3
    assert (found.broken, found.again, found.left) == (0, 0, 0)


def test_a_script_that_fails_is_no_figure() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        load.run(["-c", "raise SystemExit(3)"])


def test_a_process_is_watched(tmp_path: Path) -> None:
    ended = load.run(["-c", "import time; x = bytearray(60_000_000); time.sleep(0.3)"])
    assert ended.seconds > 0.3
    assert ended.mb > 50


def test_both_surrogates_are_compared_and_all_is_put_back() -> None:
    known = proposals.made(proposals.spanned("resnet14", 4), 24)
    before = surrogate.MOST
    figures = load_surrogate.compared("load", known, batch=2, sample=50)
    assert before == surrogate.MOST
    assert {f.part for f in figures} == {"load"}
    (rank,) = (f.value for f in figures if "rank correlation" in f.name)
    assert 0.8 < rank < 1
