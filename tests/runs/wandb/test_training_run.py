from __future__ import annotations

import getpass
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import wandb as client
import wandb_stub
from wandb_stub import Stub

from ssr_exp.config import Config, LoggerConf, WandbMode
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.wandb import training_run

Compose = Callable[..., Config]
MakeRecord = Callable[..., Record]

REMOTE = "https://git.example.org/someone/secret-project.git"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give W&B an environment of its own: no account, no settings, no server but loopback."""
    wandb_stub.isolate(tmp_path, monkeypatch)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(training_run, "_failed_at", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    client.teardown()
    yield
    client.teardown()


def start(
    folder: Path, mode: WandbMode = WandbMode.offline, run_id: str | None = None, **fields: Any
) -> Any:
    conf = LoggerConf(mode=mode, **fields)
    return training_run.start(
        conf,
        folder=folder,
        name="d1_w4",
        group="a-study",
        job_type="sentinel",
        tags=["digits"],
        config={"epochs": 7},
        run_id=run_id,
    )


def stored(folder: Path) -> bytes:
    """Read what W&B would send, as one; its own process writes until it is told to end."""
    client.teardown()
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("run-*.wandb")))


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


# Where it writes


def test_disabled_writes_nothing(tmp_path: Path, make_record: MakeRecord) -> None:
    before = files(tmp_path)
    run = start(tmp_path / "run", WandbMode.disabled)
    assert run is None
    training_run.finish(run, make_record())
    assert files(tmp_path) == before
    assert client.run is None


def test_offline_writes_below_the_runs_folder_alone(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    run = start(tmp_path / "run")
    run.log({"val/acc": 12.5})
    training_run.finish(run, make_record())
    assert client.run is None
    places = {path.relative_to(tmp_path).parts[0] for path in files(tmp_path)}
    assert places <= {"run", "wandb-own"}
    assert stored(tmp_path / "run")


def test_the_file_holds_the_record_and_says_whose_it_is(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    run = start(tmp_path / "run", project="a-project", tags=["mine"])
    training_run.finish(run, make_record(study="my-study", test_acc=43.21))
    content = stored(tmp_path / "run")
    fields = make_record(study="my-study", test_acc=43.21).model_dump(mode="json")
    for word in ("a-project", "a-study", "d1_w4", "digits", "mine", "my-study", "43.21", *fields):
        assert word.encode() in content


def test_each_run_of_a_process_has_a_file_of_its_own(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    for name in ("one", "two"):
        run = start(tmp_path / name)
        training_run.finish(run, make_record(network=f"network-{name}"))
    assert b"network-one" in stored(tmp_path / "one")
    assert b"network-two" not in stored(tmp_path / "one")
    assert b"network-one" not in stored(tmp_path / "two")


def test_a_run_that_was_left_open_is_closed_by_the_next(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    left = start(tmp_path / "one")
    run = start(tmp_path / "two")
    assert run.id != left.id
    training_run.finish(run, make_record(network="network-two"))
    assert b"network-two" not in stored(tmp_path / "one")


# What it tells


def secrets(tmp_path: Path) -> dict[str, re.Pattern[bytes]]:
    found = {
        "host": os.uname().nodename,
        "name": socket.gethostname(),
        "python": sys.executable,
        "home": str(Path.home()),
        "remote": "secret-project",
        "folder": str(tmp_path),
        "root": str(Path(__file__).parents[2]),
        "packages": "pytest-timeout",
        "console": "said aloud",
        "user": getpass.getuser(),
    }
    return {name: as_value(text) if len(text) < 5 else part(text) for name, text in found.items()}


def part(text: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<!\w)" + re.escape(text.encode()))


def as_value(text: str) -> re.Pattern[bytes]:
    """Match a whole protobuf or JSON string; checksums contain any two or three letters, too."""
    return re.compile(b'["%c]%b(?!\\w)' % (len(text), re.escape(text.encode())))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the machine a name, and the folder a repository."""
    monkeypatch.setattr(socket, "gethostname", lambda: "a-secret-host")
    for arguments in (["init", "-q"], ["remote", "add", "origin", REMOTE]):
        subprocess.run(["git", *arguments], check=True)
    print("said aloud")


