"""The trainings that a loop of the user's own has asked for, and what it tells of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import files, terminal, user_code
from ssr_exp.app.ask_tell import results
from ssr_exp.app.ask_tell.asking import Asking, Request
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import FINALIST, NOT_TOLD, Record
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import CONFIG_FILE, LAST_CHECKPOINT, TELLING, is_done
from ssr_exp.search.attempts import MOST
from ssr_exp.training import loop_study, progress
from ssr_exp.training.candidate import Candidate, Told

log = logging.getLogger(__name__)

Key = tuple[str, int]
"""A network's code, and a seed."""


@dataclass(eq=False)
class Telling:
    """What one process has asked for, and records.

    Attributes:
        asking: whose networks they are.
        begun_in: the current folder when the study was begun.
        asked: what is in training here, and since when.
        made: networks that were made by their codes.
        failures: how often trainings of finalists failed.
        warned: whether it was said that a network was not taken, so others were trained.
    """

    asking: Asking
    begun_in: Path
    asked: dict[Key, tuple[Candidate, float]] = field(default_factory=dict, init=False)
    made: set[str] = field(default_factory=set, init=False)
    failures: Counter[Key] = field(default_factory=Counter, init=False)
    warned: bool = field(default=False, init=False)

    @property
    def score(self) -> Score:
        """How networks are judged."""
        return self.asking.opened.score

    def request(
        self, candidate: Candidate | str, seed: int | None, origin: str | None = None
    ) -> Request:
        """Say which training a candidate is of, or a code and a seed; None: the study's.

        Raises:
            SsrError: if it is neither, or no network of this study.
        """
        if isinstance(candidate, Candidate):
            asked_for = Request(candidate.code, candidate.seed, candidate.origin)
            theirs, mine = candidate.folder.parts[-3], self.asking.folder(asked_for).parts[-3]
            if theirs != mine:
                raise SsrError(
                    f"{candidate.code} is a candidate of study {theirs}, and this one is {mine}: "
                    "tell it there."
                )
            return asked_for
        if not isinstance(candidate, str):
            raise SsrError(
                f"{user_code.article(candidate)} is no candidate: give what study.ask() returned, "
                "or its code."
            )
        space = self.asking.search.space
        code = space.code(space.parse(candidate))
        seed = self.asking.conf.seed if seed is None else seed
        whole: Any = seed
        if isinstance(whole, bool) or not isinstance(whole, int) or not 0 <= whole < 2**32:
            raise SsrError(f"seed={seed!r} is no seed: give a whole number from 0 to {2**32 - 1}.")
        asked, _ = self.asked.get((code, seed), (None, None))
        if origin is None:
            origin = asked.origin if asked is not None else self._origin(code, seed)
        return Request(code, seed, origin)

    def _origin(self, code: str, seed: int) -> str:
        """Say why a run was begun, as its configuration says."""
        folder = self.asking.folder(Request(code, seed, ""))
        return str(files.read_or_empty(folder / CONFIG_FILE).get("origin") or "")

    def refuse_elsewhere(self) -> None:
        """Refuse to go on in another folder, where the study's is none: it would begin anew there.

        Raises:
            SsrError: says where to go.
        """
        root = self.asking.store.root
        if not root.is_absolute() and Path.cwd() != self.begun_in:
            raise SsrError(
                f"the current folder was {self.begun_in} when the study was begun, and is "
                f"{Path.cwd()} now, where {root} is another one: change back, or begin with runs= "
                "and a whole path."
            )

    def refuse_stranger(self, request: Request) -> None:
        """Refuse what nobody asked for.

        Raises:
            SsrError: says what to type for a result that exists.
        """
        self.refuse_elsewhere()
        folder = self.asking.folder(request)
        if not (folder / CONFIG_FILE).exists():
            raise SsrError(
                f"{request.network} (seed {request.seed}) was never asked for in "
                f"{folder.parents[1]}: ask for it, or type study.add(code, score) for a result "
                "that exists."
            )

    def offer(self, request: Request) -> Candidate:
        """Make a candidate of a request."""
        return loop_study.candidate(self.asking.job(request), self.asking.folder(request))

    def begin(self, request: Request) -> Candidate:
        """Make a candidate of a request, whose training begins here and now."""
        candidate = self.offer(request)
        self.asked[request.network, request.seed] = candidate, time.monotonic()
        return candidate

    def drop(self, request: Request) -> None:
        """Forget a training that has ended."""
        self.asked.pop((request.network, request.seed), None)

    def waited(self, request: Request) -> float | None:
        """Say for how many seconds a training has gone on; None: it was not asked for here."""
        _, since = self.asked.get((request.network, request.seed), (None, None))
        return None if since is None else time.monotonic() - since

    def has_failed(self, request: Request) -> bool:
        """Say whether a finalist's training has failed too often to be tried again."""
        return self.failures[request.network, request.seed] >= MOST

    def check(self, request: Request, told: Told) -> None:
        """Refuse a result that lacks the score that is needed.

        Raises:
            SsrError: says which.
        """
        if told.error:
            return
        if request.origin != FINALIST and told.score is None:
            raise SsrError(f"tell the {self.score.word} of {request.network} on val, too.")
        if request.origin == FINALIST and told.test is None:
            raise SsrError(
                f"{request.network} is a finalist: tell its score on test, study.tell(candidate, "
                "score, test=...)."
            )

    def tell(
        self, request: Request, told: Told, *, wall_s: float, weights: Any, replace: bool
    ) -> None:
        """Record a result; see `Study.tell`.

        Raises:
            SsrError: if another one was told before, or the weights are of another network.
        """
        asked, _ = self.asked.get((request.network, request.seed), (None, None))
        record = results.record(self.asking, request, told, wall_s=wall_s, device=None)
        folder = self.asking.folder(request)
        with self._one_at_a_time(folder):
            before = self.asking.store.read(folder)
            if not replace and before is not None and self._is_untested(request, before):
                if told.error:  # what the search knows of it stays
                    self._fail_to_test(request, told.error)
                    return
                record = results.tested(before, record)
                self.asking.remember(request)
            elif not replace and self._is_told(before, record):
                if before is not None and results.are_one(before, record):
                    self._keep_late(request, weights, folder)
                self.end(request)
                return
            if not told.error:
                self._keep(request, asked, weights, folder)
            if weights is False and before is not None:  # they were of another training
                (folder / LAST_CHECKPOINT).unlink(missing_ok=True)
            self.asking.store.write(folder, record)
        self._finish(request, record)

    def _one_at_a_time(self, folder: Path) -> AbstractContextManager[None]:
        """Keep one result of a run from another, which may come late."""
        return self.asking.store.claim(folder / TELLING, wait=True)

    def _is_untested(self, request: Request, before: Record) -> bool:
        """Say whether a finalist was trained before with its seed, and only its test is missing."""
        return request.origin == FINALIST and not self.asking.is_done(request) and is_done(before)

    def _fail_to_test(self, request: Request, error: str) -> None:
        """Count that a finalist, whose record of a training before stays, got no score on test."""
        self.failures[request.network, request.seed] += 1
        self.end(request)
        log.warning("%s seed %d was not tested: %s", request.network, request.seed, error)

    def _is_told(self, before: Record | None, now: Record) -> bool:
        """Say whether a result is there that stays; a training of one's own is not lost silently.

        Raises:
            SsrError: if this process told another result for it before.
        """
        if (now.network, now.seed) in self.asked and is_done(before):
            log.warning(
                "%s (seed %d) was told by another process meanwhile: the first result stays",
                now.network,
                now.seed,
            )
            return True
        return results.refuse_other(before, now)

    def _keep(self, request: Request, asked: Candidate | None, weights: Any, folder: Path) -> None:
        if weights is True and asked is not None and not asked.is_built:
            if asked.code not in self.made and not self.warned:
                self.warned = True  # a loop does so with each of its networks
                log.warning(
                    "the network of %s was never taken (candidate.network), so another one was "
                    "trained, and nothing can be exported: train that one, or pass weights=",
                    asked.code,
                )
            return
        if weights is False or (weights is True and asked is None):
            return
        candidate = asked or self.offer(request)
        if weights is True and not candidate.has_learnt():
            log.warning(
                "no parameter of %s has changed since it was made: was another network trained? "
                "(Some trainers build or copy theirs: train candidate.network itself, or pass "
                "weights=.)",
                candidate.code,
            )
        state = weights.state_dict() if isinstance(weights, nn.Module) else weights
        try:
            job = self.asking.job(request)
            loop_study.keep_weights(job, candidate, folder, None if weights is True else state)
        except OSError as error:
            raise self.asking.store.not_written(folder, error) from error

    def _keep_late(self, request: Request, weights: Any, folder: Path) -> None:
        """Keep weights that are told with a score that is there already, if there are none."""
        if weights is None or isinstance(weights, bool):
            return
        if (folder / LAST_CHECKPOINT).exists():
            log.warning("%s has weights: these are not kept (replace=True)", request.network)
            return
        self._keep(request, None, weights, folder)

    def end(self, request: Request) -> None:
        """Let go of a training."""
        self.drop(request)
        self.asking.free(request)

    def _finish(self, request: Request, record: Record) -> None:
        self.end(request)
        self.asking.count(request)
        if record.score is not None or record.test_score is not None:
            seed = f" seed {record.seed}" if record.seed != self.asking.conf.seed else ""
            told = f"{self.asking.so_far(request)}{record.network}{seed}"
            result = progress.result(record, self.asking.conf.objective.cost)
            log.log(terminal.ENDED, "%s  %s", told, result)
        else:
            ended = record.status.value
            log.warning("%s seed %d %s: %s", record.network, record.seed, ended, record.error)

    def fail(self, request: Request, error: str) -> None:
        """Record that a training failed."""
        folder, spent = self.asking.folder(request), self.waited(request) or 0.0
        with self._one_at_a_time(folder):
            before = self.asking.store.read(folder)
            if before is not None and self._is_untested(request, before):
                self._fail_to_test(request, error)
                return
            if is_done(before):
                self.end(request)
                return
            record = results.failed(self.asking, request, error, wall_s=spent)
            self.asking.store.write(folder, record)
        if request.origin == FINALIST:
            self.failures[request.network, request.seed] += 1
        self._finish(request, record)

    def add(
        self,
        request: Request,
        told: Told,
        *,
        wall_s: float,
        weights: Mapping[str, Any] | nn.Module | None,
    ) -> None:
        """Record the result of a network that was trained before, or elsewhere.

        Raises:
            SsrError: if another result is there, or the network is in training.
        """
        record = results.record(self.asking, request, told, wall_s=wall_s, device=NOT_TOLD)
        folder = self.asking.folder(request)
        with self._one_at_a_time(folder):
            if results.refuse_other(self.asking.store.read(folder), record):
                self._keep_late(request, weights, folder)
                return
            if not self.asking.claim(request):
                raise SsrError(f"{request.network} is being trained: it will be told.")
            try:
                if weights is not None:
                    self._keep(request, None, weights, folder)
                self.asking.store.write(folder, record)
            except BaseException:
                self.asking.free(request)
                raise
        self._finish(request, record)
