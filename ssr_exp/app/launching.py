"""Hand jobs to the configured launcher, and hand it again those that it lost.

What a launcher returns is not to be trusted: one killed worker makes joblib end its siblings, and
lets submitit and Ray raise while they go on. So the records are read again after each launch,
whoever wrote them. A lost training is launched again twice, and then given up; each time it goes on
after its last whole epoch. Where one can end another, those that were lost are repeated one by one:
of a sweep the last time, of threads that launch at once both times.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from ssr_exp import messages
from ssr_exp.app import launchers
from ssr_exp.errors import SsrError, cause
from ssr_exp.runs.store import BUSY, CONFIG_FILE, RECORD_FILE, written_ns
from ssr_exp.terminal import counted
from ssr_exp.training import sweep
from ssr_exp.training.sweep import Errors, Member

Stamps = tuple[int | None, int | None]
"""When a member's record was written, and when its training was begun, in ns."""

log = logging.getLogger(__name__)

SUSPECT = 2  # times that a training was lost, after which it is tried a last time
IDLE = 3  # launches in a row that ended before a training began
PAUSE_S, LONGEST_S = 5.0, 600.0  # before such a launch is repeated; twice as long the next time
NONE_BEGAN = (
    "the launcher ended {times} times before a training began ({why}): mend that, or type "
    "hydra/launcher=basic to train in this process."
)
QUIET_S = 20.0  # that nothing of a launch has run, after which what is left is launched again
LOOK_S = 1.0
WAIT = "wait=true"  # what the launcher lost may still run somewhere


@dataclass
class Launches:
    """Launches of one command.

    Args:
        launcher: of Hydra.
        progress: shows how far runs are that are to be trained.
        loudness: says to the trainings of a launch what of theirs is for the screen.
    """

    launcher: Launcher
    progress: Callable[[Sequence[Member]], AbstractContextManager[None]]
    loudness: Callable[[], Sequence[str]] = tuple
    _turns: Condition = field(default_factory=Condition, init=False)
    _under_way: int = field(default=0, init=False)
    _numbering: Lock = field(default_factory=Lock, init=False)
    _numbered: int = field(default=0, init=False)
    _closed: Event = field(default_factory=Event, init=False)
    _begun: dict[Path, int | None] = field(default_factory=dict, init=False)  # when launched last
    _launched: set[Path] = field(default_factory=set, init=False)  # and not known to have ended
    _useful: int = field(default=0, init=False)  # launches in which something ended
    _idle: set[Path] = field(default_factory=set, init=False)  # launched, and ended unbegun

    @property
    def is_under_way(self) -> bool:
        """Whether a launch has not ended, as far as this command knows."""
        return bool(self._launched)

    def train(self, members: Sequence[Member]) -> Errors:
        """Train what is not done; returns the errors that only the launcher knows.

        Threads may call it at once.

        Raises:
            SsrError: if the launcher could not begin anything.
        """
        todo = sweep.to_train(members)
        with self.progress(todo):
            errors = self._launch_until_ended(todo)
            if waiting := sweep.busy(todo, errors):
                networks = counted(len(waiting), "network")
                log.info("waiting for %s that another process is training", networks)
                if not launchers.shares_fate(self.launcher):  # a job that waits would hold a GPU
                    _outwait(waiting, {member.folder: _stamps(member) for member in waiting})
                    waiting = sweep.to_train(waiting)
                errors |= self._launch_until_ended(waiting, WAIT)
        return errors

    def close(self) -> None:
        """End what is under way in joblib's processes, and launch nothing more in any thread."""
        self._closed.set()
        launchers.abandon(self.launcher)

    @contextmanager
    def _turn(self, *, alone: bool) -> Iterator[None]:
        """Launch beside other threads, or alone: then nothing is under way, and nothing begins."""
        with self._turns:
            if alone:
                self._turns.wait_for(lambda: not self._under_way)
                yield
                return
            self._under_way += 1
        try:
            yield
        finally:
            with self._turns:
                self._under_way -= 1
                self._turns.notify_all()

    def _launch_until_ended(self, members: Sequence[Member], *extra: str) -> Errors:
        """Launch until each member has come to an end, raised an error, or was lost too often."""
        errors: Errors = {}
        left, lost, idle, stops = list(members), Counter[Path](), 0, 0
        signs: set[object] = set()
        shared = launchers.shares_fate(self.launcher)
        while left:
            crowd = [m for m in left if lost[m.folder] < SUSPECT or not shared] or left[:1]
            before = {member.folder: _stamps(member) for member in crowd}
            # What was lost may be deadly to what runs beside it: threads repeat it alone.
            try:
                with self._turn(alone=bool(lost)) if shared else nullcontext():
                    errors |= self._launch(crowd, *extra)
                ended, idle = crowd, 0
                self._useful += 1
            except SsrError:
                raise
            except Exception as error:  # a launcher that lost a job; the records say which
                self._refuse_if_closed()
                extra, why, stops = (WAIT,), _reason(error), stops + 1
                often = f" ({stops} times now)" if stops > 1 else ""
                log.warning("the launcher stopped: %s%s", why, often)
                if not shared:
                    _outwait(crowd, before)
                ended = _ended(crowd, before)
                begun = [m.folder for m in crowd if m not in ended and _has_begun(m, before)]
                self._useful += bool(ended)
                if ended or begun:
                    idle = 0
                elif (idle := idle + 1) == 1:
                    signs = self._signs()
                    self._idle |= {*before}
                if idle >= IDLE:
                    if len(crowd) < len(members) or self._signs() - signs:
                        begun, idle = [*before] * (SUSPECT + 1), 0  # it is not the launcher
                    elif self._launched <= self._idle:
                        raise SsrError(NONE_BEGAN.format(times=idle, why=why)) from None
                if idle:  # an engine that is out of breath gets a moment
                    self._closed.wait(min(PAUSE_S * 2 ** min(idle - 1, 9), LONGEST_S))
                lost.update(begun)
                hopeless = [member for member in crowd if lost[member.folder] > SUSPECT]
                errors |= {member.folder: f"its process was lost ({why})" for member in hopeless}
                ended += hopeless
                if again := len(crowd) - len(ended):
                    log.info("launching %s again", counted(again, "network"))
            self._launched -= {*before}
            self._idle -= set() if idle else {*before}
            left = [member for member in left if member not in ended]
        return errors

    def _launch(self, members: Sequence[Member], *extra: str) -> Errors:
        """Hand jobs to the launcher; returns the errors of those that raised one."""
        self._refuse_if_closed()
        launchers.connect(self.launcher)
        words = (*self.loudness(), *extra)
        jobs = [[*member.overrides, *_study(member), *words] for member in members]
        self._launched.update(member.folder for member in members)
        self._begun |= {member.folder: _stamps(member)[1] for member in members}
        with self._numbering:
            first, self._numbered = self._numbered, self._numbered + len(jobs)
        launch = partial(self.launcher.launch, jobs, initial_job_idx=first)
        returned: Sequence[JobReturn] = (
            _in_thread(launch) if launchers.hides_signals(self.launcher) else launch()
        )
        return {
            member.folder: result._return_value
            for member, result in zip(members, returned, strict=True)
            if result.status is JobStatus.FAILED or result._return_value == BUSY
        }

    def _signs(self) -> set[object]:
        """Keep what shows that the launcher works: what has begun since, and what has ended."""
        now = [(folder, written_ns(folder / CONFIG_FILE)) for folder in [*self._begun]]
        begun = {(f, when) for f, when in now if when not in (None, self._begun[f])}
        return {self._useful, *begun}

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise SsrError("the command is ending: nothing more is launched.")


