from __future__ import annotations

import json
import logging
import math
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb as client
import wandb_stub
from wandb_stub import KEY, Run, Stub

from ssr_exp.config import Config, LoggerConf, RunsConf, RunsKind, WandbMode
from ssr_exp.errors import SsrError
from ssr_exp.runs import store
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.wandb import training_run

Compose = Callable[..., Config]
MakeRecord = Callable[..., Record]

ROOT = Path(__file__).parents[3]
STUDY = "resnet20-digits-0a1b2c3d"
ONLINE = LoggerConf(mode=WandbMode.online, timeout_s=60)  # it takes long on a busy machine alone


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give W&B an environment of its own, and see that nothing of it stays."""
    wandb_stub.isolate(tmp_path, monkeypatch)
    monkeypatch.setattr(training_run, "_failed_at", None)
    for name in ("here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    client.teardown()
    before = left()
    yield
    client.teardown()
    assert left() <= before
    assert list((tmp_path / "here").iterdir()) == []


def left() -> set[str]:
    """List the threads, processes and sockets of this process."""
    own = Path("/proc/self")
    tasks = [path.read_text().split() for path in own.glob("task/*/children")]
    links = [os.readlink(path) for path in own.glob("fd/*") if path.is_symlink()]
    sockets = [link for link in links if link.startswith("socket:")]
    return {str(t.ident) for t in threading.enumerate()}.union(*tasks, sockets)


def read(study: str = STUDY, **fields: Any) -> list[Record]:
    conf = RunsConf(kind=RunsKind.wandb, **({"timeout_s": 60} | fields))
    try:
        return training_run.records(conf, LoggerConf(), study=study)
    finally:
        assert "WANDB_SERVICE" not in os.environ  # jobs on other machines would look for it there
        assert not [*Path(tempfile.gettempdir()).glob("*/ssr_exp")]  # one folder for each run


def refusal(**fields: Any) -> str:
    with pytest.raises(SsrError) as caught:
        read(**fields)
    said = str(caught.value)
    assert re.fullmatch(r"cannot read runs from W&B: [^\n]{10,500}, or runs=local\.", said)
    assert KEY not in said
    return said


def logged(name: str, record: Record, **fields: Any) -> Run:
    """Make a run as the server has it once it was logged."""
    summary = {k: v for k, v in record.model_dump(mode="json").items() if v is not None}
    known = {"group": record.study, "state": "finished", "summary": summary | {"_step": 3}}
    return Run(name, **(known | fields))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]


# What is logged is read


def log(folder: Path, record: Record, *, rows: int = 3, open_: bool = False) -> Any:
    """Log a run online as training does."""
    config = record.model_dump(mode="json", exclude_none=True, exclude={"status", "wall_s"})
    run = training_run.start(
        ONLINE,
        folder=folder,
        name=record.network,
        group=record.study,
        job_type=record.kind.value,
        tags=["digits"],
        config={"asked": {"seed": record.seed}} | config,
    )
    assert run is not None
    assert not run.offline
    for epoch in range(rows):
        run.log({"epoch": epoch, "train/loss": 2.5 - epoch, "val/acc": 10.0 * epoch})
    if not open_:
        training_run.finish(run, record)
    return run


def test_what_is_logged_online_is_read_field_by_field(
    server: Stub, tmp_path: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    made = [
        make_record(study=STUDY, test_acc=96.5, test_loss=1 / 3, git_commit="0a1b2c3d"),
        make_record(study=STUDY, network="d1-1-1_w4-8-16", val_acc=90.0, params=2**53 + 1, seed=7),
        make_record(study=STUDY, latency_ms=0.25, latency_device="ünï", wall_s=1e-7, val_loss=0.0),
        make_record(study=STUDY, status=Status.diverged, error="nan", val_acc=None, val_loss=None),
    ]
    for number, record in enumerate(made):
        log(tmp_path / str(number), record)
    assert [len(run.history) for run in server.runs.values()] == [3] * 4
    assert [run.state for run in server.runs.values()] == ["finished"] * 3 + ["failed"]
    found = read()
    for one, other in zip(found, made, strict=True):
        assert one.model_dump() == other.model_dump()
    assert found == made
    assert warnings(caplog) == []


@pytest.mark.slow
def test_a_run_that_is_still_open_does_not_count_and_stays_open(
    server: Stub, tmp_path: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    record = make_record(study=STUDY)
    run = log(tmp_path / "run", record, open_=True)
    conf = RunsConf(kind=RunsKind.wandb, timeout_s=60)
    assert training_run.records(conf, LoggerConf(), study=STUDY) == []
    assert client.run is run
    training_run.finish(run, record)
    assert read() == [record]
    assert warnings(caplog) == []


@pytest.mark.slow
def test_a_run_can_be_logged_after_reading(
    server: Stub, tmp_path: Path, make_record: MakeRecord
) -> None:
    for number in range(2):
        assert len(read()) == number
        log(tmp_path / str(number), make_record(study=STUDY, seed=number))
    assert [record.seed for record in read()] == [0, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_a_training_that_was_logged_online_is_read_as_its_local_record(
    server: Stub, conf: Compose
) -> None:
    from ssr_exp.training import run

    asked = conf("logger=online", "logger.timeout_s=60", "trainer.test=true")
    made = run.train(asked)
    assert store.Store(asked.paths.runs).records() == [made]
    assert read(study=made.study) == [made]
    (row, *_) = [row for row in next(iter(server.runs.values())).history if "val/acc" in row]
    assert 0 <= row["val/acc"] <= 100


# Which runs are asked for


@pytest.mark.slow
def test_each_page_is_one_question(
    server: Stub, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "PAGE", 2)
    made = [make_record(study=STUDY, seed=seed) for seed in range(7)]
    server.add(*(logged(f"run{r.seed}", r) for r in made))
    assert read() == made
    asked = [(one["cursor"], one["perPage"]) for one in server.asked]
    assert asked == [(None, 2), ("2", 2), ("4", 2), ("6", 2)]
    assert set(server.questions) == {"Viewer", "GetDefaultEntity", "Runs"}


def test_only_the_studys_runs_are_asked_for(server: Stub, make_record: MakeRecord) -> None:
    for study in ("one", "two"):
        server.add(logged(study, make_record(study=study)))
    assert read(study="one") == [make_record(study="one")]
    assert read(study="three") == []
    assert [json.loads(asked["filters"]) for asked in server.asked] == [
        {"group": "one"},
        {"group": "three"},
    ]


@pytest.mark.slow
def test_further_filters_reach_the_server_beside_the_study(
    server: Stub, make_record: MakeRecord
) -> None:
    for seed in range(4):
        record = make_record(study=STUDY, seed=seed, val_acc=90.0 + seed)
        server.add(logged(f"run{seed}", record, config={"lab": seed % 2}))
    wanted = {"config.lab": 1, "summary_metrics.val_acc": {"$gt": 91.5}}
    assert [record.seed for record in read(filters=wanted)] == [3]
    (asked,) = server.asked
    assert json.loads(asked["filters"]) == {"$and": [{"group": STUDY}, wanted]}
    assert read(filters={"$or": [{"config.lab": 0}], "group": "another"}) == []


@pytest.mark.slow
def test_runs_are_looked_for_where_they_would_be_logged(
    server: Stub, make_record: MakeRecord
) -> None:
    places = [("someone", "ssr_exp"), ("team", "ssr_exp"), ("lab", "ssr_exp"), ("lab", "theirs")]
    server.projects |= set(places)
    logger = LoggerConf(entity="team")
    for conf, own in (
        (RunsConf(), LoggerConf()),
        (RunsConf(), logger),
        (RunsConf(entity="lab"), logger),
        (RunsConf(entity="lab", project="theirs"), logger),
    ):
        conf.timeout_s = 60
        training_run.records(conf, own, study=STUDY)
    assert [(asked["entity"], asked["project"]) for asked in server.asked] == places


# What is no record


def test_fields_that_the_summary_lacks_are_taken_from_the_config(
    server: Stub, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    whole = logged("run", make_record(study=STUDY)).summary
    known = ("network", "blocks", "widths", "seed", "params", "modifiers", "versions")
    config = {key: whole.pop(key) for key in known} | {"val_acc": 1.0, "asked": {"seed": 3}}
    server.add(Run("run", group=STUDY, state="finished", config=config, summary=whole))
    assert read() == [make_record(study=STUDY)]
    assert warnings(caplog) == []


STRANGE: dict[str, dict[str, Any]] = {
    "empty": {"summary": {}},
    "foreign": {"summary": {"loss": 0.5, "status": "ok"}, "config": {"lr": 0.1}},
    "nan": {"score": math.nan},
    "text": {"score": "97.5"},
    "more than all": {"score": 100.5},
    "a number for a name": {"network": 3},
    "no list": {"blocks": "3-1-3"},
    "code": {"versions": {"torch": {"_target_": "os.system"}}},
    "of a later version": {"schema_version": 99},
    "of another study": {"study": "another"},
    "nameless": {"network": None},
}


def test_what_is_no_record_is_skipped_with_one_warning_for_all(
    server: Stub, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    good = make_record(study=STUDY)
    whole = logged("", good).summary
    for name, strange in STRANGE.items():
        fields = strange if "summary" in strange else {"summary": whole | strange}
        server.add(logged(name, good, **fields))
    server.add(logged("good", good))
    assert read() == [good]
    (said,) = warnings(caplog)
    assert f"skipped {len(STRANGE)} of {len(STRANGE) + 1} finished runs of study {STUDY}" in said
    assert re.search(r"\(empty, as .{5,}\)$", said)


def test_a_run_that_schema_1_logged_is_read(server: Stub, make_record: MakeRecord) -> None:
    good = make_record(study=STUDY)
    summary = logged("", good).summary | {"schema_version": 1, "val_loss": 0.125}
    for name in ("score", "best_score", "test_score", "metrics", "scores"):
        summary.pop(name, None)
    server.add(logged("early", good, summary=summary))
    assert read() == [good]


def test_runs_that_were_not_finished_do_not_count(
    server: Stub, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    config = logged("", make_record(study=STUDY)).summary
    del config["status"]
    for state in ("running", "crashed", "killed", "preempted", "pending"):
        server.add(Run(state, group=STUDY, state=state, config=config, summary={"val/acc": 3.0}))
    assert read() == []
    assert warnings(caplog) == []


def test_a_record_that_is_whole_counts_whatever_became_of_its_run(
    server: Stub, make_record: MakeRecord
) -> None:
    made = make_record(study=STUDY)
    server.add(logged("lost", made, state="crashed"), logged("late", made, state="running"))
    assert read() == [made, made]


# Trouble


@pytest.mark.slow
def test_a_server_that_is_not_there_is_a_sentence_in_time() -> None:
    start = time.monotonic()
    said = refusal(timeout_s=1.0)
    assert time.monotonic() - start < 15  # 2 s on a quiet machine
    assert "no answer (more than 1 s): check network and WANDB_BASE_URL" in said
    assert "runs.timeout_s=SECONDS" in said


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named_once_it_was_tried_some_times() -> None:
    start = time.monotonic()
    assert "connection refused" in refusal(timeout_s=60.0)
    assert time.monotonic() - start < 45  # 17 s on a quiet machine


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.2, 30], ids=["slow", "silent"])
def test_a_slow_server_is_a_sentence_in_time(
    server: Stub, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, delay_s: float
) -> None:
    monkeypatch.setattr(training_run, "PAGE", 1)
    server.add(*(logged(f"run{n}", make_record(study=STUDY)) for n in range(200)))
    server.delay_s = delay_s
    start = time.monotonic()
    assert "no answer (more than 1.5 s)" in refusal(timeout_s=1.5)
    assert time.monotonic() - start < 15  # 3 s on a quiet machine
    assert len(server.asked) < 15


@pytest.mark.slow
def test_a_server_that_fails_again_and_again_is_a_sentence(server: Stub) -> None:
    server.refusal = (500, "out of order")
    assert "no answer (more than 1 s)" in refusal(timeout_s=1.0)


def test_an_api_key_that_is_missing_or_wrong_is_a_sentence(
    server: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("", "f" * 40, "short"):
        monkeypatch.setenv("WANDB_API_KEY", key)
        said = refusal()
        assert ("the API key is refused (" if key else "there is no API key here") in said
        assert re.search("type wandb login( --relogin)?, or set WANDB_API_KEY", said)
        assert not key or key not in said
    assert server.asked == []


@pytest.mark.slow
def test_nobody_is_asked_for_anything_at_a_terminal() -> None:
    code = """
