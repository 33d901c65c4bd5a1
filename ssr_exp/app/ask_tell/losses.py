"""Processes that ended while they trained a network, and told nothing: the next may end so, too.

One network that takes all memory would end one process of an array after the other. So what a
process trains says so in its run's folder until it is told, or given back: also by Ctrl-C, but not
by an error that ends a script. A training that left something of its own there has got somewhere,
and may have ended with its time limit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs import leases
from ssr_exp.runs.store import CONFIG_FILE, Store, written_ns

FILE = "offered.json"
OURS = (FILE, CONFIG_FILE, leases.FILE)  # what is written in a run's folder before its training
SCHEMA = 1  # raise when a reader of today could misread what is written
SUSPECT, MOST = 2, 3  # losses after which a network comes last, and after which it has failed


class Offered(FileModel):
    """A network was asked for, and nothing was told of it yet.

    Attributes:
        lost: how many processes ended before, one after the other, without anything to show.
        is_held: whether a process trains it since; else it is leased for one.
    """

    schema_version: int = SCHEMA
    lost: Annotated[int, Field(ge=0)] = 0
    is_held: bool = True


def count(folder: Path) -> int:
    """Count the processes that a run has ended, if none trains it now."""
    if (before := _read(folder)) is None:
        return 0
    lost = before.lost + before.is_held
    return 0 if lost and _has_left_something(folder) else lost


def is_suspect(folder: Path) -> bool:
    """Say whether a run has ended several processes; few are looked at, as folders may be large."""
    before = _read(folder)
    return before is not None and before.lost + 1 >= SUSPECT and count(folder) >= SUSPECT


def begin(store: Store, folder: Path, lost: int, *, is_held: bool) -> None:
    """Write down that a run is offered, and how many processes it has ended before.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    store.write_text(folder / FILE, files.to_json(Offered(lost=lost, is_held=is_held)))


def taken(folder: Path) -> int:
    """Count the processes that a run had ended when it was leased, for the one that takes it."""
    before = _read(folder)
    return 0 if before is None else before.lost


def check(folder: Path) -> None:
    """Refuse to train what has ended so many processes already.

    Raises:
        SsrError: says so.
    """
    if (lost := taken(folder)) >= MOST:
        raise SsrError(
            f"{lost} processes ended in its training, one after the other, and told nothing (for "
            "lack of memory?)"
        )


def end(folder: Path) -> None:
    """Write down that a run is offered to nobody any more."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def end_in_order(folders: Collection[Path]) -> None:
    """Give back what this process trains as it ends, unless an error ends it, as in a script."""
    is_script = not hasattr(sys, "ps1")
    if not (is_script and isinstance(getattr(sys, "last_value", None), Exception)):
        for folder in folders:
            end(folder)


def _read(folder: Path) -> Offered | None:
    try:
        return files.read(folder / FILE, Offered, version=SCHEMA)
    except (OSError, files.Unreadable):
        return None


def _has_left_something(folder: Path) -> bool:
    """Say whether a training wrote a file of its own, such as a checkpoint."""
    begun = written_ns(folder / FILE) or 0
    return any(
        (written_ns(Path(place, name)) or 0) > begun
        for place, _, names in os.walk(folder)
        for name in names
        if name not in OURS and not name.startswith(".")
    )
