from __future__ import annotations

import gc
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import predicted
import pytest
import wandb as client
import wandb_stub
from predicted import STUDY
from wandb_stub import Stub

from ssr_exp import messages
from ssr_exp.config import LoggerConf, RunsConf, RunsKind, WandbMode
from ssr_exp.runs import store
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Fractions, Record
from ssr_exp.runs.wandb import charts as wandb_charts
from ssr_exp.runs.wandb import search_run, training_run
from ssr_exp.runs.wandb.search_run import SearchRun

MakeRecord = Callable[..., Record]

pytestmark = pytest.mark.slow

SEARCH = "smallest-01234567"
SMALL = "d1-1-1_w4-8-16"


@contextmanager
def apart(root: Path) -> Iterator[None]:
    """Keep W&B to folders below `root`, on a machine whose name is a secret."""
    with pytest.MonkeyPatch.context() as patch:
        wandb_stub.isolate(root, patch)
        patch.setattr(training_run, "_failed_at", None)
        patch.setattr(socket, "gethostname", lambda: "a-secret-host")
        (root / "own").mkdir()
        patch.chdir(root / "own")
        client.teardown()
        yield
        client.teardown()
        gc.collect()
        assert list((root / "own").iterdir()) == []


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    with apart(tmp_path):
        yield


@pytest.fixture(scope="module")
def records(make_record: MakeRecord) -> list[Record]:
    shares = Fractions(depth=(1 / 3, 1 / 3, 1 / 3), width=(0.25, 0.25, 0.25))
    full = Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0))
    baseline = make_record(study=STUDY, modifiers=full, network="d3-3-3", val_acc=98.0)
    common = {"study": STUDY, "modifiers": shares, "params": 5000}
    proposed = common | {"params": 9000, "origin": "round1"}
    return [
        baseline,
        make_record(origin="sentinel_joint", network=SMALL, val_acc=90.0, **common),
        make_record(network="d1-2-1_w4", val_acc=97.5, **proposed),
    ]