import os
from ssr_exp.config import LoggerConf, RunsConf
from ssr_exp.errors import SsrError
from ssr_exp.runs.wandb import training_run
for address in (os.environ["WANDB_BASE_URL"], "nowhere"):
    os.environ["WANDB_BASE_URL"] = address
    try:
        training_run.records(RunsConf(), LoggerConf(), study="s")
    except SsrError as error:
        print("told:", error)
"""
    lines = at_a_terminal(code)
    assert all(line.startswith("told: cannot read runs from W&B: ") for line in lines)
    assert "there is no API key here" in lines[0]
    assert "base_url" in lines[1]
    assert len(lines) == 2


@pytest.mark.slow
def test_a_training_without_a_key_begins_offline_at_a_terminal(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from ssr_exp.config import LoggerConf, WandbMode
from ssr_exp.runs.wandb import training_run
conf, about = LoggerConf(mode=WandbMode.online, timeout_s=2), {{"group": "s", "config": {{}}}}
run = training_run.start(conf, folder=Path({str(tmp_path)!r}), name="n", job_type="j", **about)
print("offline:", run.settings.mode == "offline")
run.finish()
"""
    assert "offline: True" in at_a_terminal(code)


def at_a_terminal(code: str) -> list[str]:
    """Run code where it could ask for something, without a key; returns the lines on screen."""
    without_key = os.environ | {"WANDB_API_KEY": "", "PYTHONPATH": str(ROOT)}
    without_key.pop("WANDB_MODE", None)
    own, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=without_key
    )
    os.close(theirs)
    assert process.wait(timeout=100) == 0  # it would wait for an answer
    lines = os.read(own, 4096).decode().splitlines()
    os.close(own)
    return lines


