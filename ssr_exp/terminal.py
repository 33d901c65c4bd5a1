"""Where tables are printed: a terminal's width, or in a file as wide as they need."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

log = logging.getLogger(__name__)

Item = TypeVar("Item")
EVERY_S = 15.0  # between two lines of progress where there is no terminal
WIDTH = 400  # columns when the output is no terminal: as many as any table takes


def console() -> Console:
    """Open the standard output for tables; names in them are not read as markup."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Go through items, showing how far it is: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        yield from track(items, what, console=Console(stderr=True), transient=True)
        return
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            log.info("%s: %d of %d", what, number, len(items))
        yield item
