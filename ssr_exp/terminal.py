"""Where tables are printed: a terminal's width, or in a file as wide as they need."""

import hashlib
import logging
import math
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console, JustifyMethod
from rich.progress import track
from rich.table import Table

from ssr_exp.errors import one_line

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Rows = Sequence[tuple[str, str]]
EVERY_S = 15.0  # between two lines of progress where there is no terminal
CODE = 36  # characters of a network's code in a table and a line
RUN = re.compile(r"(?<![0-9])([0-9]+[a-z]*)(?:-\1(?![0-9a-z])){3,}")  # four of a number, or more
ENDED, PROGRESS = 25, 27  # levels of logging's: a network was trained; one goes on
logging.addLevelName(ENDED, "ENDED")
logging.addLevelName(PROGRESS, "PROGRESS")
WIDTH = 400  # columns when the output is no terminal: as many as any table takes


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Spell a number of things: 1 network, 2 networks; `plural` where it takes more than an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def first_of(names: Sequence[str], most: int) -> str:
    """Name the first of some things, and count the others: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def console() -> Console:
    """Open the standard output for tables; names in them are not read as markup."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> Table:
    """Lay out a table; no cell is ever cut.

    Args:
        title: above it.
        headings: of the columns.
        rows: their cells.
        left: headings of columns of text; the others are numbers.
        spare: headings of what a narrow terminal can do without, the first one first; of equal
            headings the last one goes.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(range(len(headings)))
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    room = console().width
    for name in spare:
        if sum(widths[at] + 3 for at in columns) + 1 <= room:
            break
        same = [at for at in columns if headings[at] == name]
        columns = [at for at in columns if at not in same[-1:]]
    laid = Table(title=title)
    for at in columns:
        justify: JustifyMethod = "left" if headings[at] in left else "right"
        laid.add_column(headings[at], justify=justify, no_wrap=True, min_width=widths[at])
    for row in rows:
        laid.add_row(*(row[at] for at in columns))
    return laid


def printable(text: str) -> str:
    """Replace what a terminal would act on, as a name in someone's record may hold it."""
    return "\n".join(map(one_line, text.split("\n")))


def block(rows: Rows, *, unbroken: Sequence[str] = (), width: int = WIDTH) -> list[str]:
    """Lay out names with texts beside them, as lines.

    Args:
        rows: names and texts.
        unbroken: names of texts that are copied; a terminal breaks them itself.
        width: of the terminal.
    """
    indent = max((len(name) for name, _ in rows), default=0) + 2
    lines = []
    for name, text in rows:
        room = WIDTH * 99 if name in unbroken or width < 2 * indent else width - indent
        parts = textwrap.wrap(printable(text), room, break_long_words=False, break_on_hyphens=False)
        first, *more = parts or [""]
        lines.append(f"{name + ':':<{indent}}{first}".rstrip())
        lines += [f"{'':<{indent}}{part}" for part in more]
    return lines


def shortened(code: str) -> str:
    """Shorten the code of a network for a table or a line; no two networks get the same.

    Numbers that repeat are counted, `d3-3-3-3-1_w16` is `d3(4)-1_w16`; what is still too long is
    cut, and told apart by a hash of all of it, so that it is called the same wherever it stands.
    """
    text = RUN.sub(lambda match: f"{match[1]}({match[0].count('-') + 1})", code)
    if len(text) <= CODE:
        return text
    return f"{text[: CODE - 10]}..{hashlib.sha256(code.encode()).hexdigest()[:8]}"


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Go through items, showing how far it is: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        yield from track(items, what, console=Console(stderr=True), transient=True)
        return
    began = said = time.monotonic()
    for number, item in enumerate(items):
        if (now := time.monotonic()) - said > EVERY_S:
            said, left_s = now, (now - began) * (len(items) / max(number, 1) - 1)
            log.info("%s: %d of %d, about %s left", what, number, len(items), duration(left_s))
        yield item


def likely(probability: float) -> str:
    """Write a probability, never more than it is; none is certain."""
    if probability > 0.995:
        return "over 99%"
    percent = math.floor(100 * probability + 1e-9)  # 100 * 0.29 is a little less than 29
    return f"{percent}%" if percent else "under 1%"


def duration(seconds: float) -> str:
    """Write a time roughly: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
