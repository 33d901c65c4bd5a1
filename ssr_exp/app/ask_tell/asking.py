"""Which network is trained next: what was planned and is not done, or else a new proposal.

All that is known stands in files, so any process asks in the same way, and one that is killed
loses nothing: its lock is gone with it, and its network is offered again.
"""

from __future__ import annotations

import logging
import math
import threading
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ssr_exp import terminal
from ssr_exp.app import judging
from ssr_exp.app.ask_tell import losses
from ssr_exp.app.ask_tell.enqueued import ENQUEUED, Queue
from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs import leases
from ssr_exp.runs.record import FINALIST, Status
from ssr_exp.runs.store import CONFIG_FILE, Busy, Store, is_done
from ssr_exp.search import attempts, loop
from ssr_exp.search.belief import Belief
from ssr_exp.search.loop import Search
from ssr_exp.search.rounds import Round
from ssr_exp.search.too_few import TooFew
from ssr_exp.training import run
from ssr_exp.training.opened_study import Job, OpenedStudy

log = logging.getLogger(__name__)

SAID = 60  # times that planning is tried, each less than half a second, before that is said
Known = tuple[int, int, frozenset[tuple[object, ...]]]
"""What a proposal depends on: the round, how much of it is planned, and the records."""

BUSY_SEARCH = "waiting for another process that carries out this search (%s)"


@dataclass(frozen=True)
class Waiting:
    """Nothing can be asked for just now, and the study is not finished.

    It is false, so that `while candidate := study.ask(wait=False)` ends.

    Attributes:
        pending: networks that are being trained.
        own: those of them that this very thread asked for, and told nothing of.
        is_locked: whether another process plans just now, or a command carries the search out.
    """

    pending: int
    own: int = 0
    is_locked: bool = False

    def __bool__(self) -> bool:
        """Say no: there is nothing to train."""
        return False


@dataclass(frozen=True)
class Request:
    """A training that is wanted."""

    network: str
    seed: int
    origin: str


