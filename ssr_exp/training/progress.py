"""How far a sweep is: read from the records and the runs' folders, whoever trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssr_exp import terminal
from ssr_exp.live_display import Shown
from ssr_exp.runs import cost_words, store
from ssr_exp.runs.record import Record, Status
from ssr_exp.training.sweep import Member


@dataclass(frozen=True)
class UnderWay:
    """A training that is running: how many of its epochs are done, and since when it runs."""

    member: Member
    epoch: int
    epochs: int  # 0: not known
    since_s: float
    begun: int = 0  # the epochs that were done when its process began

    @property
    def done(self) -> float:
        """The share of its epochs that is done."""
        return self._share(self.epoch)

    @property
    def done_before(self) -> float:
        """The share of its epochs that an earlier process did."""
        return self._share(self.begun)

    def _share(self, epoch: int) -> float:
        return epoch / self.epochs if self.epochs else 0.0


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is."""

    total: int  # runs that were to be trained
    finished: int  # that came to a result
    failed: int  # or diverged
    under_way: tuple[UnderWay, ...]  # right now, the one that began first in front
    best: Record | None  # that with the best score of those that ended
    left_s: float | None  # for the rest at this pace; None before there is one

    @property
    def running(self) -> int:
        """How many are being trained."""
        return len(self.under_way)

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [f"{self.finished + self.failed} of {self.total} done, {self.running} running"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.left_s is not None and self.finished + self.failed < self.total:
            parts.append(f"about {terminal.duration(self.left_s)} left")
        return ", ".join(parts)


@dataclass
class SweepWatch:
    """Looks at a sweep's members again and again, and reads a record once.

    Args:
        members: that are to be trained.
        title: what they are trained for, before how far that is.
        total: runs that come to an end while it watches, if others join them.
        cost: by which networks are told apart.
        remarks: further lines on a run that has ended.
        told: folders of the runs that have a line when they end; None: all have. Processes that
            share a sweep tell of their own.
    """

    members: list[Member]
    title: str = ""
    total: int = 0
    told: Collection[Path] | None = None
    cost: str = cost_words.PARAMS
    remarks: Callable[[Record], Sequence[str]] = lambda _: ()
    _begun: float = field(default_factory=lambda: time.monotonic(), init=False)
    _written: dict[Path, int | None] = field(default_factory=dict, init=False)
    _ended: dict[Path, Record] = field(default_factory=dict, init=False)
    _said: int = field(default=0, init=False)
    _before: dict[Path, float] = field(default_factory=dict, init=False)
    _seen: set[Path] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Remember the records that were there before."""
        members, self.members = self.members, []
        self.add(members)

    def add(self, members: Sequence[Member]) -> None:
        """Watch more of them; one that is trained again counts again."""
        for member in members:
            self._written[member.folder] = _written_ns(member)
            if member.folder in self._ended:
                self._said -= list(self._ended).index(member.folder) < self._said
                del self._ended[member.folder]
            self._before.pop(member.folder, None)
            self._seen.discard(member.folder)
            if self._written[member.folder] is None:  # one that goes on has epochs behind it
                self._before[member.folder] = _under_way(member).done
        again = {member.folder: member for member in members}
        others = [member for member in self.members if member.folder not in again]
        self.members = [*others, *again.values()]

    def look(self) -> SweepProgress:
        """Say how far it is."""
        under_way = []
        for member in self.members:
            if member.folder in self._ended or self._reads(member):
                continue
            if member.store.is_busy(member.folder, glance_s=0):
                under_way.append(one := _under_way(member))
                if one.epochs and member.folder not in self._seen:  # later ones go on with ours
                    self._seen.add(member.folder)
                    before = max(one.done_before, self._before.get(member.folder, 0.0))
                    self._before[member.folder] = before
        records = list(self._ended.values())
        finished = [r for r in records if r.status is Status.finished]
        measured = [record for record in finished if record.score is not None]
        total = max(self.total, len(self.members))
        return SweepProgress(
            total=total,
            finished=len(finished),
            failed=len(records) - len(finished),
            under_way=tuple(sorted(under_way, key=lambda one: -one.since_s)),
            best=max(measured, key=lambda r: r.scored_by.sign * (r.score or 0.0), default=None),
            left_s=self._left_s(under_way, total),
        )

    def _left_s(self, under_way: Sequence[UnderWay], total: int) -> float | None:
        """Tell the time that is left at the pace of what was done while this watched."""
        shares = dict.fromkeys(self._ended, 1.0) | {u.member.folder: u.done for u in under_way}
        done = sum(shares.values())
        mine = sum(share - self._before.get(folder, 0.0) for folder, share in shares.items())
        return (time.monotonic() - self._begun) / mine * (total - done) if mine > 0 else None

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

    def say(self) -> Shown:
        """Say which runs ended since it was last asked, a line for each, and what is running."""
        now, labels = self.look(), self._labels()
        ended = list(self._ended.items())
        fresh = sorted(ended[self._said :], key=lambda pair: self._written[pair[0]] or 0)
        width = max(map(len, labels.values()), default=0)
        lines = []
        for number, (folder, record) in enumerate(fresh, self._said + 1):
            if self.told is None or folder in self.told:
                place = f"{number:>{len(str(now.total))}}/{now.total}"
                lines.append(f"{place} {labels[folder]:<{width}}  {result(record, self.cost)}")
                lines += self.remarks(record)
        self._said = len(ended)
        rows = [("running", labels[one.member.folder], _pace(one)) for one in now.under_way]
        if now.best is not None and now.total > 1:
            at = next(folder for folder, record in ended if record is now.best)
            rows.append(("best of these", labels[at], _scores(now.best)))
        title = f"{self.title}: " if self.title else ""
        done = (now.finished + now.failed + sum(o.done for o in now.under_way)) / now.total
        return Shown(lines, rows, done, f"{title}{now}")

    def _labels(self) -> dict[Path, str]:
        """Name each run by what tells it from the others: its code, its seed network, its seed."""
        models, seeds = ({getattr(m, key) for m in self.members} for key in ("model", "seed"))
        labels = {}
        for one in self.members:
            parts = [one.model] if len(models) > 1 else []
            parts.append(terminal.shortened(one.network) if one.network else one.title)
            parts += [f"seed {one.seed}"] if len(seeds) > 1 else []
            labels[one.folder] = " ".join(parts)
        return labels


def result(record: Record, cost: str = cost_words.PARAMS) -> str:
    """Write what came of a training: `9.6% params, val acc 83.97 %, 0.2 s`.

    Args:
        record: of it.
        cost: that the study is about; of a latency, which comes later, parameters are said.
    """
    took = f"{record.wall_s:.1f} s" if record.wall_s < 1e3 else f"{record.wall_s:,.0f} s"
    if record.status is not Status.finished:
        return f"{record.status.value} after {took}: {record.error}"
    share, name = f"{cost_words.share(record, cost):.1%}", cost_words.counted(cost)
    noun = name if name == cost_words.PARAMS else cost_words.NOUNS[name]
    return f"{share:>5} {noun}, {_scores(record)}, {took}"


def _scores(record: Record) -> str:
    score, test = record.scored_by, record.scored_by.on("test")
    parts = [(score, record.score), (test, record.test_score)]
    said = [f"{how.name} {how.text(value)}" for how, value in parts if value is not None]
    return ", ".join(said) or "not scored"


def _pace(one: UnderWay) -> str:
    epochs = f"epoch {one.epoch} of {one.epochs}, " if one.epochs else ""
    return f"{epochs}{terminal.duration(one.since_s)}"


def _under_way(member: Member) -> UnderWay:
    """Read how far a training is, as far as it says so."""
    begun = store.written_ns(member.folder / store.CONFIG_FILE)
    since_s = 0.0 if begun is None else max(0.0, time.time() - begun / 1e9)
    epoch, epochs, before = store.read_epochs(member.folder)
    return UnderWay(member, epoch, epochs, since_s, before)


def _written_ns(member: Member) -> int | None:
    return store.written_ns(member.folder / store.RECORD_FILE)
