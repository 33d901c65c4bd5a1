"""Hand jobs to the configured launcher, and hand it again those that it lost.

What a launcher returns is not to be trusted: one killed worker makes joblib end its siblings, and
lets submitit and Ray raise while they go on. So the records are read again after each launch,
whoever wrote them. A lost training is launched again twice, and then given up; each time it goes on
after its last whole epoch. Where one can end another, the last time it is alone.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from ssr_exp.app import launchers
from ssr_exp.errors import SsrError, cause

if TYPE_CHECKING:
    from ssr_exp.training.sweep import Errors, Member

log = logging.getLogger(__name__)

SUSPECT = 2  # times that a training was lost, after which it is tried a last time
IDLE = 3  # launches in a row that ended before any training began
PAUSE_S = 5.0  # before such a launch is repeated; twice as long the next time
QUIET_S = 20.0  # that nothing of a launch has run, after which what is left is launched again
LOOK_S = 1.0
WAIT = "wait=true"  # what the launcher lost may still run somewhere


@dataclass
class Launches:
    """Launches of one command.

    Args:
        launcher: of Hydra.
        progress: shows how far a launch of several runs is.
        loudness: says to the trainings of a launch what of theirs is for the screen.
    """

    launcher: Launcher
    progress: Callable[[Sequence[Member]], AbstractContextManager[None]]
    loudness: Callable[[Sequence[Member]], Sequence[str]] = lambda members: ()
    _gate: Gate = field(default_factory=lambda: Gate(), init=False)
    _is_closed: bool = field(default=False, init=False)

    def train(self, members: Sequence[Member]) -> Errors:
        """Train what is not done; returns the errors that only the launcher knows.

        Threads may call it at once.

        Raises:
            SsrError: if the launcher could not begin anything.
        """
        from ssr_exp.training import sweep

        todo = sweep.to_train(members)
        errors = self._insist(todo)
        if waiting := sweep.busy(todo, errors):
            log.info("waiting for %s that another process is training", _networks(waiting))
            errors |= self._insist(waiting, WAIT)
        return errors

    def close(self) -> None:
        """End what is under way in joblib's processes, and launch nothing more in any thread."""
        self._is_closed = True
        launchers.abandon(self.launcher)

    def _insist(self, members: Sequence[Member], *extra: str) -> Errors:
        """Launch until each member has come to an end, raised an error, or was lost too often."""
        errors: Errors = {}
        left, lost, idle, stops = list(members), Counter[Path](), 0, 0
        shared = launchers.shares_fate(self.launcher)
        while left:
            crowd = [m for m in left if lost[m.folder] < SUSPECT or not shared] or left[:1]
            before = [_Trace.of(member) for member in crowd]
            is_suspect = shared and len(crowd) == 1 and lost[crowd[0].folder] > 0
            try:
                with self._gate.alone() if is_suspect else self._gate.together():
                    errors |= self._launch(crowd, *extra)
                ended = crowd
            except SsrError:
                raise
            except Exception as error:  # a launcher that lost a job; the records say which
                self._refuse_if_closed()
                extra, why = (WAIT,), _telling(error)
                stops += 1
                often = f" ({stops} times now)" if stops > 1 else ""
                log.warning("the launcher stopped: %s%s", why, often)
                if not shared:
                    _outwait(before)
                ended = [trace.member for trace in before if trace.has_ended]
                begun = [t.member.folder for t in before if not t.has_ended and t.has_begun]
                idle = 0 if ended or begun else idle + 1
                _pause(idle, why)
                lost.update(begun)
                hopeless = [member for member in crowd if lost[member.folder] > SUSPECT]
                errors |= {member.folder: f"its process was lost ({why})" for member in hopeless}
                ended += hopeless
                if again := [member for member in crowd if member not in ended]:
                    log.info("launching %s again", _networks(again))
            left = [member for member in left if member not in ended]
        return errors

    def _launch(self, members: Sequence[Member], *extra: str) -> Errors:
        """Hand jobs to the launcher; returns the errors of those that raised one."""
        from ssr_exp.runs.store import BUSY

        self._refuse_if_closed()
        launchers.connect(self.launcher)
        words = (*self.loudness(members), *extra)
        jobs = [[*member.overrides, *words] for member in members]
        first = self._gate.number(len(jobs))
        with self.progress(members):
            launch = partial(self.launcher.launch, jobs, initial_job_idx=first)
            returned: Sequence[JobReturn] = (
                _in_thread(launch) if launchers.hides_signals(self.launcher) else launch()
            )
        return {
            member.folder: result._return_value
            for member, result in zip(members, returned, strict=True)
            if result.status is JobStatus.FAILED or result._return_value == BUSY
        }

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise SsrError("the command is ending: nothing more is launched.")