@pytest.mark.usefixtures("repeatable", "machine")
def test_a_training_tells_nothing_of_the_machine(conf: Compose, tmp_path: Path) -> None:
    from ssr_exp.training import run

    asked = conf("logger=offline", f"dataset.root={tmp_path}/data")
    made = run.train(asked)
    assert made.status is Status.finished
    content = stored(Path(asked.paths.runs))
    for word in (made.network.encode(), b"val/acc", b'"cosine"'):
        assert word in content
    assert {name for name, text in secrets(tmp_path).items() if text.search(content)} == set()
    assert not list(tmp_path.rglob("requirements.txt"))
    assert not list(tmp_path.rglob("wandb-metadata.json"))


@pytest.mark.usefixtures("machine")
def test_a_run_tells_more_if_asked_to(tmp_path: Path, make_record: MakeRecord) -> None:
    training_run.finish(start(tmp_path / "run", share_machine=True), make_record())
    content = stored(tmp_path / "run")
    assert b"a-secret-host" in content
    assert sys.executable.encode() in content


def test_a_path_in_an_error_stays_at_home(make_record: MakeRecord) -> None:
    for error, told in (
        ("[Errno 28] No space left: '/home/me/runs'", "[Errno 28] No space left: '<path>'"),
        ("in C:\\Users\\me\\x.py, line 3", "in <path>, line 3"),
        ("cannot write to ~/runs/a: full", "cannot write to <path> full"),
        ("OSError: (/tmp/x) and /tmp/y", "OSError: (<path>) and <path>"),
        ("out of memory: 2 GiB; 3/4 and/or used", "out of memory: 2 GiB; 3/4 and/or used"),
    ):
        run = FakeRun()
        training_run.finish(run, make_record(status=Status.failed, error=error))  # type: ignore[arg-type]
        assert (run.summary["error"], run.exit_code) == (told, 1)


class FakeRun(client.Run):
    """Remembers what it was told."""

    summary: dict[str, Any]  # type: ignore[assignment]
    sync_dir = "my runs/study/d1_w4/seed0/wandb/run-1"
    dir = f"{sync_dir}/files"

    def __init__(self) -> None:
        self.summary = {}
        self.exit_code: int | None = None

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        self.exit_code = exit_code


def test_an_error_of_wandb_while_it_finishes_is_a_warning(
    make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeRun):
        def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> NoReturn:
            raise RuntimeError("the server went away")

    training_run.finish(Broken(), make_record())
    assert "the server went away" in caplog.text
    assert "runs that begin here in the next 10 minutes stay offline" in caplog.text
    assert f"later: wandb sync --no-skip-online '{FakeRun.sync_dir}'\n" in caplog.text
    assert "stay offline ('my runs/study'/*/seed*/wandb/offline-run-*)" in caplog.text
    training_run.tell_unsent(FakeRun(), RuntimeError("gone"), is_search=True)
    assert "stay offline ('my runs/study/d1_w4/seed0'/wandb/offline-run-*)" in caplog.text


