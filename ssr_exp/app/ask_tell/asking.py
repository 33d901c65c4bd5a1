"""Which network is trained next: what was planned and is not done, or else a new proposal.

All that is known stands in files, so any process asks in the same way, and one that is killed
loses nothing: its lock is gone with it, and its network is offered again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ssr_exp.app.ask_tell.enqueued import Queue
from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import leases
from ssr_exp.runs.record import FINALIST
from ssr_exp.runs.store import Busy, Store, is_done
from ssr_exp.search import answer, attempts, loop, printing
from ssr_exp.search.belief import Belief
from ssr_exp.search.loop import Search, TooFew
from ssr_exp.search.rounds import Round
from ssr_exp.training import run
from ssr_exp.training.opened_study import Job, OpenedStudy

log = logging.getLogger(__name__)

ENQUEUED = "enqueued"


@dataclass(frozen=True)
class Waiting:
    """Nothing can be asked for just now, and the study is not finished.

    It is false, so that `while candidate := study.ask(wait=False)` ends.

    Attributes:
        pending: networks that are being trained.
    """

    pending: int

    def __bool__(self) -> bool:
        """Say no: there is nothing to train."""
        return False


@dataclass(frozen=True)
class Wish:
    """A training that is wanted."""

    network: str
    seed: int
    origin: str


@dataclass(eq=False)
class Asking:
    """The networks of one search, one after the other.

    Attributes:
        held: by the folder of each run that this process has claimed, what gives it free.
        reason: why there is nothing more to ask for; empty: there is.
    """

    opened: OpenedStudy
    conf: SearchConfig
    search: Search
    held: dict[Path, AbstractContextManager[None]] = field(default_factory=dict, init=False)
    reason: str = field(default="", init=False)
    _is_prepared: bool = field(default=False, init=False)

    @property
    def store(self) -> Store:
        """Of the records."""
        return self.search.book.store

    @cached_property
    def queue(self) -> Queue:
        """What the user wants trained first."""
        return Queue(self.search.book)

    def job(self, wish: Wish) -> Job:
        """Say how a network is trained."""
        conf = replace(self.conf, seed=wish.seed, origin=wish.origin)
        return Job(self.opened, self.search.space.parse(wish.network), conf)

    def folder(self, wish: Wish) -> Path:
        """Name the folder of a run."""
        return self.store.folder(self.opened.name, wish.network, wish.seed)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other processes from planning meanwhile."""
        folder = self.search.book.folder
        try:
            claim = self.store.claim(folder, wait=False)
            claim.__enter__()
        except Busy:
            log.info("waiting for another process that plans this search (%s)", folder)
            claim = self.store.claim(folder, wait=True)
            claim.__enter__()
        try:
            yield
        finally:
            claim.__exit__(None, None, None)

    def next(self, lease_s: float | None) -> Wish | Waiting | None:
        """Claim a training for this process, or lease it; None if nothing is left to train.

        Raises:
            SsrError: if the first networks failed, or the folder cannot be written.
        """
        with self.turn():
            self.search.evidence.forget()
            pending = 0
            for wish in self._planned():
                if self.claim(wish, lease_s):
                    return wish
                pending += 1
            proposed = self._propose(pending)
            if proposed is not None and self.claim(proposed, lease_s):
                return proposed
        return Waiting(pending) if pending else None

    def claim(self, wish: Wish, lease_s: float | None = None) -> bool:
        """Claim a training that nobody has; returns whether that could be done."""
        folder = self.folder(wish)
        if folder in self.held or self.store.is_busy(folder, glance_s=0):
            return False
        claim = self.store.claim(folder, wait=False)
        try:
            claim.__enter__()
        except Busy:
            return False
        run.begin(self.job(wish), self.store, folder)
        if lease_s is None:
            self.held[folder] = claim
        else:
            self.lease(folder, lease_s)
            claim.__exit__(None, None, None)
        return True

    def take(self, wish: Wish) -> bool:
        """Claim a training that was leased, in the process that does it."""
        leases.end(self.folder(wish))
        return self.claim(wish)

    def lease(self, folder: Path, seconds: float) -> None:
        """Lease a run, or renew its lease.

        Raises:
            SsrError: if the folder cannot be written.
        """
        if not seconds > 0:
            raise SsrError(f"a lease of {seconds:g} seconds is none: give some, such as 3600.")
        try:
            leases.write(folder, seconds)
        except OSError as error:
            raise self.store.not_written(folder, error) from error

    def free(self, wish: Wish) -> None:
        """Give a training free."""
        folder = self.folder(wish)
        leases.end(folder)
        if (claim := self.held.pop(folder, None)) is not None:
            claim.__exit__(None, None, None)

    def count(self, wish: Wish) -> None:
        """Write down that a training has ended, well or not."""
        with self.turn():
            self.queue.count(wish.network, wish.seed)
            for plan in self.search.book.read():
                if plan.seed == wish.seed and wish.network in plan.networks:
                    self.search.attempts.count(plan, wish.network)
            self.search.evidence.forget()

    def _planned(self) -> Iterator[Wish]:
        """List what was planned and has no result, the user's wishes first."""
        for one in self.queue.read():
            if one.attempts < attempts.MOST:
                yield from self._undone(Wish(one.network, one.seed, ENQUEUED))
        for plan in self._plans():
            origin = self.search.attempts.origin(plan.number)
            for planned in plan.planned:
                if planned.attempts < attempts.MOST:
                    yield from self._undone(Wish(planned.network, plan.seed, origin))

    def _plans(self) -> list[Round]:
        if not self._is_prepared:
            self.search.prepare()
            self._is_prepared = True
        return self.search.book.read() or self.search.plan_first()

    def _undone(self, wish: Wish) -> Iterator[Wish]:
        if not is_done(self.store.read(self.folder(wish))):
            yield wish

    def _propose(self, pending: int) -> Wish | None:
        """Propose one network, and write it down; None with a reason if there is none."""
        search = self.search
        if (plan := search.open_round()) is None:
            self.reason = search.all_done
            return None
        try:
            belief = search.look()
        except TooFew:
            if not pending:
                raise
            return None
        if not plan.planned:
            search.tell(belief)
        if not search.affordable(1, pending):
            self.reason = loop.USED_UP
            return None
        belief, picks = search.measured_batch(belief, plan.number, count=1, at=len(plan.planned))
        if reason := search.no_gain(belief, picks):
            self.reason = reason
            return None
        title = f"round {plan.number} of {search.conf.rounds}"
        printing.print_batch(belief, picks, title=title)
        search.book.write(plan.model_copy(update={"planned": (*plan.planned, *picks)}))
        return Wish(picks[0].network, plan.seed, search.attempts.origin(plan.number))

    def believe(self) -> Belief:
        """Look at the records.

        Raises:
            SsrError: if they are too few.
        """
        self.search.evidence.forget()
        return self.search.look()

    def finalists(self, belief: Belief, *, count: int, seeds: int) -> list[Wish]:
        """List the last trainings, of baseline and answers, with seeds of their own."""
        space, first = self.search.space, self.conf.seed + 1
        answers = [a for a in answer.good_enough(belief) if a != space.plan.baseline][:count]
        networks: list[Architecture] = [space.plan.baseline, *answers]
        return [
            Wish(space.code(network), seed, FINALIST)
            for seed in range(first, first + seeds)
            for network in networks
        ]