@dataclass(frozen=True)
class Logged:
    """A search that was told of two looks and its answer, offline, and its files in that order."""

    root: Path
    diary: SearchRun
    files: list[Path]
    text: str  # of its log

    def summary(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(inspected(self.files[number], "-summary"))
        return found

    def artifact(self) -> dict[str, Any]:
        (model,) = [one for one in rows(self.files[2], "artifact") if one["type"] == "model"]
        return model


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Logged:
    root, stream = tmp_path_factory.mktemp("logged"), io.StringIO()
    handler = logging.StreamHandler(stream)
    search_run.log.addHandler(handler)
    search_run.log.setLevel(logging.INFO)
    with apart(root):
        told = diary(root)
        for number in range(2):
            told.look(believed(number), records)
        told.answer(records[2], best(root))
        files = written(told)
    search_run.log.removeHandler(handler)
    search_run.log.setLevel(logging.NOTSET)
    return Logged(root, told, files, stream.getvalue())


def believed(number: int) -> Predictions:
    """What a search believes after a round, as it is handed over."""
    planned = {"network": "d1-2-1_w4", "low": 95.0, "mean": 96.0, "high": 97.0, "promise": 0.1}
    columns = {
        "network": ("a", "b", "c"),
        "params": (10, 100, 1000),
        "macs": (1, 2, 3),
        "gemms": (1, 1, 1),
        "mean": (50.0, 90.0, 80.0),
        "low": (40.0, 80.0, 70.0),
        "high": (60.0, 95.0, 90.0),
    }
    looks = [
        predicted.look(n, 10 + n, rmse=2.0 - n, spearman=0.5 if n else None, coverage=(0.5, 0.75))
        for n in range(number + 1)
    ]
    return predicted.predictions(
        *looks,
        search=SEARCH,
        levels=(0.5, 0.8),
        rounds=[
            {"number": 0, "planned": [{"network": SMALL}]},
            {"number": 1, "planned": [planned]},
        ],
        lattice=predicted.lattice(**columns),
    )


def diary(root: Path, mode: WandbMode = WandbMode.offline) -> SearchRun:
    folder = root / "runs" / STUDY / "search" / SEARCH
    folder.mkdir(parents=True, exist_ok=True)
    conf = LoggerConf(mode=mode, timeout_s=60, tags=["mine"])
    rounds = {"rounds": 2}
    return SearchRun(conf, store.Store(root / "runs"), folder, STUDY, rounds, is_asked=True)


def best(root: Path) -> Path:
    folder = root / "runs" / STUDY / "best"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("record.json", "network.json", "weights.pt", ".lock"):
        (folder / name).write_text(f"content of {name}")
    return folder


def inspected(path: Path, *words: str) -> str:
    """Read a file of W&B's with W&B's own tool."""
    tool = [client.util.get_core_path(), "leet", "inspect", "-no-observability", "-json"]
    command = [*tool, *words, "-run-file", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def rows(path: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in inspected(path).splitlines()]
    return [one[kind] for one in found if one["type"] == kind]


def written(own: SearchRun) -> list[Path]:
    client.teardown()
    return sorted(own.folder.glob("wandb/offline-run-*/run-*.wandb"))


def table(path: Path, key: str) -> dict[str, Any]:
    place = json.loads(inspected(path, "-summary"))["summary"][key]["path"]
    content: dict[str, Any] = json.loads((path.parent / "files" / place).read_text())
    return content


# Offline


def test_each_look_leaves_a_file_of_one_run_that_says_everything(logged: Logged) -> None:
    told = [logged.summary(number) for number in range(2)]
    assert told[0]["run_id"] == told[1]["run_id"]
    (run,) = rows(logged.files[1], "run")
    assert (run["run_group"], run["job_type"]) == (STUDY, "search")
    assert run["display_name"] == SEARCH
    assert told[1]["config"]["rounds"] == 2
    assert set(run["tags"]) == {"mine", STUDY}
    expected = {"round": 1, "rmse": 1.0, "spearman": 0.5, "coverage_80": 0.75, "best_params": 9000}
    summary = told[1]["summary"]
    assert {name: summary[f"search/{name}"] for name in expected} == expected
    assert "search/spearman" not in told[0]["summary"]
    for number, path in enumerate(logged.files[:2]):  # none twice
        history = [one["item"]["search/round"] for one in rows(path, "history")]
        assert history == [number]
    updates = [key for one in rows(logged.files[1], "config") for key in one["update"]]
    charts = {key for key in updates if "visualize" in key}
    assert charts == {f"_wandb.visualize.{chart.key}" for chart in wandb_charts.ALL}


def test_tables_hold_what_is_believed(logged: Logged) -> None:
    path = logged.files[1]
    tables = {chart.table: table(path, chart.table) for chart in wandb_charts.ALL}
    for chart in wandb_charts.ALL:
        assert set(chart.fields.values()) <= set(tables[chart.table]["columns"])
    left_out = tables[wandb_charts.LEFT_OUT.table]
    assert left_out["data"] == [["d1_w4", 0, 90, 91, 89, 92, -1]]
    named = [(row[0], row[1]) for row in tables[wandb_charts.FRONT.table]["data"]]
    trained = [(f, n) for f, n in named if f == "trained"]
    assert trained == [("trained", SMALL), ("trained", "d1-2-1_w4"), ("trained", "d3-3-3")]
    assert [n for f, n in named if f == "predicted"] == ["a", "b"]
    (proposed,) = tables[wandb_charts.BATCHES.table]["data"]
    assert proposed == [1, "d1-2-1_w4", 95, 96, 97, 97.5]
    looks = table(path, wandb_charts.LOOKS)
    assert [row[0] for row in looks["data"]] == [0, 1]


def test_the_answer_is_an_artifact_whose_copy_waits_below_the_study(logged: Logged) -> None:
    made = logged.artifact()
    assert made["name"] == f"best-{STUDY}"
    assert set(made["aliases"]) >= {"best", SEARCH}
    assert json.loads(made["metadata"])["network"] == "d1-2-1_w4"
    files = {one["path"]: Path(one["local_path"]) for one in made["manifest"]["contents"]}
    assert set(files) == {"record.json", "network.json", "weights.pt"}
    assert all(logged.diary.folder in place.parents for place in files.values())
    assert files["weights.pt"].read_text() == "content of weights.pt"
    assert "wandb sync" in logged.text
    assert not (logged.root / "wandb-own" / "data").exists()


def test_a_search_whose_run_was_deleted_goes_on_with_one_new_one(
    tmp_path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B gives no deleted id again: what is opened has another one."""
    asked: list[str] = []

    def start(*_: object, run_id: str, **__: object) -> Any:
        asked.append(run_id)
        run = MagicMock(offline=False)
        run.id = "fresh" if len(asked) == 2 or run_id == "fresh" else run_id
        return run

    monkeypatch.setattr(training_run, "start", start)
    own = diary(tmp_path)
    for number in range(3):
        own.look(believed(number), records)
    assert asked == [asked[0], asked[0], "fresh"] and asked[0] != "fresh"


def test_what_was_staged_offline_stays_when_a_later_run_is_sent(
    tmp_path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, `wandb sync` of the earlier run lacks the files of its artifact."""
    staged: list[Path] = []

    def start(conf: LoggerConf, **_: object) -> Any:
        staged.append(Path(os.environ["WANDB_DATA_DIR"]))
        staged[-1].mkdir(parents=True)
        run = MagicMock(offline=conf.mode is WandbMode.offline)
        run.id = "one"
        return run

    monkeypatch.setattr(training_run, "start", start)
    for number, mode in enumerate((WandbMode.offline, WandbMode.online)):
        diary(tmp_path, mode).look(believed(number), records)
    assert [place.exists() for place in staged] == [True, False]


@pytest.mark.parametrize("is_asked", [True, False])
def test_how_it_is_sent_is_printed_for_those_alone_who_speak_of_it(
    tmp_path: Path,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_asked: bool,
) -> None:
    run = SimpleNamespace(offline=True, log_artifact=lambda *_, **__: None, summary={})
    monkeypatch.setattr(SearchRun, "_run", lambda *_: nullcontext(run))
    with caplog.at_level(logging.INFO):
        replace(diary(tmp_path), is_asked=is_asked).answer(records[2], best(tmp_path))
    (said,) = (one for one in caplog.records if "wandb sync" in one.getMessage())
    assert (said.name == messages.file_log.name) is not is_asked


def test_the_answers_file_says_everything_that_the_last_look_said(logged: Logged) -> None:
    look, last = (logged.summary(number)["summary"] for number in (1, 2))
    assert {key for key in look if key[0] != "_"} < set(last)
    assert last["best/params"] == 9000
    assert not rows(logged.files[2], "history")


def test_the_search_tells_nothing_of_the_machine(logged: Logged) -> None:
    sent = [inspected(path, "-summary") for path in logged.files]
    sent += [line for path in logged.files for line in map(str, rows(path, "config"))]
    sent += [json.loads(logged.artifact()["metadata"])]
    content = str(sent).replace(str(logged.diary.folder), "")  # where the tool found the file
    for secret in ("a-secret-host", str(Path.home()), sys.executable, str(logged.root)):
        assert secret not in content
    assert not list(logged.root.rglob("requirements.txt"))


@pytest.mark.usefixtures("alone")
def test_looks_that_were_never_logged_are_made_up_for(
    tmp_path: Path, records: Sequence[Record]
) -> None:
    diary(tmp_path, WandbMode.disabled).look(believed(0), records)
    own = diary(tmp_path)
    own.look(believed(2), records)
    (path,) = written(own)
    assert [one["item"]["search/round"] for one in rows(path, "history")] == [0, 1, 2]


@pytest.mark.usefixtures("alone")
def test_disabled_writes_nothing(tmp_path: Path, records: Sequence[Record]) -> None:
    own = diary(tmp_path, WandbMode.disabled)
    own.look(believed(0), records)
    own.answer(records[0], best(tmp_path))
    assert list(own.folder.iterdir()) == []


@pytest.mark.usefixtures("alone")
def test_what_goes_wrong_is_a_warning(
    tmp_path: Path,
    records: Sequence[Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(**_: object) -> None:
        raise client.errors.CommError("a sad thing\nhappened")

    own = diary(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(client, "init", fail)
        own.look(believed(0), records)
    assert "the search goes on" in caplog.text
    assert "a sad thing happened" in caplog.text
    own.answer(records[0], tmp_path / "nothing")
    assert "nothing" in caplog.text
    own.look(believed(1), records)  # with the look that is missing
    assert [one["item"]["search/round"] for one in rows(written(own)[-1], "history")] == [0, 1]


# Online


def log_training(folder: Path, record: Record) -> None:
    run = training_run.start(
        LoggerConf(mode=WandbMode.online, timeout_s=60),
        folder=folder,
        name=record.network,
        group=record.study,
        job_type=record.kind.value,
        tags=["digits", record.origin or "", "x" * 100],
        config=record.model_dump(mode="json", exclude_none=True, exclude={"status", "wall_s"})
        | training_run.axes(record),
    )
    assert run is not None
    training_run.finish(run, record)


@pytest.mark.usefixtures("alone")
def test_trainings_and_search_arrive_apart_and_records_are_read_back(
    server: Stub, tmp_path: Path, records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    own = diary(tmp_path, WandbMode.online)
    own.look(believed(0), records[:2])
    for record in records:
        log_training(tmp_path / record.network, record)
    own.look(believed(1), records)
    own.answer(records[2], best(tmp_path))
    kinds = {run.title: run.job_type for run in server.runs.values()}
    expected = {"d3-3-3": "baseline", SMALL: "sentinel", "d1-2-1_w4": "proposed", SEARCH: "search"}
    assert kinds == expected
    assert {run.group for run in server.runs.values()} == {STUDY}
    sent = {run.title: run for run in server.runs.values()}
    assert sent["d1-2-1_w4"].tags == ["digits", "round1", "x" * 64]
    assert sent["d1-2-1_w4"].config["depth_1"] == 1 / 3
    assert sent["d1-2-1_w4"].config["width_3"] == 0.25
    assert not {"depth_1", "kind"} & set(sent["d1-2-1_w4"].summary)
    search = sent[SEARCH]
    assert [row["search/round"] for row in search.history if "search/round" in row] == [0, 1]
    assert search.state == "finished"
    assert search.table(wandb_charts.LEFT_OUT.table)["data"] == [["d1_w4", 0, 90, 91, 89, 92, -1]]
    assert len(search.table(wandb_charts.NETWORKS.table)["data"]) == 3
    (model,) = [one for one in server.artifacts if one.kind == "model"]
    assert (model.name, model.state, model.run) == (f"best-{STUDY}", "COMMITTED", search.name)
    assert set(model.aliases) == {"latest", "best", SEARCH}
    assert model.files["weights.pt"] == b"content of weights.pt"
    assert model.metadata["params"] == 9000
    assert not [*own.folder.glob(f"wandb/{search_run.STAGED}*")]
    found = training_run.records(
        RunsConf(kind=RunsKind.wandb, timeout_s=60), LoggerConf(), study=STUDY
    )
    assert found == records
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("alone", "instant")
def test_a_sweep_arrives_by_what_its_networks_are_for(
    server: Stub, tmp_path: Path, command: Callable[..., Any]
) -> None:
    words = ["logger=online", "logger.timeout_s=60", "modifiers=baseline,random"]
    ended = command(*words, "modifiers.count=1")
    assert ended.code == 0, ended.text
    assert {run.job_type for run in server.runs.values()} == {"baseline", "random"}
    (study,) = {run.group for run in server.runs.values()}
    for run in server.runs.values():
        kind = run.job_type or ""
        assert run.tags == ["resnet8", "digits", study, kind]
        shares = run.config["modifiers"]
        named = {f"width_{n}": share for n, share in enumerate(shares["width"], start=1)}
        assert named.items() <= run.config.items()
        assert (run.summary["origin"], run.summary["val_acc"]) == (kind, 50)


@pytest.mark.usefixtures("alone")
def test_a_look_that_the_server_did_not_take_is_sent_by_what_is_printed(
    server: Stub,
    tmp_path: Path,
    records: Sequence[Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = diary(tmp_path, WandbMode.online)
    own.look(believed(0), records)
    own.conf.timeout_s = 3
    with monkeypatch.context() as away, caplog.at_level(logging.INFO):
        away.setattr(server, "stream", lambda *_: server.closing.wait(20))
        for number in (1, 2):  # the second one offline
            own.look(believed(number), records)
        own.answer(records[2], best(tmp_path))
    (run,) = server.runs.values()
    assert [row["search/round"] for row in run.history] == [0]
    printed = [one.getMessage().rpartition(" wandb sync ") for one in caplog.records]
    commands = [command for _, found, command in printed if found]
    assert [command.startswith("--no-skip-online ") for command in commands] == [True, False]
    for command in commands:
        tool = f"{sys.executable} -m wandb sync {command}"
        sent = subprocess.run(tool, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert sent.returncode == 0, sent.stderr
    assert [row["search/round"] for row in run.history if "search/round" in row] == [0, 1, 2]
    assert run.summary["best/network"] == "d1-2-1_w4"


@pytest.mark.usefixtures("alone")
def test_all_files_of_a_search_become_one_run_once_they_are_sent(
    server: Stub, tmp_path: Path, records: Sequence[Record]
) -> None:
    own = diary(tmp_path)
    for number in range(3):
        own.look(believed(number), records)
    own.answer(records[2], best(tmp_path))
    folders = [str(path.parent) for path in written(own)]
    tool = [sys.executable, "-m", "wandb", "sync", *folders]
    sent = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert sent.returncode == 0, sent.stderr
    (run,) = server.runs.values()
    assert (run.group, run.job_type) == (STUDY, "search")
    assert [row["search/round"] for row in run.history if "search/round" in row] == [0, 1, 2]
    assert [row["_step"] for row in run.history] == [0, 1, 2]
    assert len(run.table(wandb_charts.LOOKS)["data"]) == 3
    assert run.summary["search/rmse"] == 0.0
    assert run.summary["best/network"] == "d1-2-1_w4"
    assert all(chart.table in run.summary for chart in wandb_charts.ALL)
    (model,) = [one for one in server.artifacts if one.kind == "model"]
    assert model.files["weights.pt"] == b"content of weights.pt"


# What is counted


def test_best_is_the_smallest_network_that_is_accurate_enough(records: Sequence[Record]) -> None:
    found = wandb_charts.best(records, max_drop=1.0)
    assert found == {"search/best_score": 97.5, "search/best_params": 9000}
    assert wandb_charts.best(records, max_drop=50.0)["search/best_params"] == 5000
    assert wandb_charts.best(records[1:], max_drop=1.0) == {}


def test_modifiers_of_many_segments_are_not_listed_one_by_one(make_record: MakeRecord) -> None:
    many = (1.0,) * (training_run.MOST_AXES + 1)
    assert training_run.axes(make_record(modifiers=Fractions(depth=many, width=many))) == {}


def test_a_name_for_an_artifact_is_one_that_wandb_takes() -> None:
    assert search_run.artifact("a b:c/d") == "best-a-b-c-d"
    assert len(search_run.artifact("x" * 500)) <= 128
