from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from screens import shown

from ssr_exp import terminal

NUMBERS = st.lists(st.sampled_from(["1", "2", "16", "16b"]), min_size=1, max_size=60)
CODES = st.tuples(NUMBERS, NUMBERS).map(lambda n: f"d{'-'.join(n[0])}_w{'-'.join(n[1])}")


@given(codes=st.sets(CODES, max_size=40))
def test_codes_are_shortened_and_none_stands_for_two(codes: set[str]) -> None:
    short = {code: terminal.shortened(code) for code in codes}
    assert len({*short.values()}) == len(codes)
    assert all(len(text) <= terminal.CODE for text in short.values())
    assert all(short[c] == c for c in codes if len(c) <= terminal.CODE and not repeats(c))


def repeats(code: str) -> bool:
    parts = re.split("[-_]", code.replace("d", "").replace("w", ""))
    return any(len({*parts[at : at + 4]}) == 1 for at in range(len(parts) - 3))


def test_a_block_without_rows_is_empty() -> None:
    assert terminal.block([]) == []


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
