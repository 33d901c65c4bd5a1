from __future__ import annotations

import itertools
import logging
import re
import sys
import time

import pytest
from screens import shown
from vt import read

from ssr_exp import live_display
from ssr_exp.live_display import Shown
from ssr_exp.signals import Stopped


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_display, "LOOK_S", 0.01)
    monkeypatch.setenv("TERM", "xterm")


def test_without_a_terminal_lines_alone_are_printed_and_what_ended_last_is_among_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = iter([["one"], [], ["two", "three"]])
    with live_display.display(
        lambda: Shown(next(told, ["the last"]), [("running", "x")], 0.5, "s")
    ):
        pass
    assert capsys.readouterr().out == "one\n"  # the block ended before the first look
    count = itertools.count()
    with live_display.display(lambda: Shown([f"{next(count)}"])):
        time.sleep(0.2)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [str(n) for n in range(next(count))] and len(lines) > 1


def test_on_a_terminal_lines_and_logs_stay_above_a_table_that_is_gone_at_the_end() -> None:
    told = iter([["d1 ended"]])
    with shown() as (screen, handler):
        with live_display.display(
            lambda: Shown(next(told, []), [("running", "d2")], 0.5, "1 of 2 done")
        ):
            waited = time.monotonic() + 20
            while "d1 ended" not in screen.getvalue() and time.monotonic() < waited:
                time.sleep(0.02)
            logging.getLogger("anything").info("somebody logs")
            print("somebody prints")
            time.sleep(0.1)
        assert handler.stream is screen
    sent = screen.getvalue()
    assert "1 of 2 done" in sent and "running" in sent
    assert read(sent, 80) == (["d1 ended", "somebody logs", "somebody prints"], True)


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_no_line_of_the_table_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "12")
    rows = [("running", f"d{n}" + "-1" * 40, "epoch 3 of 8, 12 min") for n in range(30)]
    with shown() as (screen, _):
        for lines in ([], ["x" * 90]):
            with live_display.display(
                lambda lines=lines: Shown(lines, rows, 0.5, "half of it" * 9)
            ):
                time.sleep(0.05)
    table = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", screen.getvalue()).replace("\r", "\n")
    widths = [len(line) for line in table.split("\n") if not line.startswith("x")]
    assert 0 < max(widths) <= columns
    assert "running" in table and "22 more;"[: columns - 5] in table
    assert set("".join(read(screen.getvalue(), columns)[0])) == {"x"}


def test_beside_something_else_that_moves_it_prints_lines_alone() -> None:
    with (
        shown() as (screen, _),
        live_display.display(lambda: Shown(["d1 ended"], [("running", "d2")]), moves=False),
    ):
        pass
    assert screen.getvalue() == "d1 ended\n"


@pytest.mark.parametrize("moves", [True, False])
def test_a_look_that_fails_ends_nothing(moves: bool) -> None:
    def broken() -> Shown:
        raise OSError("the disk is away")

    with shown() as (screen, _), live_display.display(broken, moves=moves):
        time.sleep(0.05)
    assert "disk" not in screen.getvalue()


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped(2), ValueError])
def test_an_error_of_the_block_goes_through_and_the_terminal_is_as_before(
    error: type[BaseException] | BaseException,
) -> None:
    ended = iter([["d1 ended"]])
    with shown() as (screen, handler):
        with (
            pytest.raises(error if isinstance(error, type) else type(error)),
            live_display.display(lambda: Shown(next(ended, []), [("running", "d2")], 0.5, "x")),
        ):
            raise error
        assert handler.stream is screen and sys.stdout is screen
    assert read(screen.getvalue(), 80) == (["d1 ended"], True)
