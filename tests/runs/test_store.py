from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from ssr_exp import files as file_writes
from ssr_exp.errors import SsrError
from ssr_exp.files import cannot_write, is_disk_full
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import (
    GLANCE_S,
    LOCK_FILE,
    PATIENCE_S,
    RECORD_FILE,
    Busy,
    Store,
    folder_name,
    is_done,
    shortened,
)

MakeRecord = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def folder(store: Store, make_record: MakeRecord) -> Path:
    """Name the folder of a run that has a record."""
    one = make_record()
    where = store.folder(one.study, one.network, one.seed)
    store.write(where, one)
    return where


@pytest.mark.parametrize("name", ["a", "a/b", "x" * 200, "x" * 201, "../x" * 1000, "", "..."])
def test_the_name_of_a_folder_names_that_folder(name: str) -> None:
    assert folder_name(folder_name(name)) == folder_name(name)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# Reading and writing


def test_what_is_written_is_read(store: Store, folder: Path, make_record: MakeRecord) -> None:
    assert store.read(folder) == make_record()
    assert list(files(store.root).values()) == [make_record().to_json().encode()]


def test_a_run_without_a_record_reads_as_none(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.read(store.root / "nowhere") is None
    assert store.records() == []
    assert caplog.records == []


def test_a_record_replaces_the_one_before(
    store: Store, folder: Path, make_record: MakeRecord
) -> None:
    store.write(folder, make_record(val_acc=12.0))
    assert store.read(folder) == make_record(val_acc=12.0)
    assert len(files(store.root)) == 1


def test_records_are_listed_in_the_order_of_their_paths(
    store: Store, make_record: MakeRecord
) -> None:
    for seed in (2, 0, 1):
        store.write(store.folder("study", "net", seed), make_record(study="study", seed=seed))
    assert [r.seed for r in store.records()] == [0, 1, 2]


def test_records_of_another_study_are_not_mixed_in(store: Store, make_record: MakeRecord) -> None:
    for study in ("one", "two"):
        store.write(store.folder(study, "net", 0), make_record(study=study))
    store.write(store.folder("one", "stray", 0), make_record(study="two"))  # copied by hand
    store.write(store.folder("one-copy", "net", 0), make_record(study="one"))  # a whole folder
    for record in store.records():  # with its seed, it would halve a spread, or more
        assert store.records(record.study) == [record]
    assert len(store.records()) == 2 and store.records("one-copy") == []


def test_a_study_whose_folder_was_renamed_is_said_once_and_a_copy_is_not(
    store: Store, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (0, 1):
        store.write(store.folder("one", "net", seed), make_record(study="one", seed=seed))
    shutil.copytree(store.study_folder("one"), store.root / "copy")
    store.write(store.folder("two", "stray", 0), make_record(study="gone"))  # copied by hand
    store.write(store.folder("two", "net", 0), make_record(study="two"))
    assert len(store.records()) == 3 and not caplog.messages
    shutil.rmtree(store.root / "copy")
    store.study_folder("one").rename(store.root / "pets")
    assert [record.study for _ in "12" for record in store.records()] == ["two", "two"]
    assert store.records("pets") == [] and caplog.messages == [*store.renamed().values()]
    (said,) = caplog.messages
    assert said.startswith(f"{store.root / 'pets'} holds 2 records of one and is left out")
    assert f"call the folder {store.root / 'one'} again" in said


def test_a_study_is_read_by_its_name_and_by_that_of_its_folder(
    store: Store, make_record: MakeRecord
) -> None:
    one = make_record(study="GrößeNetz-digits-0a1b2c3d")
    store.write(store.folder(one.study, "net", 0), one)
    home = store.study_folder(one.study).name
    assert home != one.study and store.records(home) == store.records(one.study) == [one]


def test_a_record_that_lies_elsewhere_than_a_runs_is_no_run(
    store: Store, make_record: MakeRecord
) -> None:
    one = make_record(study="study")
    store.write(store.folder("study", "net", 0), one)
    places = (
        "study/best study/search/best study/.best/new study/net/seed0/kept study/net/seed study"
    )
    for copy in (*places.split(), "study/net/seed0 (copy)", ""):
        store.write(store.root / copy, make_record(study="study", val_acc=1.0))
    assert store.records() == store.records("study") == [one]


def test_what_is_kept_of_a_study_lies_beside_its_runs(store: Store) -> None:
    assert store.folder("a study", "net", 0).parents[1] == store.study_folder("a study")


def test_a_damaged_record_is_skipped_with_a_warning_and_left_alone(
    store: Store, folder: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    other = store.folder("a", "net", 0)
    store.write(other, make_record(study="a"))
    (folder / RECORD_FILE).write_bytes(b'{"study": "resnet20')
    before = files(store.root)
    assert store.read(folder) is None
    assert store.records() == [make_record(study="a")]
    assert files(store.root) == before
    assert [line.levelno for line in caplog.records] == [logging.WARNING] * 2
    assert all(m.startswith(f"skipped {folder / RECORD_FILE}: ") for m in caplog.messages)


def test_only_a_failed_run_is_repeated(make_record: MakeRecord) -> None:
    assert not is_done(None)
    done = {status: is_done(make_record(status=status)) for status in Status}
    assert done == {Status.finished: True, Status.diverged: True, Status.failed: False}


# Names


@given(name=st.text())
def test_no_random_name_leaves_the_folder(name: str) -> None:
    where = Store("/runs").folder(name, name, 0)
    assert Path(os.path.normpath(where)) == where
    assert len(where.relative_to("/runs").parts) == 3
    assert "\0" not in str(where)


def test_networks_whose_codes_are_too_long_for_the_disk_are_told_apart(
    store: Store, make_record: MakeRecord
) -> None:
    codes = [f"d{'-'.join('1' * 200)}_w{'-'.join(['64'] * 199)}-{last}" for last in (4, 8)]
    for code in codes:
        store.write(store.folder("study", code, 0), make_record(study="study", network=code))
    assert {record.network for record in store.records("study")} == set(codes)
    short = "d9-1-9_w16-8-32"
    assert store.folder("study", short, 0).parent.name == short


def test_shortened_names_are_as_long_as_asked_for_and_told_apart() -> None:
    names = [f"{'x' * 300}{last}" for last in "ab"]
    short = [shortened(name, 128) for name in names]
    assert [*map(len, short)] == [128, 128] and short[0] != short[1]
    assert shortened("d9-1-9_w16-8-32", 128) == "d9-1-9_w16-8-32"


def test_a_name_too_long_for_the_disk_is_a_sentence(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = Store(tmp_path / ("runs" * 100))
    where = store.folder("study", "d1_w4", 0)
    for attempt in (lambda: store.write(where, make_record()), lambda: claim(store, where)):
        with pytest.raises(SsrError, match=r"cannot write to .*too long.*paths\.runs=DIR"):
            attempt()
    assert store.read(where) is None


# Trouble while writing


class FullDisk:
    """Lets a call fail as on a full disk."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, *_: object, **__: object) -> Any:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize(
    ("call", "code"),
    [("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EDQUOT)],
    ids=str,
)
def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(
    store: Store,
    folder: Path,
    make_record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
) -> None:
    before = files(store.root)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, FullDisk(code))
        with pytest.raises(SsrError) as caught:
            store.write(folder, make_record(val_acc=1.0))
    assert files(store.root) == before
    assert ("the disk is full" in str(caught.value)) == (code != errno.EIO)
    assert str(folder) in str(caught.value)
    assert "paths.runs=DIR" in str(caught.value)


def test_a_file_that_cannot_be_opened_is_a_sentence(
    store: Store, folder: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(store.root)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", FullDisk(errno.ENOSPC))
        with pytest.raises(SsrError, match="the disk is full"):
            store.write(folder, make_record(val_acc=1.0))
    assert files(store.root) == before


def test_a_write_that_is_killed_leaves_the_old_record(
    store: Store, folder: Path, make_record: MakeRecord
) -> None:
    code = f"""
import os, signal
from ssr_exp.runs.store import Store
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
from pathlib import Path
Store({str(store.root)!r}).write_text(Path({str(folder / RECORD_FILE)!r}), "half")
"""
    ended = subprocess.run([sys.executable, "-c", code])
    assert ended.returncode == -signal.SIGKILL
    assert store.records() == [make_record()]
    left = {path.name for path in folder.iterdir() if path.name.startswith(f".{RECORD_FILE}.")}
    assert left
    claim(store, folder)
    assert not left & {path.name for path in folder.iterdir()}
    assert store.records() == [make_record()]


def test_what_another_host_is_writing_is_left_to_it_and_what_it_left_long_ago_is_removed(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes have numbers of their own, which may be nobody's here."""
    names, replacing = list[Path](), file_writes.replacing

    def told(path: Path, temporary: Path) -> Any:
        names.append(temporary)
        return replacing(path, temporary)

    monkeypatch.setattr(file_writes, "replacing", told)
    monkeypatch.setattr(os, "getpid", lambda: 4_000_000)  # more than Linux has
    store.write_text(folder / RECORD_FILE, "ours")
    monkeypatch.setattr(file_writes, "_host", lambda: "0123abcd", raising=False)
    store.write_text(folder / RECORD_FILE, "theirs")
    monkeypatch.undo()
    ours, theirs = names
    older = folder / ".record.json.4000000-0123abcd"  # of an earlier version, on whatever host
    for path in (ours, theirs, older):
        path.write_text("{")
    with store.claim(folder, wait=False):
        assert (ours.exists(), theirs.exists(), older.exists()) == (False, True, True)
    for path in (theirs, older):
        os.utime(path, (0, 0))
    with store.claim(folder, wait=False):
        assert not theirs.exists() and not older.exists()


def test_text_that_no_codec_knows_is_written_all_the_same(store: Store) -> None:
    store.write_text(store.root / "traceback.txt", "a file named \udcff")
    assert (store.root / "traceback.txt").read_text() == "a file named \\udcff"


def test_a_runs_path_that_is_a_file_is_a_sentence(tmp_path: Path, make_record: MakeRecord) -> None:
    (tmp_path / "file").write_text("kept")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        store = Store(root)
        where = store.folder("study", "net", 0)
        for attempt in (
            store.check,
            lambda s=store, w=where: s.write(w, make_record()),
            lambda s=store, w=where: claim(s, w),
        ):
            with pytest.raises(SsrError, match=r"cannot write to .*paths\.runs=DIR"):
                attempt()
        assert store.read(where) is None
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("code", "stops"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, True), (errno.EACCES, False)],
)
def test_a_disk_that_takes_no_more_is_told_from_a_folder_of_somebody_else(
    tmp_path: Path, code: int, stops: bool
) -> None:
    told = cannot_write(tmp_path, OSError(code, os.strerror(code)))
    assert is_disk_full(told) == is_disk_full(str(told)) == stops
    assert not is_disk_full("OSError: the disk is full; says a training")


def test_a_check_makes_the_folder_and_leaves_nothing_in_it(store: Store) -> None:
    store.check()
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_disk_that_cannot_lock_files_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", FullDisk(code))
    with pytest.raises(SsrError, match=r"cannot lock files .*-o flock.*paths\.runs=DIR"):
        store.check()
    assert list(store.root.iterdir()) == []


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 64 KiB, or skip."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a disk is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_its_records(tmp_path: Path, make_record: MakeRecord) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = Store(disk / "runs")
        where = store.folder(make_record().study, "net", 0)
        store.write(where, make_record())
        with pytest.raises(OSError, match="No space left"), open(disk / "filler", "wb") as filler:
            while True:
                filler.write(b"\0" * 4096)
                filler.flush()
        with pytest.raises(SsrError, match=r"the disk is full; free some space .*paths\.runs=DIR"):
            store.write(where, make_record(error="x" * 9000))
        with pytest.raises(SsrError, match="the disk is full"):
            store.check()
        assert store.records() == [make_record()]
        assert set(files(disk)) == {"filler", str((where / RECORD_FILE).relative_to(disk))}


# Claims


def claim(store: Store, folder: Path, *, wait: bool = False) -> None:
    with store.claim(folder, wait=wait):
        pass


@pytest.fixture
def holder(store: Store, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that claims the folder and keeps it."""
    code = f"""
import sys, time
from pathlib import Path
from ssr_exp.runs.store import Store
with Store({str(store.root)!r}).claim(Path({str(folder)!r}), wait=False):
    print("claimed", flush=True)
    sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.communicate()


def test_what_is_waited_for_is_said_once_and_not_for_ever(
    store: Store, folder: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    said = f"waiting for another process ({folder})"
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(Busy),
        store.claim_saying(folder, "waiting for another process", patience_s=0.2),
    ):
        pass
    assert [record.getMessage() for record in caplog.records].count(said) == 1
    holder.kill()
    holder.wait()
    with store.claim_saying(folder, "nobody is in the way"):
        assert store.is_claimed(folder)
    assert "nobody is in the way" not in caplog.text


def test_a_second_process_is_refused_at_once(
    store: Store, folder: Path, holder: subprocess.Popen[str]
) -> None:
    start = time.monotonic()
    with pytest.raises(Busy, match="another process"):
        claim(store, folder)
    assert time.monotonic() - start < 5  # it does not wait for the other
    assert issubclass(Busy, SsrError)


def test_other_runs_can_be_claimed_meanwhile(
    store: Store, folder: Path, holder: subprocess.Popen[str]
) -> None:
    claim(store, folder.with_name("seed1"))


def test_a_claim_is_freed_by_a_kill(
    store: Store, folder: Path, holder: subprocess.Popen[str], make_record: MakeRecord
) -> None:
    holder.kill()
    holder.wait()
    claim(store, folder)
    assert store.read(folder) == make_record()


def test_a_claim_that_waits_is_given_when_the_other_ends(
    store: Store, folder: Path, holder: subprocess.Popen[str]
) -> None:
    order: list[str] = []

    def wait() -> None:
        claim(store, folder, wait=True)
        order.append("claimed")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    order.append("freed")
    holder.communicate("\n")
    waiting.join(timeout=20)
    assert order == ["freed", "claimed"]


def test_a_claim_is_given_back_after_an_error(store: Store, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store.claim(folder, wait=False):
        raise KeyboardInterrupt
    claim(store, folder)


def test_a_claim_is_refused_to_the_process_that_has_it(store: Store, folder: Path) -> None:
    with store.claim(folder, wait=False), pytest.raises(Busy):
        claim(store, folder)


def test_an_unreadable_record_is_moved_aside_and_not_lost(
    store: Store, make_record: MakeRecord
) -> None:
    where = store.folder("study", "d1", 0)
    where.mkdir(parents=True)
    for future in ('{"schema_version": 9}', '{"cut'):
        (where / RECORD_FILE).write_text(future)
        store.write(where, make_record())
        assert store.read(where) == make_record()
    kept = sorted(path.read_text() for path in where.glob(f"{RECORD_FILE}.unreadable*"))
    assert kept == ['{"cut', '{"schema_version": 9}']


def test_a_run_that_must_be_tested_is_done_once_it_was(make_record: MakeRecord) -> None:
    assert is_done(make_record(test_acc=None))
    assert not is_done(make_record(test_acc=None), tested=True)
    assert is_done(make_record(test_acc=50.0), tested=True)
    assert is_done(make_record(status=Status.diverged, test_acc=None), tested=True)


# What is being trained


@pytest.fixture
def unfinished(folder: Path) -> Path:
    """Name the folder of a run that left no record yet."""
    (folder / RECORD_FILE).unlink()
    return folder


def test_a_run_is_busy_while_another_process_has_it_and_not_after(
    store: Store, unfinished: Path, holder: subprocess.Popen[str], make_record: MakeRecord
) -> None:
    assert store.is_busy(unfinished)
    store.write(unfinished, make_record(status=Status.failed))
    assert store.is_busy(unfinished)  # it is tried again
    store.write(unfinished, make_record())
    assert not store.is_busy(unfinished)
    (unfinished / RECORD_FILE).unlink()
    holder.kill()
    holder.wait()
    assert not store.is_busy(unfinished)


def test_a_run_is_busy_while_this_process_has_it(store: Store, unfinished: Path) -> None:
    with store.claim(unfinished, wait=False):
        assert store.is_busy(unfinished)
        assert not store.is_busy(unfinished.with_name("seed1"))
    assert not store.is_busy(unfinished)


def test_asking_whether_a_run_is_busy_leaves_nothing(store: Store) -> None:
    where = store.folder("study", "net", 0)
    assert not store.is_busy(where)
    assert not store.root.exists()


def test_a_lock_that_may_not_be_opened_is_somebodys(
    store: Store, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unfinished / LOCK_FILE).touch()
    monkeypatch.setattr(FileLock, "acquire", FullDisk(errno.EACCES))
    assert store.is_busy(unfinished)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_whoever_only_looks_is_told_whether_a_lock_of_somebody_else_is_held(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with store.claim(folder, wait=False), monkeypatch.context() as patch:
        patch.setattr(FileLock, "acquire", FullDisk(code))
        assert store.is_claimed(folder) and store.is_claimed(folder, read_only=True)
    monkeypatch.setattr(FileLock, "acquire", FullDisk(code))
    assert store.is_claimed(folder)
    assert not store.is_claimed(folder, read_only=True)
    monkeypatch.setattr(fcntl, "flock", FullDisk(errno.ENOSYS))
    assert store.is_claimed(folder, read_only=True)


@contextmanager
def glancing(folder: Path, seconds: float) -> Iterator[None]:
    """Hold the lock as `is_busy` does, in another thread, and for long."""
    held = threading.Event()

    def glance() -> None:
        with FileLock(folder / LOCK_FILE):
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=glance)
    thread.start()
    held.wait()
    yield
    thread.join()


def test_a_claim_is_not_refused_because_somebody_asked(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * GLANCE_S < PATIENCE_S < 1
    monkeypatch.setattr("ssr_exp.runs.store.PATIENCE_S", 20)
    with glancing(folder, 0.2):
        claim(store, folder)


def test_a_run_is_not_busy_because_somebody_asked(
    store: Store, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssr_exp.runs.store.GLANCE_S", 20)
    with glancing(unfinished, 0.2):
        assert not store.is_busy(unfinished)


def test_a_record_of_schema_1_on_disk_is_read_as_accuracy(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = Store(tmp_path)
    folder = store.folder("study", "d1_w4", 0)
    fields = make_record(study="study", network="d1_w4").model_dump(mode="json")
    for name in ("score", "best_score", "test_score", "scores", "metrics", "score_key", "bounds"):
        del fields[name]
    early = fields | {"schema_version": 1, "val_acc": 91.5, "val_loss": 0.25}
    store.write_text(folder / "record.json", json.dumps(early))
    (one,) = store.records("study")
    assert (one.score, one.best_score, one.val_loss) == (91.5, 98.0, 0.25)
    assert one.is_measured
