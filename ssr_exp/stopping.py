"""Ctrl-C and SIGTERM end a command cleanly: what was begun is left so that the command goes on.

Left to themselves the two end a training in ways that are no use to whoever started it: Lightning
turns Ctrl-C into a silent exit, and waits with SIGTERM until the batch is over, to exit with 0.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

OURS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""Signals that stop, where nobody else has a use for them: a shell, nohup, Slurm's tools, Ray."""


_told: list[int] = []  # signals that came, until their block is left


class Stopped(BaseException):
    """The command was told to stop; no `Exception`, so that no training is recorded as failed.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def command(progress: Callable[[], tuple[int, int]] | None = None) -> Iterator[None]:
    """End the process with one sentence when it is told to stop in the block.

    Args:
        progress: how many networks are done, and of how many; None: nobody knows.

    Raises:
        SystemExit: then, with 130 or 143, by convention.
    """
    try:
        with signals():
            yield
    except Stopped as stop:
        _told.clear()
        print(sentence(*(progress() if progress else ())), file=sys.stderr)
        raise SystemExit(128 + stop.number) from None


@contextmanager
def job() -> Iterator[None]:
    """Let a launcher's process that is told to stop put its things in order, and then die of it.

    To the launcher it is lost, as if it had been killed. In the command's own process the command
    ends.
    """
    if not _free():
        with signals():
            yield
        return
    try:
        with signals():
            yield
    except Stopped as stop:
        print(sentence(), file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.signal(stop.number, signal.SIG_DFL)
        os.kill(os.getpid(), stop.number)
        raise  # never reached, but for a signal that the process keeps blocked


@contextmanager
def signals() -> Iterator[None]:
    """Raise `Stopped` wherever a block is when the process is told to stop.

    Blocks may be nested; signals that somebody else handles, or ignores, stay theirs. Where others
    keep `Stopped` to themselves, or end in an error of their own because of it, it is raised again
    when the next block begins or ends.
    """
    free = _free()
    for number in free:
        signal.signal(number, _raise)
    try:
        _check()
        yield
        _check()
    except (Exception, SystemExit):  # an error of others on the way out hides what happened
        _check()
        raise
    finally:
        for number in free:
            signal.signal(number, OURS[number])
        if free:
            _told.clear()


def sentence(done: int = 0, total: int | None = None) -> str:
    """Say how far a command came that was told to stop, and how to go on."""
    how = "repeat the command to go on after the last whole epoch."
    if total is None:
        return f"stopped: {how}"
    if total == 0:
        return "stopped before anything was trained: repeat the command."
    networks = "network is" if total == 1 else "networks are"
    return f"stopped; {done} of {total} {networks} done: {how}"


def _free() -> list[signal.Signals]:
    """List the signals that are ours to handle."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number, usual in OURS.items() if signal.getsignal(number) is usual]


def _raise(number: int, _: FrameType | None) -> None:
    _told.append(number)
    raise Stopped(number)


def _check() -> None:
    if _told and threading.current_thread() is threading.main_thread():
        raise Stopped(_told[-1])
