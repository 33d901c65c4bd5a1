from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssr_exp import terminal
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.training import progress
from ssr_exp.training.progress import SweepWatch
from ssr_exp.training.sweep import Member

MakeRecord = Callable[..., Record]
NETWORKS = ("d1_w4", "d2_w4", "d3_w4", "d4_w4")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def members(store: Store) -> list[Member]:
    return [Member((), store, store.folder("study", n, 0), n) for n in NETWORKS]


def test_it_counts_what_ended_since_it_began_and_what_runs(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    old = make_record(status=Status.failed, val_acc=None, started_at="2025-01-01T00:00:00+00:00")
    store.write(members[0].folder, old)
    watch = SweepWatch(members)
    assert str(watch.look()) == "0 of 4 done, 0 running, 0 failed"
    store.write(members[1].folder, make_record(network="d2_w4", val_acc=91.0))
    store.write(members[2].folder, make_record(network="d3_w4", val_acc=92.5))
    store.write(members[3].folder, make_record(status=Status.diverged, val_acc=None))
    with store.claim(members[0].folder, wait=False):
        now = watch.look()
    assert (now.finished, now.failed, now.running, now.total) == (2, 1, 1, 4)
    assert str(now).startswith("2 of 4 done, 1 running, 1 failed, best d3_w4 92.50 %, about ")


def test_a_record_that_was_there_and_is_made_again_counts(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    store.write(members[0].folder, make_record(started_at="2025-01-01T00:00:00+00:00"))
    watch = SweepWatch(members[:1])
    assert watch.look().finished == 0
    store.write(members[0].folder, make_record(started_at="2025-01-01T00:00:09+00:00"))
    assert watch.look().finished == 1
    assert "left" not in str(watch.look())


def test_the_time_left_is_that_of_the_rest_at_this_pace(
    store: Store,
    members: list[Member],
    make_record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([100.0, 400.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    watch = SweepWatch(members)
    store.write(members[0].folder, make_record())
    now = watch.look()
    assert now.left_s == 900.0
    assert str(now).endswith("about 15 min left")


def test_a_time_is_written_as_people_say_it() -> None:
    assert [terminal.duration(s) for s in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]


def test_what_is_said_is_news_only_when_a_run_ended(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    watch = SweepWatch(members)
    _, before = watch.say()
    with store.claim(members[0].folder, wait=False):
        line, running = watch.say()
    assert "1 running" in line and running == before
    store.write(members[0].folder, make_record())
    assert watch.say()[1] != before