@dataclass(frozen=True)
class _Trace:
    """What a member had left before a launch.

    Args:
        member: of the launch.
        record: when its record was written, in ns.
        begin: when its training was begun.
    """

    member: Member
    record: int | None
    begin: int | None

    @classmethod
    def of(cls, member: Member) -> _Trace:
        from ssr_exp.runs import store

        return cls(
            member,
            store.written_ns(member.folder / store.RECORD_FILE),
            store.written_ns(member.folder / store.CONFIG_FILE),
        )

    @property
    def has_ended(self) -> bool:
        """Say whether it left a record since, or need not be trained."""
        return self.member.is_done or _Trace.of(self.member).record != self.record

    @property
    def has_begun(self) -> bool:
        """Say whether its training began since, or goes on."""
        now, store = _Trace.of(self.member), self.member.store
        return now.begin != self.begin or store.is_busy(self.member.folder)


class Gate:
    """Lets threads launch together, or one alone when all the others have ended."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside = self._waiting = self._numbered = 0
        self._is_alone = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Launch beside others, once nobody wants to be alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_alone)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Launch while nobody else does."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._inside)
                self._inside, self._is_alone = 1, True
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            self._leave()

    def number(self, count: int) -> int:
        """Number jobs; returns the first one's."""
        with self._changed:
            self._numbered += count
            return self._numbered - count

    def _leave(self) -> None:
        with self._changed:
            self._inside, self._is_alone = self._inside - 1, False
            self._changed.notify_all()


def _in_thread(work: Callable[[], Any]) -> Any:
    """Do something that waits in another thread, so that a signal is heard in this one."""
    ended: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(), None))
        except BaseException as error:  # raised again where it is waited for
            ended.put((None, error))

    Thread(target=run, daemon=True).start()
    result, error = ended.get()
    if error is not None:
        raise error
    return result


def _telling(error: Exception) -> str:
    """Put a launcher's error into a part of a sentence: of many lines, the fatal one."""
    fatal = [line for line in str(error).splitlines() if "fatal" in line.lower()]
    return fatal[-1].strip().rstrip(".") if fatal else cause(error)


def _networks(members: Sequence[Member]) -> str:
    from ssr_exp.terminal import counted

    return counted(len(members), "network")


def _outwait(before: Sequence[_Trace]) -> None:
    """Wait for the others of a launch, which go on where none can end another."""
    last = time.monotonic()
    while left := [trace.member for trace in before if not trace.has_ended]:
        if any(member.store.is_busy(member.folder) for member in left):
            last = time.monotonic()
        elif len(before) == 1 or time.monotonic() - last > QUIET_S:
            return
        time.sleep(LOOK_S)


def _pause(idle: int, why: str) -> None:
    """Give an engine that is out of breath a moment, but not for ever.

    Raises:
        SsrError: when it has begun nothing again and again.
    """
    if idle >= IDLE:
        raise SsrError(
            f"the launcher ended before any training began ({why}): mend that, or type "
            "hydra/launcher=basic to train in this process."
        )
    if idle:
        time.sleep(PAUSE_S * 2 ** (idle - 1))
