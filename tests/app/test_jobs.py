"""A job is of its command's study, and does not outlive one that was killed, but for training."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.runs.store import Store
from ssr_exp.training import opened_study, run

WORKER = """
import multiprocessing, os, sys, time
from collections.abc import Callable
from pathlib import Path

def work(place):
    from ssr_exp.app import jobs
    jobs.end_with_parent(look_s=0.05)
    if place.name == "busy":
        jobs._busy.set()
    Path(place, "pid").write_text(str(os.getpid()))
    while not Path(place, "over").exists():
        time.sleep(0.05)
    jobs._busy.clear()
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work, args=(Path(sys.argv[1]),))
    process.start()
    process.join()
"""


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", ["idle", "busy"])
def test_a_process_ends_with_its_killed_command_after_its_training(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "command.py").write_text(WORKER)
    place = tmp_path / name
    command = subprocess.Popen([sys.executable, tmp_path / "command.py", place])
    until((place / "pid").exists)
    time.sleep(0.2)
    pid = int((place / "pid").read_text())
    assert is_there(pid)
    command.send_signal(signal.SIGKILL)
    command.wait()
    if name == "busy":
        time.sleep(0.5)
        assert is_there(pid)  # its training goes on
        (place / "over").touch()
    until(lambda: not is_there(pid))


@pytest.mark.usefixtures("repeatable")
def test_a_job_whose_study_became_another_one_trains_nothing(conf: Callable[..., Config]) -> None:
    asked = conf("modifiers=baseline")
    name = opened_study.open(asked).name
    other = conf("modifiers=baseline", "recipe.lr=0.37", f"job_of={name}")
    with pytest.raises(SsrError, match=f"study {name} became .* meanwhile.*: repeat the command"):
        run.train(other)
    assert not Store(asked.paths.runs).records()
    assert run.train(conf("modifiers=baseline", f"job_of={name}")).study == name
