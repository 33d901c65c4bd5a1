"""Faults of our own, to see that they are found."""

from __future__ import annotations

import time
from pathlib import Path

from ssr_exp.runs import local


def _torn() -> None:
    """Write files where they belong, in two halves; the first time, take long over it."""
    pauses = iter([6.0])  # as long as a start takes on a busy machine

    def write_text(self: local.Store, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[: len(text) // 2])
        time.sleep(next(pauses, 0.0))
        path.write_text(text)

    local.Store.write_text = write_text  # type: ignore[method-assign]


def _forgetful() -> None:
    """Take no run for done."""
    local.is_done = lambda *_, **__: False  # type: ignore[assignment]


def _careless() -> None:
    """Say that a training has ended without keeping its record."""
    written = local.Store.write_text

    def write_text(self: local.Store, path: Path, text: str) -> None:
        if path.name != local.FILE:
            written(self, path, text)

    local.Store.write_text = write_text  # type: ignore[method-assign]


ALL = {"torn": _torn, "forgetful": _forgetful, "careless": _careless}
