from __future__ import annotations

import io
import itertools
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ssr_exp import terminal


class Screen(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LOOK_S", 0.01)
    monkeypatch.setattr(terminal, "EVERY_S", 0.05)
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def shown() -> Iterator[tuple[Screen, logging.StreamHandler[Any]]]:
    """Take the standard output's place, and log to it as Hydra does."""
    screen, before, root = Screen(), sys.stdout, logging.getLogger()
    handler, level = logging.StreamHandler(screen), root.level
    sys.stdout = screen
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield screen, handler
    finally:
        sys.stdout = before
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.mark.parametrize(("is_new", "most"), [(False, 1), (True, 8)])
def test_without_a_terminal_only_news_are_lines_and_not_too_many(
    is_new: bool, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    counted = itertools.count()
    with (
        caplog.at_level(logging.INFO),
        terminal.live_line(lambda: (f"look {next(counted)}", is_new and next(counted)), bars=False),
    ):
        time.sleep(0.4)
    lines = [r.getMessage() for r in caplog.records if r.name == "ssr_exp.terminal"]
    assert 1 <= len(lines) <= most < next(counted)
    assert "\x1b" not in "".join(lines)


def test_on_a_terminal_logs_go_above_a_line_that_is_gone_at_the_end() -> None:
    with shown() as (screen, handler):
        with terminal.live_line(lambda: ("3 of 8 done", 3), bars=False):
            time.sleep(0.1)
            logging.getLogger("anything").info("a run ended")
            time.sleep(0.1)
        assert handler.stream is screen
    sent = screen.getvalue()
    assert "3 of 8 done" in sent
    assert "\r\x1b[2Ka run ended\n" in sent  # the line was wiped first
    assert sent.rstrip("\n").endswith("\x1b[2K")


def test_beside_bars_it_prints_whole_lines() -> None:
    with shown() as (screen, _), terminal.live_line(lambda: ("3 of 8 done", 3), bars=True):
        time.sleep(0.1)
    assert screen.getvalue() == "3 of 8 done\n"


@pytest.mark.parametrize("bars", [True, False])
def test_a_look_that_fails_ends_nothing(bars: bool) -> None:
    def broken() -> tuple[str, object]:
        raise OSError("the disk is away")

    with shown() as (screen, _), terminal.live_line(broken, bars=bars):
        time.sleep(0.05)
    assert "disk" not in screen.getvalue()


def test_an_error_of_the_block_goes_through_and_the_terminal_is_as_before() -> None:
    with shown() as (screen, handler):
        with (
            pytest.raises(KeyboardInterrupt),
            terminal.live_line(lambda: ("3 of 8 done", 3), bars=False),
        ):
            raise KeyboardInterrupt
        assert handler.stream is screen
    assert screen.getvalue().count("\x1b[?25h") == screen.getvalue().count("\x1b[?25l")


def test_a_narrow_terminal_is_spared_columns_and_no_cell_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headings = ["network", "MACs", "of baseline", "val acc %", "wall s"]
    rows = [["d9-9-9_w16-32-64", "125.70M", "100.0%", "93.21", "1,234.5"]]

    def printed(columns: int) -> str:
        with shown() as (screen, _):
            monkeypatch.setenv("COLUMNS", str(columns))
            laid = terminal.table(
                "title", headings, rows, left=["network"], spare=["wall s", "MACs"]
            )
            terminal.console().print(laid)
        return screen.getvalue()

    assert "1,234.5" in printed(120) and "125.70M" in printed(120)
    assert "1,234.5" not in printed(62) and "125.70M" in printed(62)
    for columns in (50, 62, 120):
        text = printed(columns)
        assert "d9-9-9_w16-32-64" in text and "93.21" in text and "…" not in text


def test_a_file_gets_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    laid = terminal.table("title", ["a", "b"], [["x" * 150, "y" * 150]], spare=["b"])
    terminal.console().print(laid)
    assert "y" * 150 in capsys.readouterr().out
