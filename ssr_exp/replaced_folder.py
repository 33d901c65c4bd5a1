"""A folder that is replaced whole: whatever happens, it is the old one, the new one, or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssr_exp.runs import store as local


@contextmanager
def folder(store: local.Store, to: Path) -> Iterator[Path]:
    """Make a folder aside, to be filled, and put it in its place unless filling it fails.

    All of an old one is replaced. Other processes that replace the same folder wait; what one that
    was killed left is undone by the next.

    Args:
        store: of the records, which knows how to claim a folder.
        to: the folder's place.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    aside = to.with_name(f".{to.name}")
    fresh, old = aside / "new", aside / "old"
    with store.claim(aside, wait=True):
        try:
            _recover(fresh, old, to)
            fresh.mkdir()
            yield fresh
            _swap(fresh, old, to)
        except OSError as error:
            raise local.cannot_write(to.parent, error, store.option) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _recover(fresh: Path, old: Path, to: Path) -> None:
    """Undo what a process that was killed left: half a folder, or an old one out of its place."""
    shutil.rmtree(fresh, ignore_errors=True)
    if old.exists() and not to.exists():
        old.rename(to)
    shutil.rmtree(old, ignore_errors=True)


def _swap(fresh: Path, old: Path, to: Path) -> None:
    if to.exists():
        to.rename(old)
    try:
        fresh.rename(to)
    except OSError:
        if old.exists():
            old.rename(to)
        raise
    shutil.rmtree(old, ignore_errors=True)
