"""The list of studies: what it says is what the records say."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock

from ssr_exp.report import study_outcome, study_overview, study_tables
from ssr_exp.runs import studies, study_names
from ssr_exp.runs.record import FINALIST, Record, Status
from ssr_exp.runs.store import BEST_FOLDER, CONFIG_FILE, Store
from tests.conftest import MakeRecord

FIELDS = {"model": {"name": "resnet20"}, "recipe": {"lr": 0.1}, "training": {"epochs": 8}}
Add = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def add(store: Store, make_record: MakeRecord) -> Add:
    """Add a run; what its study is, is written with the first one: `add("a", "d1_w1", lr=0.1)`."""

    def add(study: str, network: str, *, lr: float = 0.1, **fields: object) -> Path:
        record: Record = make_record(study=study, network=network, **fields)
        folder = store.folder(study, network, record.seed)
        store.write(folder, record)
        home = store.study_folder(study)
        store.write_text(home / studies.FILE, json.dumps(FIELDS | {"recipe": {"lr": lr}}))
        return folder

    return add


def failed(**fields: object) -> dict[str, object]:
    return {"score": None, "best_score": None} | fields


def test_the_list_agrees_with_the_records(store: Store, add: Add) -> None:
    add("a", "d1_w1", score=90.0, wall_s=1800.0)
    add("a", "d1_w2", score=91.0, seed=1, wall_s=1800.0)
    add("a", "d1_w3", **failed(status=Status.failed, error="x"), wall_s=0.0)
    add("a", "d1_w4", **failed(status=Status.diverged), wall_s=0.0)
    stopped = store.folder("a", "d1_w5", 0)
    store.write_text(stopped / CONFIG_FILE, "{}")
    (one,) = study_overview.read(store)
    counts = [one.count(status) for status in Status]
    assert (counts, one.under_way, one.stopped) == ([2, 1, 1], 0, 1)
    assert one.best is not None and one.best.mean == 91.0
    assert one.seconds == 3600.0
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert one.size == sum(path.stat().st_size for path in files)
    assert study_tables.counts_text(one) == (
        "2 finished, 1 failed, 1 diverged, 1 stopped before its end"
    )


def test_a_run_that_is_trained_again_is_under_way(store: Store, add: Add) -> None:
    done = add("a", "d1_w1")
    again = add("a", "d1_w2", **failed(status=Status.failed, error="x"))
    begun = store.folder("a", "d1_w3", 0)
    with (
        store.claim(done, wait=False),
        store.claim(again, wait=False),
        store.claim(begun, wait=False),
    ):
        (one,) = study_overview.read(store)
    assert (one.under_way, one.stopped) == (2, 0)


def test_a_run_of_somebody_else_that_was_killed_is_not_under_way(
    store: Store, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EACCES, "Permission denied")

    add("a", "d1_w1")
    killed, trained = (store.folder("a", name, 0) for name in ("d1_w2", "d1_w3"))
    for folder in (killed, trained):
        with store.claim(folder, wait=False):
            store.write_text(folder / CONFIG_FILE, "{}")
    with store.claim(trained, wait=False), monkeypatch.context() as patch:
        patch.setattr(FileLock, "acquire", acquire)
        (one,) = study_overview.read(store)
    assert (one.under_way, one.stopped) == (1, 1)


def test_the_best_network_is_so_by_the_mean_over_its_seeds(store: Store, add: Add) -> None:
    for network, seed, score in (("d1_w1", 0, 92.0), ("d1_w1", 1, 90.0), ("d1_w2", 0, 91.5)):
        add("a", network, seed=seed, score=score, best_score=score)
    (one,) = study_overview.read(store)
    assert one.best is not None
    assert (one.best.records[0].network, study_outcome.mean_text(one.best)) == ("d1_w2", "91.50 %")
    add("a", "d1_w2", seed=1, score=92.5, best_score=92.5)
    (one,) = study_overview.read(store)
    assert study_outcome.describe(one)["best"].startswith("d1_w2, val acc 92.00 % (mean of 2)")
    best = study_tables.as_data(one)["best"]
    assert (best["score"], best["seeds"]) == (92.0, [0, 1])


def test_the_best_run_is_that_of_the_lowest_score_where_less_is_better(
    store: Store, add: Add
) -> None:
    error = {"score_key": "val/mae", "direction": "min", "unit": "", "bounds": (0.0, None)}
    for network, score in (("d1_w1", 0.5), ("d1_w2", 0.25)):
        add("a", network, **error, score=score, best_score=score)
    (one,) = study_overview.read(store)
    assert one.best is not None and one.best.mean == 0.25


def test_studies_come_newest_last_under_names_of_ones_own_and_in_what_they_differ(
    store: Store, add: Add
) -> None:
    add("b", "d1_w1", lr=0.1, started_at="2026-01-02T00:00:00+00:00")
    add("a", "d1_w1", lr=0.2, started_at="2026-01-03T00:00:00+00:00")
    add("c", "d1_w1", lr=0.1, started_at="2026-01-01T00:00:00+00:00", dataset="pets")
    study_names.rename(store, "a", "mine")
    shown = study_overview.read(store)
    assert [one.title for one in shown] == ["c", "b", "mine"]
    assert [study_tables.differences(one, shown) for one in shown] == [
        "",  # of its data set there is no other one
        "recipe.lr 0.1",
        "recipe.lr 0.2",
    ]
    data = study_tables.as_data(shown[-1])
    assert (data["study"], data["name"], data["runs"]["finished"]) == ("a", "mine", 1)
    assert json.loads(json.dumps(data)) == data


def test_finalists_are_named_with_the_search_whose_they_are(
    store: Store, add: Add, make_record: MakeRecord
) -> None:
    add("a", "d1_w1")
    add("finals", "d1_w1", score=None, best_score=None, test_score=90.0)
    best = make_record(study="finals", network="d1_w1", score=None, test_score=90.0)
    store.write(store.study_folder("a") / BEST_FOLDER, best)
    shown = {one.folder: one for one in study_overview.read(store)}
    assert shown["finals"].finalists_of == "a"
    said = study_tables.differences(shown["finals"], list(shown.values()))
    assert said == "finalists of a"
    assert shown["a"].answer == best


@pytest.fixture
def begin_finalist(store: Store) -> Callable[..., Path]:
    """Begin a training of a finalist, as a search does: it learns from val, too."""

    def begin(study: str, **fields: object) -> Path:
        folder = store.folder(study, "d1_w1", 0)
        store.write_text(folder / CONFIG_FILE, json.dumps({"origin": FINALIST}))
        about = FIELDS | {"dataset": {"train_on_val": True, "content": 64 * "b"}} | fields
        store.write_text(store.study_folder(study) / studies.FILE, json.dumps(about))
        return folder

    return begin


def test_finalists_are_named_from_their_first_training_on(
    store: Store, add: Add, begin_finalist: Callable[..., Path], make_record: MakeRecord
) -> None:
    add("a", "d1_w1", lr=0.1)
    add("b", "d1_w1", lr=0.2)
    study_names.rename(store, "a", "sorting")

    def said() -> str:
        shown = study_overview.read(store)
        one = study_overview.one_of(shown, "finals")
        assert all("train_on_val" not in "".join(other.differs) for other in shown)
        return study_tables.differences(one, shown)

    folder = begin_finalist("finals")
    assert said() == "finalists of sorting"
    begin_finalist("finals", training={"epochs": 99})  # finalists.epochs
    assert said() == "finalists of sorting"
    record = make_record(study="finals", network="d1_w1", score=None, test_score=9.0)
    store.write(folder, record.model_copy(update={"origin": FINALIST}))
    assert said() == "finalists of sorting"
    begin_finalist("finals", model={"name": "resnet32"})  # a sibling, or its search is elsewhere
    assert said() == "finalists of a search"


def test_what_finalists_took_is_said_with_their_search(
    store: Store, add: Add, make_record: MakeRecord
) -> None:
    add("a", "d1_w1", wall_s=1800.0)
    outcome = study_outcome.describe(study_overview.read(store)[0])
    assert (outcome["runs done"], outcome["device time"]) == ("1", "30 min")
    tested = {"score": None, "best_score": None, "test_score": 90.0, "wall_s": 3600.0}
    for seed in (0, 1):
        add("finals", "d1_w1", **tested, seed=seed)
    best = make_record(study="finals", network="d1_w1", score=None, test_score=90.0)
    store.write(store.study_folder("a") / BEST_FOLDER, best)
    outcome = study_outcome.describe(study_overview.one_of(study_overview.read(store), "a"))
    assert outcome["runs done"] == "1, with its finalists 3"
    assert outcome["device time"] == "30 min, with its finalists 2.5 h"


def test_a_study_without_runs_or_with_a_damaged_file_is_listed(store: Store, add: Add) -> None:
    add("a", "d1_w1")
    (store.study_folder("a") / studies.FILE).write_text("{")
    store.write_text(store.study_folder("b") / studies.FILE, json.dumps(FIELDS))
    shown = study_overview.read(store)
    assert [(one.folder, one.network) for one in shown] == [("b", "resnet20"), ("a", "resnet20")]
    assert study_tables.listing(shown).row_count == 2


def test_fronts_are_compared_at_equal_cost_and_seeds_are_averaged(store: Store, add: Add) -> None:
    add("a", "d1_w1", params=100, score=80.0)
    add("a", "d1_w1", params=100, score=82.0, seed=1)
    add("a", "d1_w2", params=300, score=90.0)
    add("a", "d1_w3", params=200, score=70.0)  # that a smaller one beats
    add("b", "d1_w2", params=250, score=88.0)
    one, other = sorted(study_overview.read(store), key=lambda study: study.folder)
    assert study_tables.levels(one, other) == [
        (100, (81.0, None)),
        (250, (81.0, 88.0)),
        (300, (90.0, 88.0)),
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (3_900_000, "3.9 MB"), (2.5e13, "25 TB")],
)
def test_sizes_are_written_roughly(size: float, text: str) -> None:
    assert study_tables.bytes_text(size) == text
