"""Start the real commands many times, without paying for their imports each time.

The driver has torch, Lightning, BoTorch and Hydra imported, and forks: the child runs the real
`train.py` or `search.py` by `runpy` in a process and a session of its own, which then meets real
signals. It only notes, besides, which trainings begin and end.
"""

from __future__ import annotations

import importlib
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssr_exp import signals
from tests.faults.laws import TRAININGS

ROOT = Path(__file__).parents[2]
SMALL = (
    "model=resnet8",
    "dataset=digits",
    "recipe=sgd_cosine",
    "recipe.warmup_epochs=0",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.progress=false",
)
HEAVY = """
sklearn.datasets torchvision lightning.pytorch botorch rich.live hydra wandb filelock
ssr_exp.app.searching ssr_exp.training.run ssr_exp.study
""".split()

Prepare = Callable[[], object]


@dataclass(frozen=True)
class Command:  # of the real command line
    script: str  # what is typed after `python`
    words: tuple[str, ...]  # its overrides
    epochs: int = 1  # of each training
    logger: str = "disabled"  # whether W&B is used

    def line(self, folder: Path) -> list[str]:
        folders = (f"paths.runs={folder}/runs", f"paths.data={folder}/data")
        epochs = f"trainer.max_epochs={self.epochs}"
        return [*SMALL, epochs, f"logger={self.logger}", *folders, *self.words]


@dataclass(frozen=True)
class Loop(Command):  # a script of a user's own that asks and tells; its words are its rounds
    def line(self, folder: Path) -> list[str]:
        return [f"{folder}/runs", *self.words, "0"]


class Child:  # a command that was started in a process and a session of its own
    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self._output = pid, output
        self.code: int | None = None  # as of `subprocess`: negative after a signal
        self._begun = time.monotonic()

    def is_over(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, limit_s: float = 300.0) -> int:
        end = time.monotonic() + limit_s
        while not self.is_over():
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                _, status = os.waitpid(self.pid, 0)
                self.code = os.waitstatus_to_exitcode(status)
                raise TimeoutError(f"a command took more than {limit_s:.0f} s")
            time.sleep(0.005)
        with suppress(ProcessLookupError):  # what it leaves running, where its exit was cut short
            os.killpg(self.pid, signal.SIGKILL)
        assert self.code is not None
        return self.code

    def send(self, number: int) -> bool:
        """Send a signal; returns whether the process was there to get it."""
        if self.is_over():
            return False
        os.kill(self.pid, number)
        return True

    @property
    def text(self) -> str:
        return self._output.read_text(errors="replace")


def warm_up() -> None:
    """Import what the commands import; nothing may be started that a fork would lose."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        importlib.import_module(name)


def start(command: Command, folder: Path, prepare: Prepare = lambda: None) -> Child:
    """Start a command in the folder of its runs and log; the new process calls `prepare` first."""
    output = folder / f"output{len(list(folder.glob('output*')))}.txt"
    output.touch()
    sys.stdout.flush()
    sys.stderr.flush()
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        _become(command, folder, output, prepare, writes)
    os.close(writes)
    os.read(reads, 1)  # the command begins now, or the process has ended
    os.close(reads)
    return Child(pid, output)


def _become(command: Command, folder: Path, output: Path, prepare: Prepare, ready: int) -> None:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        written = os.open(output, os.O_WRONLY | os.O_APPEND)
        os.dup2(written, 1)
        os.dup2(written, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        os.chdir(folder)
        _note_trainings(folder)
        prepare()
        sys.argv = [command.script, *command.line(folder)]
        with signals.at_once():  # as of the script's first line, which is read first
            os.close(ready)
            runpy.run_path(str(ROOT / command.script), run_name="__main__")
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _note_trainings(folder: Path) -> None:
    from ssr_exp.training import run

    log = os.open(folder / TRAININGS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    train = run._train

    def noted(job: run.Job, store: run.Store, where: Path) -> run.Record:
        name = where.relative_to(folder / "runs")
        os.write(log, f"begin\t{name}\t\n".encode())
        record = train(job, store, where)
        os.write(log, f"end\t{name}\t{record.status.value}\n".encode())
        return record

    run._train = noted

    from ssr_exp.app.ask_tell.telling import Telling

    begin, finish = Telling.begin, Telling._finish

    def asked(telling: Telling, request: Any) -> Any:
        name = telling.asking.folder(request).relative_to(folder / "runs")
        os.write(log, f"begin\t{name}\t\n".encode())
        return begin(telling, request)

    def told(telling: Telling, request: Any, record: run.Record) -> None:
        name = telling.asking.folder(request).relative_to(folder / "runs")
        finish(telling, request, record)
        os.write(log, f"end\t{name}\t{record.status.value}\n".encode())

    Telling.begin, Telling._finish = asked, told  # type: ignore[method-assign]


@contextmanager
def workplace(parent: Path | None = None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def below(pid: int, word: str) -> list[int]:
    """List the processes that a process started, itself or through others, with a word in them."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    below, found = {pid}, []
    while new := {p for p, parent in parents.items() if parent in below} - below:
        below |= new
    for one in below - {pid}:
        try:
            if word in Path(f"/proc/{one}/cmdline").read_text():
                found.append(one)
        except OSError:
            continue
    return sorted(found)


def kill(pid: int) -> bool:
    """Kill -9 a process; returns whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
