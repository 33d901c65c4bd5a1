"""Propose whenever a training ends, instead of waiting for the slowest one of a batch.

The networks that are still trained are pending points: they are believed to come out as predicted,
so a proposal neither repeats them nor crowds around them (Ginsbourger et al. 2010). A round is then
`batch` proposals in a row. Which network comes when depends on which training ends first, so unlike
rounds of whole batches, the same seed need not propose the same networks.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ssr_exp.messages import file_log
from ssr_exp.search import attempts, loop
from ssr_exp.search.attempts import Errors, Train
from ssr_exp.search.belief import Belief
from ssr_exp.search.loop import Search
from ssr_exp.search.too_few import TooFew

log = logging.getLogger(__name__)

WAITING = "the records are too few yet"


class Trainings:
    """Trainings under way, each in a thread that waits for it.

    Args:
        train: trains networks by their codes, see `attempts.Train`; threads call it at once.
        slots: how many can be under way; 1: in this thread; None: any number.
    """

    def __init__(self, train: Train, slots: int | None) -> None:
        self._train, self.slots = train, slots
        self._waiting: deque[Callable[[], None]] = deque()
        self._ended: queue.SimpleQueue[tuple[str, Errors | BaseException]] = queue.SimpleQueue()

    def start(self, network: str, origin: str) -> None:
        """Begin to train a network."""

        def work() -> None:
            try:
                self._ended.put((network, self._train([network], origin)))
            except BaseException as error:  # raised again where it is waited for
                self._ended.put((network, error))

        if self.slots == 1:
            self._waiting.append(work)
        else:
            threading.Thread(target=work, name=network, daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Say whether one has ended that nobody waited for."""
        return not self._ended.empty()

    def next(self) -> tuple[str, Errors]:
        """Wait for the next one to end; returns its code and what is known of its errors."""
        if self._waiting:
            self._waiting.popleft()()
        network, errors = self._ended.get()
        if isinstance(errors, BaseException):
            raise errors
        return network, errors


@dataclass
class Run:
    """An asynchronous search, with the trainings of its networks."""

    search: Search
    trainings: Trainings
    _running: dict[str, int] = field(default_factory=dict, init=False)  # network: its round
    _queue: deque[tuple[str, int]] = field(default_factory=deque, init=False)
    _errors: dict[str, object] = field(default_factory=dict, init=False)

    def carry_out(self) -> tuple[Belief, str]:
        """Search; returns what is believed at the end, and why it ended.

        Raises:
            SsrError: if the first networks, or a whole round, failed.
        """
        for plan in self.search.begin():
            self._queue += [(name, plan.number) for name in self.search.attempts.todo(plan)]
        while True:
            reason = self._fill()
            if not self._running:
                break
            self._await_one()
            while self.trainings.has_ended:  # while the last proposal was thought of
                self._await_one()
        belief = self.search.look()
        self.search.tell(belief)
        return belief, reason

    def _fill(self) -> str:
        """Start what waits for its turn, then what is proposed; returns why not more of it."""
        while self._queue and self._free() > 0:
            self._start(*self._queue.popleft())
        while free := max(0, min(self._free(), self.search.conf.batch - len(self._running))):
            if reason := self._propose(free):
                return reason
        return ""

    def _free(self) -> int:
        slots = self.trainings.slots
        return (sys.maxsize if slots is None else slots) - len(self._running)

    def _propose(self, count: int) -> str:
        """Propose up to `count` networks and start them; returns why that was not possible."""
        search, plan = self.search, self.search.open_round()
        if plan is None:
            return search.all_done
        try:
            belief = search.look(self._running)
        except TooFew:
            if not self._running:
                raise
            return WAITING
        if not plan.planned:
            search.tell(belief)
        count = min(count, search.conf.batch - len(plan.planned))
        if not (count := search.affordable(count, len(self._running))):
            return loop.USED_UP
        planned, size = len(plan.planned), search.conf.batch
        _, plan, reason = search.extend(plan, belief, count=count, size=size, running=self._running)
        for network in plan.networks[planned:]:
            self._start(network, plan.number)
        return reason

    def _start(self, network: str, number: int) -> None:
        self._running[network] = number
        self.trainings.start(network, self.search.attempts.origin(number))

    def _await_one(self) -> None:
        """Wait for a training to end; one that failed is tried once more."""
        network, errors = self.trainings.next()
        number = self._running.pop(network)
        self._errors |= errors
        attempts.refuse_disk(errors)
        plan = next(plan for plan in self.search.book.read() if plan.number == number)
        plan = self.search.attempts.count(plan, network)
        failed = self.search.attempts.todo(plan)
        if network not in failed:
            file_log.info("%s has ended; %d are under way", network, len(self._running))
            return
        tries = {one.network: one.attempts for one in plan.planned}
        if tries[network] < attempts.MOST:
            self._queue.append((network, number))
            return
        log.warning("%s failed again and is left out", network)
        if number == 0 or len(plan.planned) >= self.search.conf.batch:
            given_up = [name for name in failed if tries[name] >= attempts.MOST]
            self.search.attempts.refuse_failure(plan, given_up, self._errors)
