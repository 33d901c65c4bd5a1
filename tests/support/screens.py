"""A terminal in the standard output's place."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Screen(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True


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
