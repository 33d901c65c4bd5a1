from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssr_exp import terminal
from ssr_exp.runs import cost_words
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import EPOCHS_FILE, Store
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
    assert str(watch.look()) == "0 of 4 done, 0 running"
    store.write(members[1].folder, make_record(network="d2_w4", val_acc=91.0))
    store.write(members[2].folder, make_record(network="d3_w4", val_acc=92.5))
    store.write(members[3].folder, make_record(status=Status.diverged, val_acc=None))
    with store.claim(members[0].folder, wait=False):
        now = watch.look()
    assert (now.finished, now.failed, now.running, now.total) == (2, 1, 1, 4)
    assert now.best is not None and now.best.network == "d3_w4"
    assert str(now).startswith("3 of 4 done, 1 running, 1 failed, about ")


def test_a_record_that_was_there_and_is_made_again_counts(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    store.write(members[0].folder, make_record(started_at="2025-01-01T00:00:00+00:00"))
    watch = SweepWatch(members[:1])
    assert watch.look().finished == 0
    store.write(members[0].folder, make_record(started_at="2025-01-01T00:00:09+00:00"))
    assert watch.look().finished == 1
    assert "left" not in str(watch.look())


def test_a_run_that_failed_and_is_tried_again_counts_once_and_has_a_line_each_time(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    watch = SweepWatch(members[:1], total=3)
    failed = make_record(status=Status.failed, val_acc=None, error="no luck")
    store.write(members[0].folder, failed)
    assert [line.split()[0] for line in watch.say().lines] == ["1/3"]
    watch.add([*members[:1], *members[1:2]])
    store.write(members[0].folder, make_record(val_acc=91.0))
    assert [line.split()[0] for line in watch.say().lines] == ["1/3"]
    store.write(members[1].folder, make_record(val_acc=92.0))
    assert [line.split()[0] for line in watch.say().lines] == ["2/3"]
    assert str(watch.look()).startswith("2 of 3 done, 0 running, about")


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


def test_epochs_of_before_are_no_part_of_the_pace(
    store: Store,
    members: list[Member],
    make_record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 100.0, 200.0])
    now = SimpleNamespace(monotonic=lambda: next(clock), time=lambda: 0.0)
    monkeypatch.setattr(progress, "time", now)
    folder = members[0].folder
    with store.claim(folder, wait=False):
        (folder / EPOCHS_FILE).write_text("13/15")
        watch = SweepWatch(members)
        assert watch.look().left_s is None  # all of it was done before
        store.write(members[1].folder, make_record())
        two = watch.look()
    assert two.left_s == pytest.approx(100 * (two.total - 1 - 13 / 15))
    store.write(folder, make_record())
    assert watch.look().left_s == pytest.approx(200 / (2 - 13 / 15) * (two.total - 2))


def test_epochs_of_before_are_known_though_their_file_went_with_their_process(
    store: Store, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0, 200.0])
    now = SimpleNamespace(monotonic=lambda: next(clock), time=lambda: 0.0)
    monkeypatch.setattr(progress, "time", now)
    watch = SweepWatch(members[:1])
    folder = members[0].folder
    with store.claim(folder, wait=False):
        (folder / EPOCHS_FILE).write_text("90/100/90")
        assert watch.look().left_s is None
        (folder / EPOCHS_FILE).write_text("95/100/90")
        assert watch.look().left_s == pytest.approx(100.0)
        (folder / EPOCHS_FILE).write_text("98/100/95")  # requeued meanwhile
        assert watch.look().left_s == pytest.approx(200.0 / 8 * 2)


def test_a_time_is_written_as_people_say_it() -> None:
    assert [terminal.duration(s) for s in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]


def test_a_run_that_ended_has_one_line_with_its_number_size_score_and_seconds(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    watch = SweepWatch(members)
    assert not watch.say().lines
    sizes = {"params": 25, "baseline_params": 100, "wall_s": 12.25}
    store.write(members[2].folder, make_record(network="d3_w4", val_acc=91.0, **sizes))
    assert watch.say().lines == ["1/4 d3_w4  25.0% params, val acc 91.00 %, 12.2 s"]
    broken = {"status": Status.failed, "val_acc": None, "error": "it broke"}
    store.write(members[0].folder, make_record(network="d1_w4", **(sizes | broken)))
    store.write(members[1].folder, make_record(network="d2_w4", test_acc=90.0, **sizes))
    assert watch.say().lines == [
        "2/4 d1_w4  failed after 12.2 s: it broke",
        "3/4 d2_w4  25.0% params, val acc 97.50 %, test acc 90.00 %, 12.2 s",
    ]
    assert not watch.say().lines


def test_what_is_remarked_on_a_run_stands_below_its_line(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    def remarks(record: Record) -> list[str]:
        return [f"warning: {record.network}"] if record.network == "d1_w4" else []

    watch = SweepWatch(members, told={m.folder for m in members[:2]}, remarks=remarks)
    for member in members:
        store.write(member.folder, make_record(network=member.title))
    first, *rest = [line.split()[-1] if "warning" in line else "run" for line in watch.say().lines]
    assert [first, *rest] == ["run", "d1_w4", "run"]


def test_a_line_speaks_of_the_cost_that_the_study_is_about(make_record: MakeRecord) -> None:
    costs = {"params": 25, "baseline_params": 100, "macs": 40, "baseline_macs": 80}
    one = make_record(**costs, gemms=3, baseline_gemms=4)
    said = {cost: progress.result(one, cost).partition(",")[0] for cost in cost_words.NOUNS}
    assert said["params"] == said["latency_ms"] == "25.0% params"
    assert (said["macs"], said["gemms"]) == ("50.0% MACs", "75.0% GeMMs")


def test_of_a_sweep_that_processes_share_each_tells_of_its_own_runs(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    mine, whole = SweepWatch(members, told={members[1].folder}), SweepWatch(members)
    for member in members:
        store.write(member.folder, make_record(network=member.title))
    assert [line.split()[1] for line in mine.say().lines] == ["d2_w4"]
    assert len(whole.say().lines) == 4


def test_the_table_has_what_runs_with_its_epochs_and_the_best_so_far(
    store: Store, members: list[Member], make_record: MakeRecord
) -> None:
    watch = SweepWatch(members, title="round 1 of 3")
    store.write(members[0].folder, make_record(network="d1_w4", val_acc=91.0))
    with store.claim(members[1].folder, wait=False):
        store.write_text(members[1].folder / EPOCHS_FILE, "2/8")
        shown = watch.say()
    assert [row[:2] for row in shown.rows] == [
        ("running", "d2_w4"),
        ("best of these", "d1_w4"),  # others of the study may be better
    ]
    assert shown.rows[0][2].startswith("epoch 2 of 8, ") and "91.00 %" in shown.rows[1][2]
    assert shown.done == 1.25 / 4
    assert shown.state.startswith("round 1 of 3: 1 of 4 done, 1 running, about ")


def test_runs_are_named_by_what_tells_them_apart(store: Store) -> None:
    def names(*runs: tuple[str, str, int]) -> list[str]:
        members = [
            Member((), store, store.folder(m, n, s), "", network=n, model=m, seed=s)
            for m, n, s in runs
        ]
        return list(SweepWatch(members)._labels().values())

    assert names(("a", "d1_w4", 0), ("a", "d2_w4", 0)) == ["d1_w4", "d2_w4"]
    assert names(("a", "d1_w4", 0), ("a", "d1_w4", 1)) == ["d1_w4 seed 0", "d1_w4 seed 1"]
    assert names(("a", "d1_w4", 0), ("b", "d1_w4", 0)) == ["a d1_w4", "b d1_w4"]
