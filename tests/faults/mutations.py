"""Faults of our own, to see that they are found."""

from __future__ import annotations

import time
from pathlib import Path

from ssr_exp.runs import store


def _torn() -> None:
    """Write files where they belong, in two halves; the first time, take long over it."""
    pauses = iter([6.0])  # as long as a start takes on a busy machine

    def write_text(self: store.Store, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[: len(text) // 2])
        time.sleep(next(pauses, 0.0))
        path.write_text(text)

    store.Store.write_text = write_text  # type: ignore[method-assign]


def _forgetful() -> None:
    """Take no run for done."""
    store.is_done.__code__ = (lambda record, *, tested=False: False).__code__  # whoever imported it


def _careless() -> None:
    """Say that a training has ended without keeping its record."""
    written = store.Store.write_text

    def write_text(self: store.Store, path: Path, text: str) -> None:
        if path.name != store.RECORD_FILE:
            written(self, path, text)

    store.Store.write_text = write_text  # type: ignore[method-assign]


ALL = {"torn": _torn, "forgetful": _forgetful, "careless": _careless}