@pytest.mark.slow
def test_a_project_that_is_not_there_is_a_sentence(server: Stub) -> None:
    assert "no project lab/nothing for this account" in refusal(entity="lab", project="nothing")
    assert "no project a/b for this account" in refusal(project="a/b")
    assert server.asked[1]["entity"] == "someone"
    assert "type runs.entity=NAME runs.project=NAME" in refusal(entity="lab")


@pytest.mark.slow
def test_a_project_that_is_not_ours_is_a_sentence(server: Stub) -> None:
    for server.refusal in ((403, "no access"), (404, "not found"), (200, "permission denied")):
        said = refusal(entity="lab")
        assert "no project lab/ssr_exp for this account (" in said
        assert server.refusal[1] in said


@pytest.mark.slow
def test_a_filter_that_is_refused_is_a_sentence(server: Stub, make_record: MakeRecord) -> None:
    server.add(logged("run", make_record(study=STUDY)))
    for server.refusal, why in ((None, "unknown operator '$near'"), ((200, "input: bad"), "bad")):
        said = refusal(filters={"config.seed": {"$near": 3}})
        assert "runs.filters={'config.seed': {'$near': 3}} is refused (" in said
        assert why in said and "runs.filters={state:finished}" in said


@pytest.mark.slow
def test_the_folder_that_was_named_for_wandb_is_named_again(
    server: Stub, make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "theirs"))
    server.add(logged("run", make_record(study=STUDY)))
    assert read() == [make_record(study=STUDY)]
    assert os.environ["WANDB_DIR"] == str(tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