@pytest.mark.slow
def test_what_the_server_does_not_take_is_told_costs_once_and_is_sent_by_what_is_printed(
    server: Stub,
    tmp_path: Path,
    make_record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = []
    with monkeypatch.context() as away:
        away.setattr(server, "stream", lambda *_: server.closing.wait(20))
        for name in ("one", "two"):
            runs.append(start(tmp_path / name, WandbMode.online, timeout_s=3))
            training_run.finish(runs[-1], make_record())
    assert [run.offline for run in runs] == [False, True]
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    command = said.rpartition("later: wandb ")[2].split()
    tool = [sys.executable, "-m", "wandb", *command]
    done = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (run,) = server.runs.values()
    assert (run.state, run.summary["status"]) == ("finished", "finished")


# Trouble


def test_what_wandb_refuses_is_a_sentence(tmp_path: Path) -> None:
    for fields in ({"project": "a/b"}, {"tags": ["x" * 99]}, {"tags": [""]}):
        with pytest.raises(SsrError, match=r"W&B does not start .*logger=disabled\.$") as caught:
            start(tmp_path / "run", **fields)
        assert "\n" not in str(caught.value)


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a server that accepts and never answers."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in kept:
        connection.close()


@pytest.mark.slow
def test_a_server_that_does_not_answer_delays_once_and_stops_nothing(
    tmp_path: Path,
    make_record: MakeRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    silent: str,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", silent)
    spent = []
    for name in ("one", "two"):
        begun = time.monotonic()
        run = start(tmp_path / "study" / name / "seed0", WandbMode.online, timeout_s=2)
        spent.append(time.monotonic() - begun)
        run.log({"val/acc": 12.5})
        training_run.finish(run, make_record())
    assert 2 <= spent[0] < 100  # 4 s on a quiet machine
    assert spent[1] < max(spent[0] - 1.5, 1.5)
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "W&B" in said and "offline" in said
    (pattern,) = re.findall(r"wandb sync (\S+)$", said)
    assert len(list(Path("/").glob(pattern.lstrip("/")))) == 2
    for name in ("one", "two"):
        assert b"val/acc" in stored(tmp_path / "study" / name)


def test_without_an_account_online_falls_back_to_offline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    run = start(tmp_path / "run", WandbMode.online, timeout_s=2)
    assert run.offline
    assert "wandb sync" in caplog.text
    run.finish()


def test_the_server_is_tried_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []

    def init(*, mode: str, **_: object) -> Any:
        modes.append(mode)
        if mode == "online":
            raise client.errors.CommError("away")

    monkeypatch.setattr(client, "init", init)
    monkeypatch.setattr(client, "teardown", lambda: None)
    for _ in range(2):
        start(tmp_path / "run", WandbMode.online)
    assert modes == ["online", "offline", "offline"]
    monkeypatch.setattr(training_run, "RETRY_AFTER_S", 0.0)
    start(tmp_path / "run", WandbMode.online)
    assert modes[3:] == ["online", "offline"]


def test_a_run_that_goes_on_is_the_one_that_was_opened_last(tmp_path: Path) -> None:
    assert training_run.opened_in(tmp_path) is None
    for name in (
        "offline-run-20260102_000000-second",
        "run-20260101_000000-first",
        "run-20260103_000000-third",
        "latest-run",
    ):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert training_run.opened_in(tmp_path) == "third"


def test_a_run_that_was_deleted_on_the_server_is_followed_by_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[str, Any, Any]] = []

    def init(*, mode: str, **of: Any) -> Any:
        asked.append((mode, of.get("id"), of.get("resume")))
        if "id" in of:
            told = f"run someone/ssr_exp/{of['id']} was previously created and deleted"
            raise client.errors.CommError(f"{told}; try a new run id (<Response [409]>)")
        return FakeRun()

    monkeypatch.setattr(client, "init", init)
    start(tmp_path / "run", WandbMode.online, run_id="abc")
    assert asked == [("online", "abc", "allow"), ("online", None, None)]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_process_of_wandb_that_died_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def init(**_: object) -> Any:
        asked.append("init")
        if asked == ["init"]:
            raise ConnectionResetError("Connection lost")
        return FakeRun()

    monkeypatch.setattr(client, "init", init)
    monkeypatch.setattr(client, "teardown", lambda: asked.append("teardown"))
    assert isinstance(start(tmp_path / "run"), FakeRun)
    assert asked == ["init", "teardown", "init"]
    assert "starting another one" in caplog.text
