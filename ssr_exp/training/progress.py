"""How far a sweep is: read from the records, whoever trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssr_exp.runs import store
from ssr_exp.runs.record import Record, Status
from ssr_exp.training.sweep import Member

PARTS = 4  # of a sweep, that are told of when they are done


@dataclass(frozen=True)
class Standing:
    """How far a sweep is.

    Args:
        total: runs that were to be trained.
        finished: that came to a result.
        failed: or diverged.
        running: right now.
        best: the most accurate one so far.
        left_s: how long the rest takes at this pace; None before the first has ended.
        trouble: the first one that failed or diverged, and why.
    """

    total: int
    finished: int
    failed: int
    running: int
    best: Record | None
    left_s: float | None
    trouble: str | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [f"{self.finished} of {self.total} done, {self.running} running"]
        parts.append(f"{self.failed} failed")
        if self.best is not None:
            parts.append(f"best {self.best.network} {self.best.val_acc:.2f} %")
        if self.left_s is not None and self.finished + self.failed < self.total:
            parts.append(f"about {_spelled(self.left_s)} left")
        return ", ".join(parts) + (f"; {self.trouble}" if self.trouble else "")


@dataclass
class SweepWatch:
    """Looks at a sweep's members again and again, and reads a record once.

    Args:
        members: the runs that are to be trained.
    """

    members: Sequence[Member]
    _begun: float = field(init=False)
    _read: dict[Path, int | None] = field(default_factory=dict, init=False)
    _ended: dict[Path, Record] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Start the clock, and remember the records that were there before."""
        self._begun = time.monotonic()
        self._read = {member.folder: _written(member) for member in self.members}

    def look(self) -> Standing:
        """Say how far it is."""
        running = 0
        for member in self.members:
            if member.folder not in self._ended and not self._reads(member):
                running += member.store.is_busy(member.folder, glance_s=0)
        finished = [r for r in self._ended.values() if r.status is Status.finished]
        measured = [record for record in finished if record.val_acc is not None]
        return Standing(
            total=len(self.members),
            finished=len(finished),
            failed=len(self._ended) - len(finished),
            running=running,
            best=max(measured, key=lambda record: record.val_acc or 0.0, default=None),
            left_s=self._left(len(self._ended)),
            trouble=next((_trouble(r) for r in self._ended.values() if r not in finished), None),
        )

    def _reads(self, member: Member) -> bool:
        """Read a member's record if it is new; returns whether its training has ended."""
        now = _written(member)
        if now is None or now == self._read[member.folder]:
            return False
        self._read[member.folder] = now
        record = member.record()
        if record is not None:
            self._ended[member.folder] = record
        return record is not None

    def say(self) -> tuple[str, object]:
        """Say how far it is in one line, and what of it is news: each part of a sweep that ended.

        So a sweep of any size has few lines where they stay, and its first trouble is one of them.
        """
        now = self.look()
        return str(now), ((now.finished + now.failed) * PARTS // now.total, now.failed > 0)

    def _left(self, ended: int) -> float | None:
        if not ended:
            return None
        return (time.monotonic() - self._begun) / ended * (len(self.members) - ended)


def _trouble(record: Record) -> str:
    return f"{record.network} {record.status.value}: {record.error}"


def _written(member: Member) -> int | None:
    return store.written_ns(member.folder / store.RECORD_FILE)


def _spelled(seconds: float) -> str:
    """Write a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
