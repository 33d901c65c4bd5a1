"""Being told to stop: what is raised, what is said, and whose signals are left alone."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ssr_exp import signals
from ssr_exp.signals import Stopped

ROOT = Path(__file__).parents[1]
BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Start each test with the handlers of a process that nobody changed, and put them back."""
    before = {number: signal.getsignal(number) for number in BOTH}
    for number, handler in signals.OURS.items():
        signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ran(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that handles signals as one that a person started."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH, ids=lambda n: n.name)
def test_a_signal_stops_the_block_and_no_longer(number: signal.Signals) -> None:
    with pytest.raises(Stopped) as caught, signals.stoppable():
        with signals.stoppable():  # they may be nested
            pass
        send(number)
    assert caught.value.number == number
    assert {n: signal.getsignal(n) for n in BOTH} == signals.OURS
    assert not isinstance(caught.value, Exception)
    assert pickle.loads(pickle.dumps(caught.value)).number == number


def test_signals_that_others_handle_or_ignore_stay_theirs() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals.stoppable():
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert seen == [signal.SIGTERM]


def test_another_thread_may_run_a_block() -> None:
    done = []

    def work() -> None:
        with signals.at_once(), signals.stoppable(), signals.job():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_how_to_go_on(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = 3, 7, "ssr studies show pets", ""
    with pytest.raises(SystemExit) as caught, signals.at_once(), signals.command(lambda: progress):
        send(number)
    assert caught.value.code == code
    assert capsys.readouterr().err == (
        "stopped; 3 of 7 networks are done: repeat the command (ssr studies show pets prints it) "
        "to go on after the last whole epoch.\n"
    )


def test_the_sentence_is_true_before_anything_is_known() -> None:
    nothing = "stopped before anything more was trained; nothing is lost: repeat the command."
    assert signals.sentence(0, 0) == nothing
    assert signals.sentence(0, 1).startswith("stopped; 0 of 1 network is done")
    assert signals.sentence().startswith("stopped: repeat the command to go on")


@pytest.mark.parametrize(
    ("blocks", "number", "code", "printed"),
    [
        ("signals.job()", signal.SIGINT, -2, "begun\nin order\n"),
        ("signals.at_once(), signals.job()", signal.SIGTERM, -15, "begun\nin order\n"),
        ("signals.at_once(), signals.at_once()", signal.SIGTERM, 143, "begun\n"),
    ],
)
def test_a_launchers_process_dies_of_the_signal_in_order_and_a_command_that_begins_at_once(
    blocks: str, number: signal.Signals, code: int, printed: str
) -> None:
    program = f"""
import os
from ssr_exp import signals
with {blocks}:
    print("begun")
    try:
        os.kill(os.getpid(), {number.value})
    finally:
        print("in order")
"""
    ended = ran(program)
    assert (ended.returncode, ended.stdout) == (code, printed)
    assert ended.stderr.startswith("stopped: repeat the command")
    assert len(ended.stderr.splitlines()) == 1


def test_in_the_commands_own_process_a_job_ends_the_command() -> None:
    with (
        pytest.raises(SystemExit) as caught,
        signals.command(lambda: (0, 1, "", "")),
        signals.job(),
    ):
        send(signal.SIGTERM)
    assert caught.value.code == 143


def test_what_others_keep_to_themselves_is_raised_again() -> None:
    begun = []
    for again in (signals.stoppable, signals.job):
        with pytest.raises(Stopped), signals.stoppable():
            with contextlib.suppress(BaseException):
                send(signal.SIGTERM)
            with again():
                begun.append(again)
    with pytest.raises(Stopped), signals.stoppable(), contextlib.suppress(BaseException):
        send(signal.SIGTERM)
    with signals.stoppable():  # and is over then
        pass
    assert begun == []


@pytest.mark.parametrize("masks", [UnboundLocalError, SystemExit])
def test_an_error_of_others_because_of_it_does_not_hide_it(masks: type[BaseException]) -> None:
    with pytest.raises(signals.Stopped), signals.stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise masks("of a finally block that counts on having got further")


def test_an_error_before_anything_was_told_stays_itself() -> None:
    with pytest.raises(ValueError, match="other"), signals.stoppable():
        raise ValueError("other")


def test_where_no_error_can_leave_the_signal_comes_again() -> None:
    class Clumsy:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    begun = time.monotonic()
    with pytest.raises(Stopped), signals.stoppable():
        one = Clumsy()
        del one
        while time.monotonic() < begun + 20:
            time.sleep(0.01)
    assert time.monotonic() < begun + 10


def test_handlers_that_a_library_replaces_are_put_back() -> None:
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    before = {number: signal.getsignal(number) for number in BOTH}
    with signals.handlers_restored():
        signal.signal(signal.SIGTERM, mine)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in BOTH} == before


@pytest.mark.parametrize(
    ("block", "number", "status"),
    [
        ("stoppable()", signal.SIGINT, 7 << 8),
        ("stoppable()", signal.SIGTERM, signal.SIGTERM),
        ("at_once()", signal.SIGINT, 7 << 8),
        ("at_once()", signal.SIGTERM, signal.SIGTERM),
    ],
)
def test_a_forked_process_ends_as_if_it_had_no_handler_of_ours(
    block: str, number: signal.Signals, status: int
) -> None:
    """As a DataLoader's processes do, which know Ctrl-C by its own name alone."""
    program = f"""
import os, time
from ssr_exp import signals
with signals.{block}:
    if not (child := os.fork()):
        try:
            os.kill(os.getpid(), {number.value})
            time.sleep(9)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(8)
    print(os.waitpid(child, 0)[1])
"""
    ended = ran(program)
    assert (ended.stdout, ended.stderr) == (f"{int(status)}\n", "")


def test_a_forked_process_may_have_a_block_of_its_own() -> None:
    with signals.stoppable():
        if not (child := os.fork()):
            try:
                with signals.stoppable():
                    send(signal.SIGINT)
            except Stopped:
                try:
                    send(signal.SIGINT)  # as a fork again
                except KeyboardInterrupt:
                    os._exit(9)
            os._exit(8)
        assert os.waitpid(child, 0)[1] == 9 << 8


class _Handler:
    def __call__(self, *_: object) -> None:
        raise SystemExit(1)

    def handle(self, *_: object) -> None:
        raise SystemExit(1)


@pytest.mark.parametrize(
    "handler",
    [_Handler(), _Handler().handle, partial(_Handler().handle, 1)],
    ids=["object", "method", "partial"],
)
def test_an_exit_of_a_handler_is_told_from_others_whatever_kind_of_function_it_is(
    handler: Any,
) -> None:
    signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGUSR1)
        assert signals.is_of_handler(ended.value)
        with pytest.raises(SystemExit) as ended:
            sys.exit(1)
        assert not signals.is_of_handler(ended.value)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
