"""Where tables are printed: a terminal's width, or in a file as wide as they need."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from rich.console import Console, JustifyMethod
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ssr_exp.errors import one_line

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Say = Callable[[], tuple[str, object]]
Show = Callable[[str, object], object]
LOOK_S = 1.0  # between two looks at what a live line says
LOOK_SHARE = 20  # a look's time is at most so small a part of the time
EVERY_S = 15.0  # between two lines of progress where there is no terminal
ENDED, PROGRESS = 25, 27  # levels of logging's: a network was trained; so far is the command
logging.addLevelName(ENDED, "ENDED")
logging.addLevelName(PROGRESS, "PROGRESS")
WIDTH = 400  # columns when the output is no terminal: as many as any table takes


def counted(number: int, noun: str) -> str:
    """Spell a number of things: 1 network, 2 networks."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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


def duration(seconds: float) -> str:
    """Write a time roughly: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def live_line(say: Say, *, bars: bool) -> Iterator[None]:
    """Show for the time of a block how far something is, as one line that changes.

    Where there is no terminal, or bars are on it already, a line is printed now and then, if it
    says something new.

    Args:
        say: called in a thread of its own, about once a second; returns the line, and what of it
            is worth a new one where lines cannot be taken back.
        bars: whether something in the block draws bars of its own.
    """
    over = threading.Event()
    with ExitStack() as stack:
        if sys.stdout.isatty() and not bars:
            show: Show = stack.enter_context(_line())
        elif sys.stdout.isatty():
            show = _Throttled(print, 0.0)
        else:
            show = _Throttled(partial(log.log, PROGRESS), EVERY_S)
        thread = threading.Thread(target=_repeat, args=(say, show, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=LOOK_S)


def _repeat(say: Say, show: Show, over: threading.Event) -> None:
    took = 0.0
    while not over.wait(max(LOOK_S, LOOK_SHARE * took)):
        start = time.monotonic()
        try:
            said = say()
            if not over.is_set():
                show(*said)
        except Exception as error:  # what is only shown must not end what is done
            log.debug("no progress is shown: %s", error)
        took = time.monotonic() - start


class _Throttled:
    """Pass on what is new, but not too often."""

    def __init__(self, write: Callable[[str], object], every_s: float) -> None:
        self._write, self._every_s = write, every_s
        self._last: object = None
        self._at = time.monotonic()

    def __call__(self, text: str, news: object) -> None:
        if news != self._last and time.monotonic() - self._at >= self._every_s:
            self._last, self._at = news, time.monotonic()
            self._write(text)


@contextmanager
def _line() -> Iterator[Show]:
    """Keep one line at the bottom of the terminal; what is logged meanwhile goes above it."""
    screen = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    handlers = [
        h
        for h in logging.getLogger().handlers
        if isinstance(h, logging.StreamHandler) and h.stream in (sys.stdout, sys.stderr)
    ]
    streams = [handler.stream for handler in handlers]
    with Live(console=screen, auto_refresh=False, transient=True) as shown:
        for handler in handlers:
            handler.setStream(FileProxy(screen, handler.stream))
        try:
            yield lambda text, _: shown.update(Text(text, overflow="ellipsis"), refresh=True)
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                handler.setStream(stream)
