from __future__ import annotations

import io
import itertools
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vt import read

from ssr_exp import terminal
from ssr_exp.signals import Stopped
from ssr_exp.terminal import Shown

NUMBERS = st.lists(st.sampled_from(["1", "2", "16", "16b"]), min_size=1, max_size=60)
CODES = st.tuples(NUMBERS, NUMBERS).map(lambda n: f"d{'-'.join(n[0])}_w{'-'.join(n[1])}")


class Screen(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LOOK_S", 0.01)
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


def test_without_a_terminal_lines_alone_are_printed_and_what_ended_last_is_among_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = iter([["one"], [], ["two", "three"]])
    with terminal.display(lambda: Shown(next(told, ["the last"]), [("running", "x")], 0.5, "s")):
        pass
    assert capsys.readouterr().out == "one\n"  # the block ended before the first look
    count = itertools.count()
    with terminal.display(lambda: Shown([f"{next(count)}"])):
        time.sleep(0.2)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [str(n) for n in range(next(count))] and len(lines) > 1


def test_on_a_terminal_lines_and_logs_stay_above_a_table_that_is_gone_at_the_end() -> None:
    told = iter([["d1 ended"]])
    with shown() as (screen, handler):
        with terminal.display(
            lambda: Shown(next(told, []), [("running", "d2")], 0.5, "1 of 2 done")
        ):
            time.sleep(0.1)
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
            with terminal.display(lambda lines=lines: Shown(lines, rows, 0.5, "half of it" * 9)):
                time.sleep(0.05)
    table = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", screen.getvalue()).replace("\r", "\n")
    widths = [len(line) for line in table.split("\n") if not line.startswith("x")]
    assert 0 < max(widths) <= columns
    assert "running" in table and "22 more;"[: columns - 5] in table
    assert set("".join(read(screen.getvalue(), columns)[0])) == {"x"}


def test_beside_something_else_that_moves_it_prints_lines_alone() -> None:
    with (
        shown() as (screen, _),
        terminal.display(lambda: Shown(["d1 ended"], [("running", "d2")]), moves=False),
    ):
        pass
    assert screen.getvalue() == "d1 ended\n"


@pytest.mark.parametrize("moves", [True, False])
def test_a_look_that_fails_ends_nothing(moves: bool) -> None:
    def broken() -> Shown:
        raise OSError("the disk is away")

    with shown() as (screen, _), terminal.display(broken, moves=moves):
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
            terminal.display(lambda: Shown(next(ended, []), [("running", "d2")], 0.5, "x")),
        ):
            raise error
        assert handler.stream is screen and sys.stdout is screen
    assert read(screen.getvalue(), 80) == (["d1 ended"], True)


@given(codes=st.sets(CODES, max_size=40))
def test_codes_are_shortened_and_none_stands_for_two(codes: set[str]) -> None:
    short = {code: terminal.shortened(code) for code in codes}
    assert len({*short.values()}) == len(codes)
    assert all(len(text) <= terminal.CODE for text in short.values())
    assert all(short[c] == c for c in codes if len(c) <= terminal.CODE and not repeats(c))


def repeats(code: str) -> bool:
    parts = re.split("[-_]", code.replace("d", "").replace("w", ""))
    return any(len({*parts[at : at + 4]}) == 1 for at in range(len(parts) - 3))


def test_numbers_that_repeat_are_counted() -> None:
    code = "d" + "-".join("3" * 50) + "_w" + "-".join(["16b"] * 49 + ["16"])
    assert terminal.shortened(code) == "d3(50)_w16b(49)-16"
    assert terminal.shortened("d3-3-3-33_w16-16-16") == "d3-3-3-33_w16-16-16"


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
