"""Ctrl-C and SIGTERM end a command cleanly: what was begun is left so that the command goes on.

Left to themselves the two end a training in ways that are no use to whoever started it: Lightning
turns Ctrl-C into a silent exit, and waits with SIGTERM until the batch is over, to exit with 0.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

OURS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""Signals that stop, where nobody else has a use for them: a shell, nohup, Slurm's tools, Ray."""

AGAIN_S = 0.1  # after which a signal is sent again that had no effect

_received: list[int] = []  # signals that came, until their block is left
_handling: set[int] = set()  # the process that set our handlers; those that it forks inherit them
SHOW_CURSOR = b"\x1b[?25h"


class Stopped(BaseException):
    """The command was told to stop; no `Exception`, so that no training is recorded as failed.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def at_once() -> Iterator[None]:
    """End the process with one sentence as soon as it is told to stop: nothing is begun yet.

    Imports, and what composes configurations, do not stand being stopped in the middle. A block
    inside this one that begins something puts its things in order first.
    """
    with _handled(_leave):
        yield


@contextmanager
def command(progress: Callable[[], tuple[int, int, str, str]]) -> Iterator[None]:
    """End the process with one sentence when it is told to stop in the block.

    Args:
        progress: how many networks are done, of how many, what prints the command that goes on
            (empty: nothing does), and what goes on without the command (a sentence, or empty).

    Raises:
        SystemExit: then, with 130 or 143, by convention.
    """
    try:
        with stoppable():
            yield
    except Stopped as stop:
        _received.clear()
        print(sentence(*progress()), file=sys.stderr)
        raise SystemExit(128 + stop.number) from None


@contextmanager
def job() -> Iterator[None]:
    """Let a launcher's process that is told to stop put its things in order, and then die of it.

    To the launcher it is lost, as if it had been killed. In the command's own process the command
    ends.
    """
    is_launchers = bool(_free())
    try:
        with stoppable():
            yield
    except Stopped as stop:
        if is_launchers:
            print(sentence(), file=sys.stderr)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            signal.signal(stop.number, signal.SIG_DFL)
            os.kill(os.getpid(), stop.number)
        raise  # there, too, if the process keeps the signal blocked


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` wherever a block is when the process is told to stop.

    Blocks may be nested; signals that somebody else handles, or ignores, stay theirs. Where others
    keep `Stopped` to themselves, or make another error of it, it is raised again when the next
    block begins or ends.
    """
    with _handled(_raise) as is_outermost:
        shown, sys.unraisablehook = sys.unraisablehook, _send_again(sys.unraisablehook)
        try:
            check()
            yield
            check()
        except Stopped:
            raise
        except BaseException:  # of somebody else's `finally`, which counts on having got further
            check()
            raise
        finally:
            sys.unraisablehook = shown
            if is_outermost:
                _received.clear()


@contextmanager
def handlers_restored(numbers: Iterable[signal.Signals] = OURS) -> Iterator[None]:
    """Put the handlers of before a block back, whatever it sets: Ray sets its own."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers if is_main}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def sentence(
    done: int = 0, total: int | None = None, printed_by: str = "", left_running: str = ""
) -> str:
    """Say how far a command came that was told to stop, and how to go on."""
    printed = f" ({printed_by} prints it)" if printed_by else ""
    how = f"repeat the command{printed} to go on after the last whole epoch."
    if total is None:
        return f"stopped: {how}"
    if total == 0:
        return "stopped before anything more was trained; nothing is lost: repeat the command."
    networks = "network is" if total == 1 else "networks are"
    return f"stopped; {done} of {total} {networks} done: {how} {left_running}".rstrip()


@contextmanager
def _handled(handler: Any) -> Iterator[bool]:
    """Handle what is ours to handle for the time of a block; yields whether anything is."""
    free, before = _free(), {*_handling}
    with handlers_restored(free):
        if free:
            _handling.clear()
            _handling.add(os.getpid())
        try:
            for number in free:
                signal.signal(number, handler)
            yield bool(free)
        finally:
            _handling.clear()
            _handling.update(before)


def _free() -> list[signal.Signals]:
    """List the signals that are ours to handle."""
    if threading.current_thread() is not threading.main_thread():
        return []
    inherited = (_raise,) if _is_forked() else ()
    ours = {n: (usual, _leave, *inherited) for n, usual in OURS.items()}
    return [n for n, handlers in ours.items() if signal.getsignal(n) in handlers]


def _is_forked() -> bool:
    """Say whether our handlers were set by the process that this one was forked from."""
    return bool(_handling) and os.getpid() not in _handling


def _end_fork(number: int) -> None:
    """End a process as one that never had our handlers: a reader of somebody's DataLoader, say."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _leave(number: int, _: FrameType | None) -> None:
    if _is_forked():
        return _end_fork(number)
    with suppress(Exception):  # of a stream that was just being written
        sys.stdout.flush()
    os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"stopped: repeat the command.\n")
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    if _is_forked():
        return _end_fork(number)
    _received.append(number)
    raise Stopped(number)


def _send_again(show: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Send the signal again where `Stopped` was raised in a place that errors cannot leave."""

    def hook(lost: Any) -> None:
        if isinstance(lost.exc_value, Stopped):
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), lost.exc_value.number))
            again.daemon = True
            again.start()
        else:
            show(lost)

    return hook


def is_of_handler(error: BaseException) -> bool:
    """Say whether a handler of a signal raised an error, as those of Slurm's and Ray's jobs do."""
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    codes = {_code(handler) for handler in handlers if callable(handler)} - {None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _code(handler: Any) -> Any:
    """Find the code of a function, a method, a partial or an object that can be called."""
    while isinstance(handler, partial):
        handler = handler.func
    own = handler if hasattr(handler, "__code__") else vars(type(handler)).get("__call__")
    return getattr(own, "__code__", None)


def check() -> None:
    """Raise `Stopped` again where somebody made another error of it; else nothing.

    Raises:
        Stopped: if this process was told to stop, and its block is not left yet.
    """
    if _received and threading.current_thread() is threading.main_thread():
        raise Stopped(_received[-1]) from None
