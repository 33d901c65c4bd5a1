"""Where tables are printed: a terminal's width, or in a file as wide as they need."""

import hashlib
import logging
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console, Group, JustifyMethod
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress import track
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssr_exp.errors import one_line

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Rows = Sequence[tuple[str, str]]
Say = Callable[[], "Shown"]
Show = Callable[["Shown"], object]
LOOK_S = 1.0  # between two looks at what a display shows
LOOK_SHARE = 20  # a look's time is at most so small a part of the time
EVERY_S = 15.0  # between two lines of progress where there is no terminal
PATIENCE_S = 10.0  # for the last look of a display, which a slow disk may hold up
ROWS = 8  # of a table that changes
BAR = 16  # columns
CODE = 36  # characters of a network's code in a table and a line
RUN = re.compile(r"(?<![0-9])([0-9]+[a-z]*)(?:-\1(?![0-9a-z])){3,}")  # four of a number, or more
ENDED, PROGRESS = 25, 27  # levels of logging's: a network was trained; one goes on
logging.addLevelName(ENDED, "ENDED")
logging.addLevelName(PROGRESS, "PROGRESS")
WIDTH = 400  # columns when the output is no terminal: as many as any table takes


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Spell a number of things: 1 network, 2 networks; `plural` where it takes more than an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


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
    indent = max(len(name) for name, _ in rows) + 2
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
    """Write a probability; none is certain."""
    percent = f"{probability:.0%}"
    return {"100%": "over 99%", "0%": "under 1%"}.get(percent, percent)


def duration(seconds: float) -> str:
    """Write a time roughly: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Shown:
    """What a display says at a look.

    Args:
        lines: that are new, and stay.
        rows: of a table below them, which changes.
        done: of a whole, as a share.
        state: how far that is, in words.
    """

    lines: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    done: float = 0.0
    state: str = ""


@contextmanager
def display(say: Say, *, moves: bool = True) -> Iterator[None]:
    """Show for the time of a block how far something is: lines, and below them a table.

    Where there is no terminal the lines alone are printed. When the block ends, however that is,
    they are complete, the table is gone, and the terminal is as it was.

    Args:
        say: called about once a second, by one thread at a time.
        moves: whether the table may be shown; not beside something else that moves.
    """
    over = threading.Event()
    with ExitStack() as stack:
        show = stack.enter_context(_screen()) if moves and can_move() else _print_lines
        thread = threading.Thread(target=_repeat, args=(say, show, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=PATIENCE_S)
            if not thread.is_alive():
                _look(say, show)


def can_move() -> bool:
    """Say whether the standard output is a terminal whose lines can be written anew."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


def _repeat(say: Say, show: Show, over: threading.Event) -> None:
    took = 0.0
    while not over.wait(max(LOOK_S, LOOK_SHARE * took)):
        start = time.monotonic()
        _look(say, show)
        took = time.monotonic() - start


def _look(say: Say, show: Show) -> None:
    try:
        show(say())
    except Exception as error:  # what is only shown must not end what is done
        log.debug("no progress is shown: %s", error)


def _print_lines(shown: Shown) -> None:
    if shown.lines:
        print("\n".join(map(printable, shown.lines)), flush=True)


@contextmanager
def _screen() -> Iterator[Show]:
    """Keep a table at the bottom of the terminal; what is printed or logged goes above it."""
    screen = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    handlers = [
        h
        for h in logging.getLogger().handlers
        if isinstance(h, logging.StreamHandler) and h.stream in (sys.stdout, sys.stderr)
    ]
    with Live(console=screen, auto_refresh=False, transient=True) as live:

        def show(shown: Shown) -> None:
            live.update(_laid_out(shown, screen.width, screen.height))
            with screen:  # one write for lines and table: nothing flickers
                if shown.lines:
                    screen.print("\n".join(map(printable, shown.lines)))
                live.refresh()

        for handler in handlers:
            handler.setStream(FileProxy(screen, handler.stream))
        try:
            yield show
        finally:
            for one in {*handlers, *logging.getLogger().handlers}:
                stream = getattr(one, "stream", None)
                if isinstance(one, logging.StreamHandler) and isinstance(stream, FileProxy):
                    one.setStream(stream.rich_proxied_file)


def _laid_out(shown: Shown, width: int, height: int) -> Group:
    """Lay out the table within a terminal: no line is wider, and it is not higher."""
    room = max(min(ROWS, height - 4), 1)
    rows = _fitted(shown.rows[:room], width - 1)
    more = len(shown.rows) - room
    state = Text(printable(f"and {more} more; {shown.state}" if more > 0 else shown.state))
    has_bar = width >= 4 * BAR
    state.truncate(width - (BAR + 3 if has_bar else 1), overflow="ellipsis")
    if not has_bar:
        return Group(*rows, state)
    foot = Table.grid(padding=(0, 2, 0, 0))
    foot.add_row(ProgressBar(total=1.0, completed=shown.done, width=BAR), state)
    return Group(*rows, foot)


def _fitted(rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """Write rows below each other; where they are too wide, the widest column gives way."""
    cells = [[Text(printable(cell)) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    if widths and (excess := sum(widths) + 2 * (len(widths) - 1) - width) > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] - excess, 4)
    lines = []
    for row in cells:
        for cell, columns in zip(row, widths, strict=True):
            cell.truncate(columns, overflow="ellipsis", pad=True)
        lines.append(Text("  ").join(row))
        lines[-1].truncate(width, overflow="ellipsis")
    return lines
