"""Processes that ended while they trained a network, and told nothing: the next may end so, too.

One network that takes all memory would end one process of an array after the other. So what is in
training here says so in its run's folder; a process that ends in order, by an exception or Ctrl-C,
too, takes that back. A training that left something of its own there has got somewhere, and may
have ended with its time limit.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs.store import Store, written_ns

FILE = "asked.json"
SCHEMA = 1  # raise when a reader of today could misread what is written
SUSPECT, MOST = 2, 3  # losses after which a network comes last, and after which it has failed


class InTraining(FileModel):
    """A process trains a network of this folder.

    Attributes:
        lost: how many did before it, one after the other, and ended without anything to show.
    """

    schema_version: int = SCHEMA
    lost: Annotated[int, Field(ge=0)] = 0


def count(folder: Path) -> int:
    """Count the processes that a run has ended, if none trains it now."""
    before = _read(folder)
    return 0 if before is None or _has_left_something(folder) else before.lost + 1


def begin(store: Store, folder: Path, lost: int) -> None:
    """Write down that this process trains a run, and how many it has ended before.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    store.write_text(folder / FILE, files.to_json(InTraining(lost=lost)))


def check(folder: Path) -> None:
    """Refuse to train what has ended so many processes already.

    Raises:
        SsrError: says so.
    """
    if (lost := _read(folder)) is not None and lost.lost >= MOST:
        raise SsrError(
            f"{lost.lost} processes ended in its training, one after the other, and told nothing "
            "(for lack of memory?)"
        )


def end(folders: Collection[Path]) -> None:
    """Write down that this process trains none of these runs any more."""
    for folder in folders:
        with suppress(OSError):
            (folder / FILE).unlink(missing_ok=True)


def _read(folder: Path) -> InTraining | None:
    try:
        return files.read(folder / FILE, InTraining, version=SCHEMA)
    except (OSError, files.Unreadable):
        return None


def _has_left_something(folder: Path) -> bool:
    """Say whether a training wrote a file of its own, such as a checkpoint."""
    begun = written_ns(folder / FILE) or 0
    own = (path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())
    return any((written_ns(path) or 0) > begun for path in own)
