"""What is on a terminal after it was sent something: as much of one as tests need."""

from __future__ import annotations

import re

SENT = re.compile(
    r"\x1b\[(?P<private>\??)(?P<number>[\d;]*)(?P<what>[A-Za-z])|(?P<character>.)", re.S
)


def read(sent: str, columns: int) -> tuple[list[str], bool]:
    """Return the lines that are on a terminal, and whether its cursor is visible."""
    lines, row, column, is_visible = [""], 0, 0, True
    for part in SENT.finditer(sent):
        number, what, character = part["number"], part["what"], part["character"]
        if part["private"]:
            is_visible = what == "h" if number == "25" else is_visible
        elif what == "A":
            row = max(0, row - int(number or 1))
        elif what == "K":
            lines[row] = "" if number == "2" else lines[row][:column]
        elif what is not None:
            assert what == "m", f"{part[0]!r} is not known here"
        elif character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
        else:
            if column >= columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            line = lines[row].ljust(column)
            lines[row], column = line[:column] + character + line[column + 1 :], column + 1
        lines += [""] * (row + 1 - len(lines))
        # A terminal's own lines end a row; the driver of a pty sends both characters.
        column = 0 if character == "\n" else column
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines], is_visible
