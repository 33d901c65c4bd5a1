"""The laws find what they are for: a fault that is there is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import RECORD_FILE, Store
from tests.faults import laws
from tests.faults.disks import damage
from tests.faults.laws import Witness

MakeRecord = Callable[..., Record]


@pytest.fixture
def run(tmp_path: Path, make_record: MakeRecord) -> Path:
    """Leave one finished run, and name its folder."""
    store = Store(tmp_path / "runs")
    one = make_record()
    where = store.folder(one.study, one.network, one.seed)
    store.write(where, one)
    torch.save({"state_dict": {"w": torch.ones(50)}}, where / "last.ckpt")
    return where


def note(tmp_path: Path, what: str, where: Path, status: str = "") -> None:
    with open(tmp_path / laws.TRAININGS, "a") as log:
        log.write(f"{what}\t{where.relative_to(tmp_path / 'runs')}\t{status}\n")


def test_what_is_whole_breaks_no_law(tmp_path: Path, run: Path) -> None:
    note(tmp_path, "begin", run)
    note(tmp_path, "end", run, "finished")
    (run / ".record.json.123-0a1b2c3d").write_text("hal")
    (run / "record.json.unreadable").write_text("hal")
    witness = Witness(tmp_path)
    assert not witness.look()
    assert not witness.look()


def test_a_gone_or_other_record_is_lost(tmp_path: Path, run: Path, make_record: MakeRecord) -> None:
    for change in (
        lambda: (run / RECORD_FILE).unlink(),
        lambda: Store(tmp_path / "runs").write(run, make_record(wall_s=1.0)),
        lambda: (run / RECORD_FILE).write_text("{"),
    ):
        Store(tmp_path / "runs").write(run, make_record())
        witness = Witness(tmp_path)
        assert not witness.look().lost
        change()
        assert len(witness.look().lost) == 1


def test_a_training_that_ended_and_left_no_record_is_lost(tmp_path: Path, run: Path) -> None:
    (run / RECORD_FILE).unlink()
    note(tmp_path, "end", run, Status.finished.value)
    assert len(Witness(tmp_path).look().lost) == 1
    (tmp_path / laws.TRAININGS).unlink()
    note(tmp_path, "end", run, Status.failed.value)
    assert not Witness(tmp_path).look()


def test_a_finished_training_that_begins_again_is_repeated(tmp_path: Path, run: Path) -> None:
    witness = Witness(tmp_path)
    assert not witness.look()
    note(tmp_path, "begin", run)
    assert len(witness.look().repeated) == 1
    assert not witness.look()
    note(tmp_path, "end", run, "finished")
    note(tmp_path, "begin", run)
    assert len(witness.look().repeated) == 1


@pytest.mark.parametrize(
    "name",
    ["record.json", "round3.json", "predictions.json", "network.json", "last.ckpt", "report.html"],
)
def test_half_a_file_is_incomplete(tmp_path: Path, run: Path, name: str) -> None:
    path = run / name
    whole = path.read_bytes() if path.exists() else b'{"half": '
    path.write_bytes(whole[: len(whole) // 2])
    (found,) = laws.broken(tmp_path / "runs")
    assert name in found


def test_a_file_that_nobody_knows_is_incomplete(tmp_path: Path, run: Path) -> None:
    (run / "record.json.tmp").write_text("half")
    assert len(laws.broken(tmp_path / "runs")) == 1


def test_damage_is_drawn_by_seed(tmp_path: Path) -> None:
    import random

    kinds = set()
    for seed in range(40):
        contents = []
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(bytes(range(64)))
            damage(tmp_path / name, random.Random(seed))
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1] != bytes(range(64))
        kinds.add(len(contents[0]))
    assert {0, 64} < kinds
