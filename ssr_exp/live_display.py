"""How far something is, on a terminal: lines that stay, and below them a table that changes."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssr_exp.terminal import printable

log = logging.getLogger(__name__)

Say = Callable[[], "Shown"]
Show = Callable[["Shown"], object]
LOOK_S = 1.0  # between two looks at what a display shows
LOOK_SHARE = 20  # a look's time is at most so small a part of the time
PATIENCE_S = 10.0  # for the last look of a display, which a slow disk may hold up
ROWS = 8  # of a table that changes
BAR = 16  # columns


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
