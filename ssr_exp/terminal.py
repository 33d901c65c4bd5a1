"""Where tables are printed: a terminal's width, or in a file as wide as they need."""

import sys

from rich.console import Console

WIDTH = 400  # columns when the output is no terminal: as many as any table takes


def console() -> Console:
    """Open the standard output for tables; names in them are not read as markup."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)
