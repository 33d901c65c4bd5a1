"""What is removed is gone at once and whole; what another process uses stays."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ssr_exp.errors import SsrError
from ssr_exp.runs import leases, removal, studies, study_names
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import BEST_FOLDER, LAST_CHECKPOINT, Busy, Store
from tests.conftest import MakeRecord

STUDY = "resnet20-digits-0a1b2c3d"
HOLD = """
import sys
from pathlib import Path
from ssr_exp.runs.store import Store
with Store("x").claim(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""
WEIGHTS = b"0" * 1000
Leave = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def leave(store: Store, make_record: MakeRecord) -> Leave:
    """Leave what a training does: a record and weights."""

    def leave(network: str, **fields: object) -> Path:
        record: Record = make_record(network=network, **({"study": STUDY} | fields))
        folder = store.folder(record.study, network, record.seed)
        store.write(folder, record)
        (folder / LAST_CHECKPOINT).write_bytes(WEIGHTS)
        store.write_text(store.study_folder(record.study) / studies.FILE, "{}")
        return folder

    return leave


@pytest.fixture(params=["room", "full"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test run twice: the second time no folder can be made for what is removed."""
    mkdir = Path.mkdir

    def full(path: Path, *args: Any, **how: Any) -> None:
        if path.name == removal.ASIDE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(path, *args, **how)

    if request.param == "full":
        monkeypatch.setattr(Path, "mkdir", full)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let a second process hold the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.communicate()


def everything(root: Path) -> dict[str, bytes]:
    """Read all files but locks."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def failed(leave: Leave, network: str) -> Path:
    return leave(network, status=Status.failed, score=None, best_score=None, error="x")


# A study


@pytest.mark.usefixtures("disk")
def test_a_study_that_is_removed_is_gone_and_others_stay(store: Store, leave: Leave) -> None:
    leave("d1_w1")
    other = leave("d1_w1", study="other")
    size = removal.size(store.study_folder(STUDY))
    assert size > len(WEIGHTS)
    assert removal.remove_study(store, STUDY) == size
    assert not store.study_folder(STUDY).exists()
    assert [record.study for record in store.records()] == ["other"] and other.exists()
    assert removal.left_aside(store) == 0


@pytest.mark.parametrize(
    "place", ["d1_w1/seed0", "search/tradeoff-1", "latency", ".best", ".used/1"]
)
def test_a_study_that_another_process_uses_is_left_as_it_is(
    store: Store, leave: Leave, place: str
) -> None:
    leave("d1_w1")
    before, folder = everything(store.root), store.study_folder(STUDY) / place
    with held(folder), pytest.raises(SsrError, match=f"another process uses {folder}, so nothing"):
        removal.remove_study(store, STUDY)
    assert everything(store.root) == before
    removal.remove_study(store, STUDY)
    assert not store.study_folder(STUDY).exists()


def test_a_leased_run_is_used_though_no_process_holds_it(store: Store, leave: Leave) -> None:
    folder = failed(leave, "d1_w1")
    leases.write(folder, 60.0, "me")
    with pytest.raises(SsrError, match="another process uses"):
        removal.remove_study(store, STUDY)
    assert removal.remove_failed(store, STUDY).used == [folder]
    assert folder.exists()


@pytest.mark.usefixtures("disk")
def test_what_begins_while_a_study_is_moved_aside_is_put_back(
    store: Store, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave("d1_w1")
    before, looked = everything(store.root), removal._claimed
    answers = iter([[], [store.root / removal.ASIDE / "x"]])
    monkeypatch.setattr(removal, "_claimed", lambda _, folder: [folder] if next(answers) else [])
    with pytest.raises(SsrError, match="nothing of"):
        removal.remove_study(store, STUDY)
    assert everything(store.root) == before
    monkeypatch.setattr(removal, "_claimed", looked)


@pytest.mark.usefixtures("disk")
@pytest.mark.parametrize("files_removed", [0, 1])
def test_a_removal_that_is_killed_leaves_no_half_study_and_the_next_one_ends_it(
    store: Store,
    leave: Leave,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files_removed: int,
) -> None:
    for network in ("d1_w1", "d1_w2"):
        leave(network)
    leave("d1_w1", study="other")

    def killed(path: Path, **_: object) -> None:
        for file in sorted(path.rglob("*.json"))[:files_removed]:
            file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        removal.remove_study(store, STUDY)
    assert [record.study for record in store.records()] == ["other"]
    assert set(studies.read_all(store.root)) == set(study_names.every(store.root)) == {"other"}
    assert caplog.text == ""
    assert removal.left_aside(store) > 0
    assert removal.end_others(store) > 0
    assert removal.left_aside(store) == 0 == removal.end_others(store)


@pytest.mark.usefixtures("disk")
def test_what_a_process_uses_is_not_ended_though_it_is_aside(
    store: Store, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leave("d1_w1")
    with held(folder):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(removal, "_claimed", lambda *_: [])  # it began a moment later
            patch.setattr(removal, "_removed", raising_interrupt)
            removal.remove_study(store, STUDY)
        assert removal.end_others(store) == 0 < removal.left_aside(store)
    assert removal.end_others(store) > 0 == removal.left_aside(store)


def raising_interrupt(_: Path) -> NoReturn:
    raise KeyboardInterrupt


def test_a_link_is_not_followed(store: Store, leave: Leave, tmp_path: Path) -> None:
    leave("d1_w1")
    elsewhere = tmp_path / "elsewhere"
    store.study_folder(STUDY).rename(elsewhere)
    store.study_folder(STUDY).symlink_to(elsewhere)
    with pytest.raises(SsrError, match="is a link to"):
        removal.remove_study(store, STUDY)
    assert (elsewhere / studies.FILE).exists()


def test_a_command_that_works_on_a_study_keeps_it_and_a_killed_one_does_not(
    store: Store, leave: Leave
) -> None:
    leave("d1_w1")
    with removal.using(store, STUDY):
        assert [path.parent.name for path in removal.searched(store, STUDY)] == [removal.IN_USE]
        with pytest.raises(Busy, match="another process uses"):
            removal.remove_study(store, STUDY)
    assert removal.searched(store, STUDY) == []
    (killed := store.study_folder(STUDY) / removal.IN_USE / "1-killed").mkdir()
    (killed / ".lock").touch()
    os.utime(killed, (0, 0))
    with removal.using(store, STUDY):
        assert len(list((store.study_folder(STUDY) / removal.IN_USE).iterdir())) == 1


# Runs that failed


@pytest.mark.usefixtures("disk")
def test_failed_runs_are_removed_and_no_others(store: Store, leave: Leave) -> None:
    kept = [leave("d1_w1"), leave("d1_w2", status=Status.diverged, score=None, best_score=None)]
    gone = [failed(leave, "d1_w3"), failed(leave, "d1_w4")]
    assert removal.failed(store, STUDY) == gone
    removed = removal.remove_failed(store, STUDY)
    assert (removed.runs, removed.used) == (gone, []) and removed.freed > 2 * len(WEIGHTS)
    assert all(folder.exists() for folder in kept)
    assert not any(folder.parent.exists() for folder in gone)
    assert len(store.records(STUDY)) == len(kept)


def test_a_failed_run_that_is_trained_again_is_left_and_named(store: Store, leave: Leave) -> None:
    busy, gone = failed(leave, "d1_w1"), failed(leave, "d1_w2")
    with held(busy):
        removed = removal.remove_failed(store, STUDY)
    assert (removed.runs, removed.used) == ([gone], [busy])
    assert store.read(busy) is not None


def test_a_search_that_is_under_way_keeps_all_runs_of_its_study(store: Store, leave: Leave) -> None:
    folder, search = failed(leave, "d1_w1"), store.study_folder(STUDY) / "search" / "smallest-1"
    with held(search):
        for removed in (removal.remove_failed(store, STUDY), removal.remove_weights(store, STUDY)):
            assert (removed.runs, removed.used) == ([], [search])
    assert folder.exists()


# Weights


def test_weights_are_removed_but_those_that_something_goes_on_from(
    store: Store, leave: Leave, make_record: MakeRecord
) -> None:
    gone, answer, teacher = leave("d1_w1"), leave("d1_w2"), leave("d1_w3")
    kept = [answer, teacher, failed(leave, "d1_w4"), leave("d1_w5", origin="finalist")]
    unfinished = store.folder(STUDY, "d1_w6", 0)
    unfinished.mkdir(parents=True)
    (unfinished / LAST_CHECKPOINT).write_bytes(WEIGHTS)
    best = store.study_folder(STUDY) / BEST_FOLDER
    store.write(best, make_record(study=STUDY, network="d1_w2"))
    (best / "weights.pt").write_bytes(WEIGHTS)
    student = leave("d1_w1", study="student")
    above = store.root.absolute().parents[1]  # where its command was typed
    named = teacher.absolute().relative_to(above)
    store.write_text(student / "config.json", f'{{"recipe": {{"distill": "{named}"}}}}')
    store.write_text(leave("d1_w0", study="student") / "config.json", '{"checkpoint": "x"}')
    assert list(removal.weights(store, STUDY)) == [gone]
    removed = removal.remove_weights(store, STUDY)
    assert (removed.runs, removed.freed, removed.used) == ([gone], len(WEIGHTS), [])
    assert all((folder / LAST_CHECKPOINT).exists() for folder in (*kept, unfinished))
    assert (best / "weights.pt").exists() and store.read(gone) is not None
    assert removal.remove_weights(store, STUDY).runs == []


def test_weights_of_a_run_that_another_process_uses_stay(store: Store, leave: Leave) -> None:
    folder = leave("d1_w1")
    with held(folder):
        assert removal.remove_weights(store, STUDY).used == [folder]
    assert (folder / LAST_CHECKPOINT).exists()
