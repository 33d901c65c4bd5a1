"""The last trainings of a study: baseline and answers, with seeds that the search did not use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ssr_exp.app.ask_tell.asking import Request, Waiting
from ssr_exp.app.ask_tell.telling import Telling
from ssr_exp.config import FinalistsConf
from ssr_exp.report import search_results
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import is_done
from ssr_exp.search import answer, decision
from ssr_exp.search.belief import Belief
from ssr_exp.search.retries import Retries


@dataclass(eq=False)
class LastTrainings:
    """Finalists, one training after the other; several processes share them.

    Attributes:
        telling: what this process asked for.
        belief: by which the answers are.
        conf: how many there are.
        requests: those that are known to be needed.
        first: how many answers are tested whatever the others give.
    """

    telling: Telling
    belief: Belief
    conf: FinalistsConf
    requests: list[Request] = field(init=False)
    first: int = field(init=False)

    def __post_init__(self) -> None:
        baseline = self.belief.history.space.plan.baseline
        answers = [a for a in answer.good_enough(self.belief) if a != baseline]
        self.first = len(answers[: self.conf.count])
        self.requests = self._of([baseline, *answers[: self.first]])

    def claim(self) -> Request | Waiting | None:
        """Claim the next one for this process; None if all are done."""
        asking, more = self.telling.asking, self.requests
        with asking.turn(tries=1) as is_ours:
            if not is_ours:
                return asking.locked(self.requests)
            while more:
                busy = []
                for request in sorted(self.requests, key=asking.is_suspect):
                    done = asking.store.read(asking.folder(request))
                    if is_done(done, tested=True):
                        self._count(request, done)
                        continue
                    if self.telling.has_failed(request):
                        continue
                    if asking.claim(request):
                        return request
                    busy.append(request)
                if busy:
                    return asking.waiting(busy)
                more = self._retried()
                self.requests.extend(more)
        return None

    def _count(self, request: Request, done: Record | None) -> None:
        """Let a training count as a finalist's that was tested before anybody asked for that."""
        if done is None or done.test_score is None or done.origin == FINALIST:
            return
        asking = self.telling.asking
        asking.queue.remember(request.network, request.seed)
        asking.store.write(asking.folder(request), done.model_copy(update={"origin": FINALIST}))

    def _retried(self) -> list[Request]:
        """List those of one more answer; all before have ended.

        It is tested where those lose too much on test, or is promised since they scored on val, and
        cheaper. Drops are of means over all finalists, as those of the answer are.
        """
        asking, space = self.telling.asking, self.belief.history.space
        tried = dict.fromkeys(space.parse(request.network) for request in self.requests)
        finals = search_results.read_finals(asking.store, asking.opened.name)
        baseline = space.plan.baseline
        ended = {record.network for record in finals if record.test_score is not None}
        if space.code(baseline) not in ended:
            return []
        tested = decision.drops_on_test(self.belief, finals)
        drops = {a: tested.get(a, math.inf) for a in tried if a != baseline}

        def is_tested(architecture: Architecture) -> bool:
            return all(map(asking.is_done, self._of([architecture])))

        limits = (self.conf.retries, self.conf.seeds)
        choice = Retries(self.belief, *limits, asking.search.affordable, is_tested)
        if (one := choice.next(drops, first=self.first)) is None:
            seen = asking.believe()
            decided = decision.decide(self.belief, tested | drops, seen)
            one = decided.network
            if one in tried:  # else it was tested before, perhaps not with all seeds
                one = choice.next_cheaper(seen, decided, [*drops], first=self.first)
        return [] if one is None else self._of([one])

    def _of(self, networks: Sequence[Architecture]) -> list[Request]:
        code, first = self.belief.history.space.code, self.telling.asking.conf.seed + 1
        return [
            Request(code(network), seed, FINALIST)
            for seed in range(first, first + self.conf.seeds)
            for network in networks
        ]
