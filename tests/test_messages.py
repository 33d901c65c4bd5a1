"""What is said, how often, and where it is kept."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from ssr_exp import messages, terminal
from ssr_exp.app import jobs, launchers
from ssr_exp.app.command_line import overrides
from tests.conftest import ROOT


def record(name: str, level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, (), None)


@pytest.fixture
def command() -> Iterator[None]:
    with messages.command():
        yield


def shown(name: str, level: int, text: str) -> bool:
    return messages.ScreenFilter().filter(record(name, level, text))


def warned(text: str) -> bool:
    return shown("ssr_exp.x", logging.WARNING, text)


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (logging.INFO, "so it is"),
        (logging.WARNING, "warning: so it is"),
        (terminal.ENDED, "so it is"),
    ],
)
def test_a_warning_says_on_the_screen_that_it_is_one(level: int, said: str) -> None:
    assert messages.screen().format(record("ssr_exp.x", level, "so it is")) == said


@pytest.mark.usefixtures("command")
def test_a_warning_is_shown_once_in_all_processes_of_a_command() -> None:
    code = (
        "import logging; from ssr_exp.messages import ScreenFilter;"
        "r = logging.LogRecord('ssr_exp.x', 30, '', 0, 'twice', (), None);"
        "print(ScreenFilter().filter(r))"
    )
    told = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert told == ["True\n", "False\n"]
    assert not warned("twice") and warned("another")


def test_the_next_command_warns_again_and_nothing_is_left() -> None:
    for _ in range(2):
        with messages.command():
            marks = Path(os.environ[messages.COMMAND])
            assert [warned("w"), warned("w"), marks.is_dir()] == [True, False, True]
        assert not marks.exists() and messages.COMMAND not in os.environ


def test_a_worker_that_outlives_its_command_leaves_nothing_and_says_a_warning_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with messages.command():
        marks = Path(os.environ[messages.COMMAND])
        assert messages.is_first("before")
    monkeypatch.setenv(messages.COMMAND, str(marks))
    assert [messages.is_first("after") for _ in range(2)] == [True, False]
    assert not list(marks.parent.glob(f"{marks.name}*"))


def test_a_place_that_takes_no_marks_ends_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "away"))
    with messages.command():
        assert [warned("w"), warned("w")] == [True, False]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("command")
def test_a_warning_in_a_jobs_own_log_file_is_said_on_the_screen_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*, apart: bool) -> list[bool]:
        monkeypatch.setattr(messages, "_texts_said", set())  # as in a process of its own
        with messages.job(has_own_screen=apart):
            return [messages.is_first("w") for _ in range(2)]

    assert told(apart=True) == told(apart=True) == [True, False]
    assert told(apart=False) == [True, False]
    assert told(apart=False) == [False, False]
    assert told(apart=True) == [True, False]


@pytest.mark.parametrize("preset", launchers.PRESETS)
def test_only_slurms_jobs_print_into_log_files_of_their_own(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = OmegaConf.load(ROOT / f"ssr_exp/conf/hydra/launcher/{preset}.yaml")
    assert not jobs.has_own_screen()
    monkeypatch.setattr(
        HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": {"launcher": conf}})
    )
    assert jobs.has_own_screen() == (preset == "submitit_slurm")


def test_outside_of_a_command_everything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(messages.COMMAND, raising=False)
    assert messages.is_first("w") and messages.is_first("w")


@pytest.mark.usefixtures("command")
def test_the_screen_shows_our_own_words_and_everybodys_warnings() -> None:
    assert shown("ssr_exp.training", logging.INFO, "a")
    assert not shown("hydra._internal.core_plugins.basic_launcher", logging.INFO, "a")
    assert not shown("ssr_experiment", logging.INFO, "a")
    assert shown("anybody", logging.ERROR, "a")


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError


WRONG = {
    "a text for a number": ("%d", ("x",)),
    "too few": ("%s and %s", ("x",)),
    "too many": ("none", ("x", "y")),
    "a missing name": ("%(name)s", ({"key": 1},)),
    "a half specifier": ("100 %", ("x",)),
    "no text": (Unreadable(), ()),
    "an argument that is no text": ("%s", (Unreadable(),)),
}


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.CRITICAL])
@pytest.mark.parametrize(("text", "arguments"), WRONG.values(), ids=list(WRONG))
def test_a_wrongly_formatted_log_call_ends_nothing_and_is_told_once(
    text: object,
    arguments: tuple[object, ...],
    level: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = logging.StreamHandler()
    screen.addFilter(messages.ScreenFilter())
    logger = logging.Logger("ssr_exp.x")
    logger.addHandler(screen)
    logger.addHandler(kept := messages.LogFile(str(tmp_path), "train.log"))
    for _ in range(3):
        logger.log(level, text, *arguments)
    logger.warning("the next one")
    kept.close()
    err = capsys.readouterr().err
    assert err.count("--- Logging error ---") == (3 if level < logging.WARNING else 1)
    assert err.endswith("the next one\n")
    assert (tmp_path / ".hydra/train.log").read_text() == "the next one\n"


@pytest.mark.usefixtures("command")
def test_what_python_warns_of_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("two\n  lines", UserWarning, stacklevel=1)
    assert caplog.messages == ["UserWarning: two lines"]


@pytest.mark.usefixtures("command")
def test_a_log_file_keeps_everything_below_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = messages.LogFile("runs", "train.log")
    monkeypatch.chdir(tmp_path)  # as a cluster's worker does before its first word
    handler.emit(record("x", logging.INFO, "kept \udcff"))
    handler.close()
    assert (tmp_path / "runs/.hydra/train.log").read_text() == "kept \\udcff\n"


@pytest.mark.usefixtures("command")
def test_a_log_file_that_cannot_be_written_is_told_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").touch()
    for _ in range(2):
        handler = messages.LogFile(str(tmp_path / "runs"), "train.log")
        handler.emit(record("x", logging.INFO, "lost"))
        handler.close()
    assert len([m for m in caplog.messages if "cannot be written" in m]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("command")
def test_a_full_disk_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/train.log").symlink_to("/dev/full")
    handler = messages.LogFile(str(tmp_path), "train.log")
    for _ in range(2):
        handler.handle(record("x", logging.INFO, "lost"))
    handler.close()
    (told,) = (m for m in caplog.messages if "cannot be written" in m)
    assert "No space left on device" in told
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("name", ["a\0b", "a\ud800"], ids=["null", "surrogate"])
def test_a_name_that_no_file_can_have_ends_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages.LogFile(name, "train.log").emit(record("x", logging.INFO, "lost"))
    assert "cannot be written" in caplog.text


@pytest.mark.usefixtures("command")
def test_no_folder_is_no_log_file() -> None:
    messages.LogFile("", "train.log").emit(record("x", logging.INFO, "lost"))
    assert not Path("/.hydra/train.log").exists()


@pytest.mark.parametrize(
    "text", ["runs", "/data/a b (1)", "2024_01", "a,b", "1e3", "true", 'a"b', "it's", "x=1", "[a]"]
)
def test_a_setting_is_read_by_hydra_as_the_text_that_it_is(text: str) -> None:
    (override,) = overrides.parse([messages.setting("paths.runs", text)])
    assert override.value() == text and not override.is_sweep_override()
    (typed,) = shlex.split(shlex.join([messages.setting("paths.runs", text)]))
    assert overrides.Checker("report").check([typed])
