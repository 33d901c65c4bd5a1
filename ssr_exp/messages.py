"""What a command says where: its own words on the screen, all of them in its log file.

Trainings of one command may run in many processes, and each would warn of the same: the first to
say it leaves a mark that all of them see.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

OURS = "ssr_exp"
WARNING = "warning: "  # how a line begins that is one
COMMAND = "SSR_EXP_COMMAND"  # environment: the folder of marks, for all processes of a command
CALLED = "SSR_EXP_CALLED"  # environment: the folder of the scripts, where one of them was typed

NO_TEXTS = ("true", "false", "yes", "no", "on", "off", "null", "nan", "inf")  # to Hydra or YAML
FOLDER = ".hydra"  # of log files, in the runs folder

log = logging.getLogger(__name__)
file_log = logging.getLogger("aside")  # what is worth keeping, and not the screen
_texts_said: set[tuple[str, str]] = set()  # by command, in this process
_has_own_screen = False  # of this process's job
_lost: set[str | None] = set()  # commands whose log file cannot be written


@contextmanager
def command() -> Iterator[None]:
    """Say each warning once in a block, whichever of its processes has it."""
    before, shown = os.environ.get(COMMAND), warnings.showwarning
    marks = Path(tempfile.gettempdir()) / f"ssr_exp-{uuid.uuid4().hex}"
    os.environ[COMMAND] = str(marks)
    warnings.showwarning = _log_warning
    with suppress(OSError):  # then each process keeps its own in mind
        marks.mkdir(mode=0o700)
    try:
        yield
    finally:
        warnings.showwarning = shown
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.close()
        if before is None:
            del os.environ[COMMAND]
        else:
            os.environ[COMMAND] = before
        _remove(marks)


@contextmanager
def called_as(script: str | None) -> Iterator[None]:
    """Keep in mind for a block how commands are typed.

    Args:
        script: as it was typed, `train.py` or with its folder; None: `ssr train`.
    """
    before = os.environ.pop(CALLED, None)
    if script is not None:
        os.environ[CALLED] = os.path.dirname(script)
    try:
        yield
    finally:
        os.environ.pop(CALLED, None)
        if before is not None:
            os.environ[CALLED] = before


def spelled(command: str) -> list[str]:
    """Spell a command as it is typed here: `ssr train`, or `python train.py` as it was called.

    Args:
        command: train, search, report or export.

    Returns:
        Its first words.
    """
    folder = os.environ.get(CALLED)
    return ["ssr", command] if folder is None else ["python", os.path.join(folder, f"{command}.py")]


def typed(command: str, *words: str) -> str:
    """Write a command as a line to copy."""
    return shlex.join([*spelled(command), *words])


def key_of(word: str) -> str:
    """Name what a word of a command line sets: of `+recipe.lr=1` `recipe.lr`."""
    return word.lstrip("+~").partition("=")[0]


def part_of(word: str) -> str:
    """Name the part of the configuration that a word is of: of `dataset@x=digits` `dataset`."""
    return key_of(word).partition("@")[0].partition(".")[0]


def setting(key: str, value: object) -> str:
    """Write a word that Hydra reads as a text, such as a path, with quotes where it needs them.

    It reads 2024_01 as a number, and what has spaces, commas or brackets not at all. For a shell it
    is to be quoted yet, as `typed` does.
    """
    text = str(value)
    is_plain = re.fullmatch(r"[\w./+@%-]+", text, flags=re.ASCII) is not None
    is_number = re.fullmatch(r"[+-]?[\d_.]+(e[+-]?[\d_]+)?", text, flags=re.IGNORECASE) is not None
    if is_plain and not is_number and text.lower() not in NO_TEXTS:
        return f"{key}={text}"
    quoted = text.replace("${", "\\${").replace('"', '\\"')
    return f'{key}="{quoted}"'


def named(command: str) -> str:
    """Name a command in a sentence: `ssr train`, or `train.py`."""
    return f"ssr {command}" if CALLED not in os.environ else f"{command}.py"


def hear() -> None:
    """Let what is said be heard in a script or a notebook that has not set up its logging.

    `logging.getLogger("ssr_exp").setLevel("WARNING")` silences all but warnings.
    """
    ours = logging.getLogger(OURS)
    if ours.hasHandlers():
        return
    shown = screen()
    shown.addFilter(lambda _: not logging.getLogger().handlers)  # set up later: said there
    ours.addHandler(shown)
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)


def screen() -> logging.Handler:
    """Open standard error for what is logged, as Hydra's commands show it on standard output."""
    shown = logging.StreamHandler()
    shown.setFormatter(ScreenFormatter("%(message)s"))
    return shown