@dataclass(eq=False)
class Asking:
    """The networks of one search, one after the other.

    Attributes:
        held: by the folder of each run that this process has claimed, what gives it free.
        askers: likewise, the thread that asked for it.
        owner: the name of this process's leases.
        reason: why there is nothing more to ask for; empty: there is.

    Of what earlier processes gave up this one offers each network once, when nothing else is left.
    """

    opened: OpenedStudy
    conf: SearchConfig
    search: Search
    held: dict[Path, ExitStack] = field(default_factory=dict, init=False)
    askers: dict[Path, int] = field(default_factory=dict, init=False)
    owner: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    reason: str = field(default="", init=False)
    _again: list[Request] | None = field(default=None, init=False)
    _told: Known | None = field(default=None, init=False)
    _ended: tuple[Known, str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        weakref.finalize(self, losses.end_in_order, self.held.keys())

    @property
    def store(self) -> Store:
        """Of the records."""
        return self.search.book.store

    @cached_property
    def queue(self) -> Queue:
        """What the user wants trained first."""
        return Queue(self.search.book)

    def job(self, request: Request) -> Job:
        """Say how a network is trained."""
        conf = replace(self.conf, seed=request.seed, origin=request.origin)
        return Job(self.opened, self.search.space.parse(request.network), conf)

    def folder(self, request: Request) -> Path:
        """Name the folder of a run."""
        return self.store.folder(self.opened.name, request.network, request.seed)

    @contextmanager
    def turn(self, *, tries: int) -> Iterator[bool]:
        """Keep other processes from planning meanwhile.

        A command keeps its search for itself until it ends.

        Args:
            tries: how often that is tried, each less than half a second.

        Yields:
            Whether nobody else plans now.
        """
        folder, tried = self.search.book.folder, 0
        with ExitStack() as claim:
            while tried < tries:
                try:
                    claim.enter_context(self.store.claim(folder, wait=False))
                    break
                except Busy:
                    tried += 1
                if tried == SAID:
                    log.warning(BUSY_SEARCH, folder)
            yield tried < tries

    def next(self, lease_s: float | None) -> Request | Waiting | None:
        """Claim a training for this process, or lease it; None if nothing is left to train.

        It waits for nobody: what another process plans may need a result of this very thread.

        Raises:
            SsrError: if the first networks failed, or the folder cannot be written.
        """
        with self.turn(tries=1) as is_ours:
            if not is_ours:
                return self.locked(self._left())
            self.search.evidence.forget()
            pending: list[Request] = []
            for request in self._planned():
                if self._offers(request, lease_s):
                    return request
                if not self.is_done(request):
                    pending.append(request)
            again = [request for request in self._again or () if not self.is_done(request)]
            others = [request for request in again if request not in pending]
            pending += (one for one in others if self.store.is_busy(self.folder(one), glance_s=0))
            proposed = self._propose(len(pending))
            if proposed is not None and self._offers(proposed, lease_s):
                return proposed
            for request in again:
                if self._offers(request, lease_s):
                    return request
        return self.waiting(pending) if pending else None

    def _offers(self, request: Request, lease_s: float | None) -> bool:
        """Claim a training, if nobody has it; what was given up before is offered once."""
        if not self.claim(request, lease_s):
            return False
        self._again = [one for one in self._again or () if one != request]
        return True

    def waiting(self, pending: Sequence[Request]) -> Waiting:
        """Say that some trainings are under way."""
        own = self._own()
        return Waiting(len(pending), sum(self.folder(request) in own for request in pending))

    def locked(self, left: Iterable[Request]) -> Waiting:
        """Say that another process plans, and which of what is left is being trained meanwhile."""
        own, folders = self._own(), map(self.folder, left)
        others = [one for one in folders if one not in own and self.store.is_busy(one, glance_s=0)]
        return Waiting(len(own) + len(others), len(own), is_locked=True)

    def _own(self) -> set[Path]:
        """List the runs that this very thread has asked for, and told nothing of."""
        here = threading.get_ident()
        return {folder for folder, thread in self.askers.items() if thread == here}

    def _left(self) -> Iterator[Request]:
        """List what is planned and has no result yet; nothing is written for that."""
        for plan in self.search.book.read():
            for planned in plan.planned:
                request = Request(planned.network, plan.seed, "")
                if planned.attempts < attempts.MOST and not self.is_done(request):
                    yield request

    def is_done(self, request: Request) -> bool:
        """Say whether a training need not be repeated; of a finalist, that it was tested."""
        record = self.store.read(self.folder(request))
        return is_done(record, tested=request.origin == FINALIST)

    def claim(
        self, request: Request, lease_s: float | None = None, *, is_taken: bool = False
    ) -> bool:
        """Claim a training that nobody has, or with `is_taken` has but leased.

        Returns whether that could be done.
        """
        folder = self.folder(request)
        # A lease is in nobody's way who takes it; who trains has the lock.
        if folder in self.held or (not is_taken and self.store.is_busy(folder, glance_s=0)):
            return False
        with ExitStack() as claim:
            try:
                claim.enter_context(self.store.claim(folder, wait=False))
            except Busy:
                return False
            if self.is_done(request):  # it was told since it was looked at
                return False
            if (folder / CONFIG_FILE).exists() and self.store.read(folder) is None:
                log.info("%s is offered again: nothing was told of it", request.network)
            if is_taken:
                self._take_lease(folder)
            lost = losses.taken(folder) if is_taken else losses.count(folder)
            run.begin(self.job(request), self.store, folder)
            losses.begin(self.store, folder, lost, is_held=lease_s is None)
            if lease_s is not None:
                self.lease(folder, lease_s)
                return True
            if not is_taken:  # one that has run out says nothing any more
                leases.end(folder)
            self.held[folder] = claim.pop_all()
            self.askers[folder] = threading.get_ident()
            return True

    def take(self, request: Request) -> bool:
        """Claim a training that was leased, in the process that does it."""
        return self.claim(request, is_taken=True)

    def _take_lease(self, folder: Path) -> None:
        try:
            leases.take(folder)
        except OSError as error:
            raise self.store.not_written(folder, error) from error

    def renew(self, request: Request, seconds: float) -> None:
        """Lease a run anew; while the process that took it trains it, there is no need to.

        Raises:
            SsrError: if another process has it, or the folder cannot be written.
        """
        folder = self.folder(request)
        lease, is_busy = leases.read(folder), self.store.is_busy(folder)
        mine = lease if lease is not None and lease.owner == self.owner else None
        if mine is not None and mine.is_taken and is_busy:
            return
        is_kept = folder in self.held or (mine is not None and leases.seconds_left(folder) > 0)
        if is_busy and not is_kept:
            raise SsrError(f"another process has {request.network} by now: ask for another one.")
        self.lease(folder, seconds)

    def lease(self, folder: Path, seconds: float) -> None:
        """Lease a run, or renew its lease.

        Raises:
            SsrError: if the folder cannot be written.
        """
        if not 0 < seconds < math.inf:
            raise SsrError(f"a lease of {seconds:g} seconds is none: give some, such as 3600.")
        try:
            leases.write(folder, seconds, self.owner)
        except OSError as error:
            raise self.store.not_written(folder, error) from error

    def free(self, request: Request) -> None:
        """Give a training free."""
        folder = self.folder(request)
        is_mine = leases.owner(folder) == self.owner
        if is_mine:
            leases.end(folder)
        if is_mine or folder in self.held:
            losses.end(folder)
        self.askers.pop(folder, None)
        if (claim := self.held.pop(folder, None)) is not None:
            claim.close()

    def count(self, request: Request) -> None:
        """Write down that a training has ended, well or not."""
        with self.turn(tries=SAID) as is_ours:
            if not is_ours:  # a command carries this search out, and counts what it plans
                return
            self.queue.count(request.network, request.seed)
            for plan in self.search.book.read():
                if plan.seed == request.seed and request.network in plan.networks:
                    self.search.attempts.count(plan, request.network)
            self.search.evidence.forget()

    def so_far(self, request: Request) -> str:
        """Count the trainings of a request's round that have ended, as `3/22 `; empty: of none."""
        for plan in self.search.book.read():
            if plan.seed == request.seed and request.network in plan.networks:
                whole = self.search.conf.batch if plan.number else len(plan.networks)
                requests = (Request(n, plan.seed, request.origin) for n in plan.networks)
                return f"{sum(map(self.is_done, requests)):>{len(str(whole))}}/{whole} "
        return ""

    def remember(self, request: Request) -> None:
        """Write down that the search knew a network before it was a finalist."""
        with self.turn(tries=SAID) as is_ours:
            if is_ours:
                self.queue.remember(request.network, request.seed)

    def _planned(self) -> Iterator[Request]:
        """List what was planned and has no result, the user's requests first.

        What failed comes after all others, and last what has ended the processes that trained it:
        neither keeps the others from being trained.
        """
        for one in self.queue.waiting(self.opened.name):
            yield Request(one.network, one.seed, ENQUEUED)
        tried = list[tuple[Request, int]]()
        for request, times in self._of_plans():
            if self._is_baseline(request):
                self._refuse_diverged(request)
                # Without it nothing can be compared, so it is tried again at once.
                times = 0 if times < attempts.MOST or request in (self._again or ()) else times
            if times < attempts.MOST and not is_done(self.store.read(self.folder(request))):
                tried.append((request, times))
        for request, _ in sorted(tried, key=lambda one: (self.is_suspect(one[0]), one[1] > 0)):
            yield request

    def _of_plans(self) -> list[tuple[Request, int]]:
        """List what was planned, with how often it was tried; plan the first networks."""
        if self._again is None:
            self.search.prepare()
            self._again = [
                request
                for request, times in self._in(self.search.book.read())
                if times >= attempts.MOST and not is_done(self.store.read(self.folder(request)))
            ]
            if last := sum(not self._is_baseline(request) for request in self._again):
                said = "offered last, of what failed before: %s (study.enqueue has one next)"
                log.info(said, terminal.counted(last, "network"))
        return self._in(self.search.book.read() or self.search.plan_first())

    def _in(self, plans: Sequence[Round]) -> list[tuple[Request, int]]:
        origin = self.search.attempts.origin
        return [
            (Request(planned.network, plan.seed, origin(plan.number)), planned.attempts)
            for plan in plans
            for planned in plan.planned
        ]

    def is_suspect(self, request: Request) -> bool:
        """Say whether a training has ended several processes: it comes last."""
        return losses.is_suspect(self.folder(request))

    def _is_baseline(self, request: Request) -> bool:
        return request.network == self.search.space.code(self.opened.plan.baseline)

    def _refuse_diverged(self, request: Request) -> None:
        """Stop once the baseline has no score: nothing can be compared without it.

        Raises:
            SsrError: says how to go on.
        """
        record = self.store.read(self.folder(request))
        if record is not None and record.status is Status.diverged:
            raise SsrError(
                f"the baseline diverged ({record.error}), and nothing can be compared without it: "
                "mend the training, then tell its score with study.tell(CODE, score, replace=True)."
            )

    def _propose(self, pending: int) -> Request | None:
        """Propose one network, and write it down; None with a reason if there is none."""
        search = self.search
        if (plan := search.open_round()) is None:
            self.reason = search.all_done
            return None
        number, at = plan.number, len(plan.planned)
        records = search.evidence.records
        known = number, at, frozenset((r.network, r.seed, r.status, r.score) for r in records)
        try:
            if not plan.planned and known != self._told:
                search.tell(search.look())
                self._told = known
            if not search.affordable(1, pending):
                self.reason = loop.USED_UP
                return None
            if self._ended is not None and known == self._ended[0]:
                self.reason = self._ended[1]
                return None
            belief = search.look()
        except TooFew:
            if not pending and not self._again:
                raise
            return None
        _, plan, reason = search.extend(plan, belief, count=1, size=search.conf.batch)
        if reason:
            self.reason, self._ended = reason, (known, reason)
            return None
        return Request(plan.networks[-1], plan.seed, search.attempts.origin(plan.number))

    def believe(self) -> Belief:
        """Look at the records.

        Raises:
            SsrError: if they are too few.
        """
        self.search.evidence.forget()
        return self.search.look()

    def judge(self) -> Belief:
        """Look at the records for the answer and its finalists.

        Raises:
            SsrError: if they are too few.
        """
        self.search.evidence.forget()
        return judging.judge(self.search)
