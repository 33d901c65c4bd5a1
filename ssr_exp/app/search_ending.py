"""How a search ends: the last comparison is trained, and its answer handed over."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ssr_exp.app.sweeping import LaunchingCommand
from ssr_exp.config import Arm, Init, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import store
from ssr_exp.runs.record import Record, Status
from ssr_exp.search import answer, printing
from ssr_exp.search.answer import Contender, Result
from ssr_exp.search.belief import Belief
from ssr_exp.terminal import counted
from ssr_exp.training import answer_folder, finalists, study
from ssr_exp.training.study import Study
from ssr_exp.training.sweep import ALONE, Member

log = logging.getLogger(__name__)


class Ending:
    """The end of one search.

    Args:
        launcher: trains what is not done.
        arguments: the search's command line.
        conf: what it composes to.
        opened: its study.
        belief: what is believed after its last round.
    """

    def __init__(
        self,
        launcher: LaunchingCommand,
        arguments: Sequence[str],
        conf: SearchConfig,
        opened: Study,
        belief: Belief,
    ) -> None:
        self._launcher, self._arguments = launcher, tuple(arguments)
        self._conf, self._opened, self._belief = conf, opened, belief

    def carry_out(self) -> list[Record]:
        """Train the finalists, print the last comparison, and hand over; returns the answer.

        Raises:
            SsrError: if no finalist could be trained.
        """
        answers = answer.accurate_enough(self._belief)[: self._conf.finalists.count]
        if self._conf.finalists.seeds:
            return self._finalists(answers)
        return self._as_searched(answers[0])

    def _finalists(self, answers: Sequence[Architecture]) -> list[Record]:
        seeds = range(self._conf.seed, self._conf.seed + self._conf.finalists.seeds)
        named = answer.contenders(self._belief, self._conf, answers) + self._family(answers[0])
        log.info(
            "finalists: %s, %s each", counted(len(named), "network"), counted(len(seeds), "seed")
        )
        members = {
            contender: self._members(
                finalists.overrides(
                    self._conf.finalists,
                    network=contender.network,
                    model=contender.model,
                    seed=seed,
                )
                for seed in seeds
            )
            for contender in named
        }
        self._launcher.train([member for some in members.values() for member in some])
        rows = [(c, [r for m in some if (r := m.record())]) for c, some in members.items()]
        found = answer.results(rows, full=self._belief.history.space.baseline.params)
        self._check(found, named)
        printing.print_results(found)
        best = next((r for r in found if r.contender.role == answer.ROLE), found[0])
        drop = found[0].accuracy - best.accuracy
        metrics = {"accuracy": "test", "drop": drop, "results": answer.summary(found)}
        chosen = next(m for m in members[best.contender] if m.record() in best.records)
        return self._hand_over(chosen, metrics, drop)

    def _check(self, found: Sequence[Result], named: Sequence[Contender]) -> None:
        asked, ended = self._conf.finalists.seeds, {r.contender: len(r.records) for r in found}
        for contender in named:
            if (count := ended.get(contender, 0)) < asked:
                log.warning(
                    "%d of %d trainings of %s failed or diverged%s",
                    asked - count,
                    asked,
                    contender.role,
                    "; its mean is of the others" if count else "",
                )
        missing = [contender for contender in named if contender not in ended]
        if {answer.BASELINE, answer.ROLE} & {contender.role for contender in missing}:
            raise SsrError(
                "a finalist failed, so there is no answer to hand over: mend the cause that is "
                "printed above and repeat the command."
            )

    def _as_searched(self, chosen: Architecture) -> list[Record]:
        """Hand over the search's own training of a network."""
        network = self._belief.history.space.code(chosen)
        (member,) = self._members([[*finalists.UNTESTED, *ALONE, f"modifiers.network={network}"]])
        accuracies = self._belief.history.accuracies()
        drop = accuracies[self._opened.plan.baseline] - accuracies[chosen]
        return self._hand_over(member, {"accuracy": "val", "drop": drop}, drop)

    def _family(self, chosen: Architecture) -> list[Contender]:
        """Name the plain sibling of the seed network whose cost is nearest to the answer's."""
        if Arm.family not in self._conf.finalists.arms:
            return []
        own = cost.of(self._opened.plan, chosen)
        name = finalists.sibling(
            self._conf.model,
            self._conf.objective.cost,
            own,
            lambda words: self._launcher.compose([*self._arguments, *words]),
        )
        role = "family" if self._conf.init.kind is Init.fresh else "family, fresh weights"
        return [] if name is None else [Contender(role, None, name)]

    def _members(self, jobs: Iterable[Sequence[str]]) -> list[Member]:
        return self._launcher.members([[*self._arguments, *job] for job in jobs])

    def _hand_over(self, member: Member, metrics: dict[str, Any], drop: float) -> list[Record]:
        record = member.record()
        if record is None or record.status is not Status.finished:
            raise SsrError(
                f"{member.title} has no finished training on this machine, so its weights are not "
                "here: type finalists.seeds=1 or more, and it is trained again."
            )
        conf = self._launcher.compose(member.overrides)
        to = store.Store(self._conf.paths.runs).study_folder(self._opened.name) / store.BEST_FOLDER
        taken = answer.latency(self._belief, self._belief.history.space.parse(record.network))
        if taken is not None and taken.measured and self._conf.latency.batch == 1:
            known = (record.latencies or {}) | {taken.setting: taken.ms}
            fields = {"latency_ms": taken.ms, "latency_device": taken.setting, "latencies": known}
            record = record.model_copy(update=fields)
        metrics = metrics | ({} if taken is None else {"latency": asdict(taken)})
        answer_folder.write(study.open(conf), conf, record, member.folder, to, metrics)
        printing.print_answer(
            record,
            drop=drop,
            allowed=self._conf.objective.max_drop,
            on=metrics["accuracy"],
            folder=to,
            taken=taken,
        )
        return [record]