def _study(member: Member) -> list[str]:
    """Say which study a job is of: its process reads code and data anew, which may have changed."""
    job = member.job
    return [] if job is None else [messages.setting("job_of", job.study.name)]


def _stamps(member: Member) -> Stamps:
    return written_ns(member.folder / RECORD_FILE), written_ns(member.folder / CONFIG_FILE)


def _ended(members: Iterable[Member], before: Mapping[Path, Stamps]) -> list[Member]:
    """Keep the members that left a record since a launch, or need not be trained."""
    return [m for m in members if m.is_done or _stamps(m)[0] != before[m.folder][0]]


def _has_begun(member: Member, before: Mapping[Path, Stamps]) -> bool:
    """Say whether a member's training began since a launch, or goes on."""
    is_new = _stamps(member)[1] != before[member.folder][1]
    return is_new or _is_under_way(member)


def _is_under_way(member: Member) -> bool:
    """Say whether a process is training a member, or tests what was trained before."""
    store, folder = member.store, member.folder
    return store.is_claimed(folder) if member.tested else store.is_busy(folder)


def _in_thread(work: Callable[[], Any]) -> Any:
    """Do something that waits in another thread, so that a signal is heard in this one."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised again where it is waited for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result()


def _reason(error: Exception) -> str:
    """Put a launcher's error into a part of a sentence: of many lines, the fatal one."""
    fatal = [line for line in str(error).splitlines() if "fatal" in line.lower()]
    return fatal[-1].strip().rstrip(".") if fatal else cause(error)


def _outwait(members: Sequence[Member], before: Mapping[Path, Stamps]) -> None:
    """Wait for what other processes train: the rest of a launch, or another command's."""
    last = time.monotonic()
    while left := set(members) - set(_ended(members, before)):
        if any(map(_is_under_way, left)):
            last = time.monotonic()
        elif len(members) == 1 or time.monotonic() - last > QUIET_S:
            return
        time.sleep(LOOK_S)