def _remove(marks: Path) -> None:
    """Remove the marks at once, as workers that outlive the command may still leave some."""
    gone = marks.with_suffix(".gone")
    with suppress(OSError):
        marks.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def job(*, has_own_screen: bool = False) -> Iterator[None]:
    """Let what Python warns of in a launcher's process be heard as the command's other warnings.

    Args:
        has_own_screen: whether what it prints goes into a log file of its own, as on Slurm: there
            each warning stands once, too, whoever else gave it, and it counts as given only there.
    """
    global _has_own_screen
    shown, warnings.showwarning = warnings.showwarning, _log_warning
    before, _has_own_screen = _has_own_screen, has_own_screen
    try:
        yield
    finally:
        warnings.showwarning = shown
        _has_own_screen = before


class ScreenFilter(logging.Filter):
    """Keep for the screen what is ours, and of all warnings each one once a command."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return f"{record.name}.".startswith(f"{OURS}.")
        return is_first(_text(record))


class ScreenFormatter(logging.Formatter):
    """Write a message as it stands, and say of a warning that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{WARNING}{text}" if record.levelno == logging.WARNING else text


class LogFile(logging.FileHandler):
    """A log file in the runs folder; one that cannot be written ends nothing.

    Args:
        folder: of the runs.
        name: of the file, below its folder `.hydra`.
    """

    def __init__(self, folder: str, name: str) -> None:
        place = Path(folder) / FOLDER / name
        super().__init__(place, encoding="utf-8", delay=True, errors="backslashreplace")
        self._place = place if folder.strip() else None

    def emit(self, record: logging.LogRecord) -> None:
        if self._place is None or os.environ.get(COMMAND) in _lost:
            return
        try:
            super().emit(record)
        except (OSError, ValueError) as error:  # of opening it
            self._give_up(error)

    def handleError(self, record: logging.LogRecord) -> None:
        """Print no traceback."""
        if isinstance(error := sys.exception(), OSError):
            self._give_up(error)

    def _open(self) -> Any:
        """Open it where the process is by now: a cluster's worker begins elsewhere."""
        assert self._place is not None
        self.baseFilename = os.path.abspath(self._place)
        os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
        return super()._open()

    def _give_up(self, error: OSError | ValueError) -> None:
        _lost.add(os.environ.get(COMMAND))
        with suppress(OSError):
            self.close()
        self.stream = None  # what it still held cannot be kept
        why = getattr(error, "strerror", None) or error
        log.warning(
            "the log file %s cannot be written (%s): going on without it.",
            *(str(text).encode(errors="backslashreplace").decode() for text in (self._place, why)),
        )


def _text(record: logging.LogRecord) -> str:
    """Read a record; of one that cannot be read, the place of its call, which is the same again.

    Such a record goes on to its handler, where logging says what is wrong with it and goes on.
    """
    try:
        return record.getMessage()
    except Exception:  # of any library's arguments
        return f"{record.pathname}:{record.lineno}"


def _log_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Log what Python warns of, in one line and without a place in somebody else's code."""
    text = " ".join(str(message).split())
    logging.getLogger("py.warnings").warning("%s: %s", category.__name__, text)


@lru_cache(maxsize=256)
def say_once(log: logging.Logger, text: str, level: int = logging.WARNING) -> None:
    """Log a text once in a process, not once for each run."""
    log.log(level, "%s", text)


def is_first(text: str) -> bool:
    """Say whether no process of the command has said a text before; true outside of commands."""
    marks = os.environ.get(COMMAND)
    if marks is None:
        return True
    if (marks, text) in _texts_said:
        return False
    _texts_said.add((marks, text))
    if _has_own_screen:
        return True
    mark = Path(marks) / hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # on another node, or after the command: better twice than not at all
        pass
    return True
