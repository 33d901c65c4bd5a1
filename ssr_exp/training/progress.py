"""How far a sweep is: read from the records, whoever trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssr_exp import terminal
from ssr_exp.runs import store
from ssr_exp.runs.record import Record, Status
from ssr_exp.training.sweep import Member

PARTS = 4  # of a sweep, that are told of when they are done


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is."""

    total: int  # runs that were to be trained
    finished: int  # that came to a result
    failed: int  # or diverged
    running: int  # right now
    best: Record | None  # that with the best score so far
    left_s: float | None  # for the rest at this pace; None before the first has ended
    trouble: str | None = None  # the first one that failed or diverged, and why

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [f"{self.finished} of {self.total} done, {self.running} running"]
        parts.append(f"{self.failed} failed")
        if self.best is not None:
            value = self.best.scored_by.text(self.best.score or 0.0)
            parts.append(f"best {self.best.network} {value}")
        if self.left_s is not None and self.finished + self.failed < self.total:
            parts.append(f"about {terminal.duration(self.left_s)} left")
        return ", ".join(parts) + (f"; {self.trouble}" if self.trouble else "")


@dataclass
class SweepWatch:
    """Looks at a sweep's members again and again, and reads a record once."""

    members: Sequence[Member]  # that are to be trained
    _begun: float = field(default_factory=lambda: time.monotonic(), init=False)
    _written: dict[Path, int | None] = field(default_factory=dict, init=False)
    _ended: dict[Path, Record] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Remember the records that were there before."""
        self._written = {member.folder: _written_ns(member) for member in self.members}

    def look(self) -> SweepProgress:
        """Say how far it is."""
        running = 0
        for member in self.members:
            if member.folder not in self._ended and not self._reads(member):
                running += member.store.is_busy(member.folder, glance_s=0)
        total, ended = len(self.members), len(self._ended)
        finished = [r for r in self._ended.values() if r.status is Status.finished]
        measured = [record for record in finished if record.score is not None]
        troubles = [r for r in self._ended.values() if r not in finished]
        return SweepProgress(
            total=total,
            finished=len(finished),
            failed=len(troubles),
            running=running,
            best=max(measured, key=lambda r: r.scored_by.sign * (r.score or 0.0), default=None),
            left_s=(time.monotonic() - self._begun) / ended * (total - ended) if ended else None,
            trouble=next((f"{r.network} {r.status.value}: {r.error}" for r in troubles), None),
        )

    def _reads(self, member: Member) -> bool:
        """Read a member's record if it is new; returns whether its training has ended."""
        now = _written_ns(member)
        if now is None or now == self._written[member.folder]:
            return False
        self._written[member.folder] = now
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


def _written_ns(member: Member) -> int | None:
    return store.written_ns(member.folder / store.RECORD_FILE)
