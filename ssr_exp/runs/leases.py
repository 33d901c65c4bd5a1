"""Leases: a network that a process asked for stays its own for a while, though the process ends.

A lock dies with its process; a lease does not. It is a file in the run's folder that says for how
long, from when it was last written. Both times are those of the disk, which machines with clocks
of their own share.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pydantic import Field

from ssr_exp import files
from ssr_exp.files import FileModel

FILE = "lease.json"
SCHEMA = 1  # raise when a reader of today could misread what is written


class Lease(FileModel):
    """How long a run is kept, in seconds from when its file was last written, and by whom."""

    schema_version: int = SCHEMA
    seconds: float = Field(gt=0, allow_inf_nan=False)
    owner: str  # of all that one process leases, a name of its own
    is_taken: bool = False  # a process trains it since, whose lock keeps it instead


def write(folder: Path, seconds: float, owner: str) -> None:
    """Lease a run, or renew its lease.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    files.write(folder / FILE, files.to_json(Lease(seconds=seconds, owner=owner)).encode())


def seconds_left(folder: Path) -> float:
    """Say for how long a run is leased still; 0 if it is not."""
    lease = read(folder)
    try:
        written = (folder / FILE).stat().st_mtime
    except OSError:  # there is none, or it may not be read
        return 0.0
    if lease is None or lease.is_taken:
        return 0.0
    return max(0.0, written + lease.seconds - _now(folder))


def read(folder: Path) -> Lease | None:
    """Read the lease that a run is under, or was; None: there is none."""
    try:
        return files.read(folder / FILE, Lease, version=SCHEMA)
    except (OSError, files.Unreadable):
        return None


def owner(folder: Path) -> str | None:
    """Say whose lease it is that a run is under; None if it is under none."""
    lease = read(folder)
    return None if lease is None else lease.owner


def take(folder: Path) -> None:
    """Let the lock of a process that trains a run stand for its lease, whose owner stays known.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    if (lease := read(folder)) is not None:
        taken = lease.model_copy(update={"is_taken": True})
        files.write(folder / FILE, files.to_json(taken).encode())


def end(folder: Path) -> None:
    """Give a lease up."""
    (folder / FILE).unlink(missing_ok=True)


def _now(folder: Path) -> float:
    """Ask the disk for the time; this machine, where the folder cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".time-") as file:
            file.write(b"\0")
            file.flush()
            return Path(file.name).stat().st_mtime
    except OSError:
        return time.time()
