"""What sweeps and searches share."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins

from ssr_exp import signals
from ssr_exp.app.continuing import Continued
from ssr_exp.app.launching import Launches
from ssr_exp.app.sweeping import TrainCommand
from ssr_exp.runs import removal
from ssr_exp.runs.store import Store
from ssr_exp.training.sweep import Member


def test_a_command_keeps_the_studies_that_it_works_on_from_being_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    command = object.__new__(TrainCommand)
    command.line, command.used = Continued("train", ()), set()
    finals = [Member((), store, store.folder("finals", n, 0), n, network=n) for n in ("d1", "d2")]
    with command.line.uses:
        for member in finals:
            command.use([member])
        assert len(removal.searched(store, "finals")) == 1
    assert not removal.searched(store, "finals")


@pytest.mark.parametrize(
    ("launcher", "is_launched"),
    [("SlurmLauncher", True), ("SlurmLauncher", False), ("BasicLauncher", True)],
)
def test_a_command_that_is_stopped_says_how_jobs_that_go_on_are_ended(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    launcher: str,
    is_launched: bool,
) -> None:
    """None do before a round is launched, and while another command's trainings are waited for."""

    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    kind: Any = next(k for k in Plugins.instance().discover() if k.__name__ == launcher)
    store, command = Store(tmp_path), object.__new__(TrainCommand)
    command.line = Continued("train", ())
    asked = [Member((), store, store.folder("study", n, 0), n, network=n) for n in ("d1", "d2")]
    command.asked = {member.folder: member for member in asked}
    made = kind(name="my jobs") if launcher == "SlurmLauncher" else kind()
    monkeypatch.setattr(made, "launch", stopped)
    command.launches = Launches(made, lambda _: nullcontext())
    with pytest.raises(SystemExit), signals.handlers_restored():
        for number, usual in signals.OURS.items():
            signal.signal(number, usual)
        with signals.command(command._done):
            command.launches.train(asked) if is_launched else stopped()
    said = capsys.readouterr().err
    assert said.startswith("stopped; 0 of 2 networks are done: repeat the command")
    tells = "The jobs go on in Slurm: type scancel --user=$USER --name='my jobs' to end all"
    assert (tells in said) is (launcher == "SlurmLauncher" and is_launched)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "is_shown"),
    [
        (Continued("train", ()), True),
        (Continued("train", ("seed=1",), study="study"), False),  # none of its words is kept
        (Continued("search", ("seed=1",), study="study"), True),
    ],
)
def test_only_a_command_that_is_kept_is_said_to_be_printed(
    tmp_path: Path, line: Continued, is_shown: bool
) -> None:
    store, command = Store(tmp_path), object.__new__(TrainCommand)
    command.line, command.launches = line, Launches(BasicLauncher(), lambda _: nullcontext())
    asked = Member((), store, store.folder("study", "d1", 0), "d1", network="d1")
    command.asked = {asked.folder: asked}
    *_, shows, _ = command._done()
    assert ("show study" in shows) is is_shown
