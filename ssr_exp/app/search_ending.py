"""How a search ends: the last comparison is trained, and its answer handed over."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssr_exp.app import judging
from ssr_exp.app.sweeping import LaunchingCommand
from ssr_exp.config import Arm, Init, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.report import search_results
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import seed_means
from ssr_exp.runs.record import FINALIST, Record, Status, n_tested
from ssr_exp.runs.store import BEST_FOLDER, EXPORTS, Store
from ssr_exp.search import answer, answer_printing, costs, decision, printing
from ssr_exp.search.answer import Contender, DeviceLatency, Result
from ssr_exp.search.belief import Belief
from ssr_exp.search.decision import Decision
from ssr_exp.search.retries import Retries
from ssr_exp.terminal import counted, likely
from ssr_exp.training import answer_folder, finalists, opened_study
from ssr_exp.training.opened_study import OpenedStudy
from ssr_exp.training.sweep import ALONE, Member

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """The end of one search.

    Args:
        command: trains what is not done.
        arguments: its command line.
        conf: what that composes to.
        study: its study.
        belief: what is believed after its last round.
        affordable: how many of so many more trainings the budget allows.
        look: believes anew, by all records that there are.
        tell: leaves that for pages, which then say what the answer's rows do.
        remember: writes down that the search knew a network and a seed before it was a finalist.
    """

    command: LaunchingCommand
    arguments: Sequence[str]
    conf: SearchConfig
    study: OpenedStudy
    belief: Belief
    affordable: Callable[[int], int]
    look: Callable[[], Belief]
    tell: Callable[[Belief], object]
    remember: Callable[[str, int], object] = lambda *_: None

    def carry_out(self) -> list[Record]:
        """Train the finalists, print what was tested beside the answer, and hand that over.

        Returns the answer's record; what is printed of it is read from its folder.

        Raises:
            SsrError: if no finalist could be trained.
        """
        answers = answer.good_enough(self.belief)
        if self.conf.finalists.seeds:
            return self._finalists(answers)
        return self._as_searched()

    def _finalists(self, answers: Sequence[Architecture]) -> list[Record]:
        smaller = [a for a in answers if a != self.study.plan.baseline]
        tried = smaller[: self.conf.finalists.count]
        named = answer.contenders(self.belief, self.conf, tried)
        named += self._family(answers[0], named)
        if not tried:
            self._say_that_none_is_promised()
        members = self._trained(named)
        results = self._results(members)
        self._check(results, members)
        conf, count = self.conf.finalists, len(tried)
        retries = Retries(self.belief, conf.retries, conf.seeds, self.affordable, self._is_tested)
        while one := retries.next(self._drops(tried, results), first=count):
            name = answer.finalist(self.belief.history.space.code(one), len(tried))
            tried.append(one)
            members |= self._trained([name])
            results = self._results(members)
        decided, seen = self._decided(tried, results)
        while one := self._left(decided, seen, tried, retries, first=count):
            code = self.belief.history.space.code(one)
            tried.append(one)
            members = {c: some for c, some in members.items() if c.network != code}  # an arm
            members |= self._trained([answer.finalist(code, max(len(tried) - 1, 1))])
            results = self._results(members)
            decided, seen = self._decided(tried, results)
        results = self._chosen_first(results, tried, decided.network)
        best = self._best(results, tried, decided.network)
        store, full = Store(self.conf.paths.runs), self.belief.history.space.baseline.params
        earlier = judging.tested_before(store, self.study.name, results, full=full)
        tested = [*results, *earlier]
        decided = judging.with_arms(decided, self.belief, tested)
        printing.print_others(tested)
        if tried:
            answer_printing.print_costs_of(results, self.belief.history.space.code(tried[0]))
        chosen = self._handed(best)
        drop = self.belief.score.drop(best.score, results[0].score)
        measured = {"answer": best.figure(), "baseline": results[0].figure()}
        rows = {"results": answer.summary(tested), "measured": measured}
        rows |= finalists.images(self.conf, self.study.splits)
        return self._hand_over(chosen, {"measured_on": "test", "drop": drop} | rows, decided, seen)

    def _say_that_none_is_promised(self) -> None:
        """Say before the baseline is tested that no smaller network is, and what would name one."""
        before = self._decided_before()
        if before.network != self.study.plan.baseline:
            return
        limit, sure = self.belief.score.short_drop(self.belief.drop), self.belief.confidence
        one = answer.likeliest(self.belief, before.drops)
        best = "" if one is None else f" (the likeliest: {self._how_likely(one)})"
        log.info(
            "no smaller network that is good enough on val is %s likely to lose at most %s on "
            "test%s, so the baseline is the answer%s; more rounds, a larger %s or a lower "
            "objective.confidence may name one",
            likely(sure),
            limit,
            best,
            "" if finalists.learns_val(self.conf) else " so far",
            "cap.drop" if self._is_capped else "objective.max_drop",
        )

    @property
    def _is_capped(self) -> bool:
        """Whether the cap on the drop allows less than the objective does."""
        return self.belief.drop >= self.belief.caps.get("drop", math.inf)

    def _how_likely(self, one: Architecture) -> str:
        probability = self.belief.promises[one].probability
        return f"{self.belief.history.space.code(one)}, {likely(probability)}"

    def _decided(
        self, tried: Sequence[Architecture], results: Sequence[Result]
    ) -> tuple[Decision, Belief]:
        """Choose among all that were tested, by this command or by one before.

        Returns it with what is believed by now.
        """
        finals = search_results.read_finals(Store(self.conf.paths.runs), self.study.name)
        compared = {result.contender.network for result in results}  # arms are not answers
        others = [record for record in finals if record.network not in compared]
        baseline = [r for r in finals if r.network == results[0].contender.network]
        before = decision.drops_on_test(self.belief, [*baseline, *others])
        seen = self._seen()
        drops = before | self._drops(tried, results)
        return decision.decide(self.belief, drops, seen), seen

    def _left(
        self,
        decided: Decision,
        seen: Belief,
        tried: Sequence[Architecture],
        retries: Retries,
        *,
        first: int,
    ) -> Architecture | None:
        """Say what is to be tested, too; None: nothing.

        It is the choice of a command before, by the seeds of this one, or a cheaper network that is
        promised since finalists have scored on val.
        """
        if decided.network not in (*tried, self.study.plan.baseline):
            return decided.network
        return retries.next_cheaper(seen, decided, tried, first=first)

    def _seen(self) -> Belief:
        """Believe by all trainings: finalists that have a score on val count for what is next."""
        return self.belief if finalists.learns_val(self.conf) else self.look()

    def _decided_before(self) -> Decision:
        """Choose by what commands or a loop have tested before."""
        store = Store(self.conf.paths.runs)
        return judging.decide(store, self.study.name, self.belief, self._seen())

    def _trained(self, named: Sequence[Contender]) -> dict[Contender, list[Member]]:
        """Train networks with all seeds, as far as that is not done."""
        members = {one: self._members(self._trainings(one)) for one in named}
        every = [member for some in members.values() for member in some]
        if left := sum(not member.is_done for member in every):
            each = counted(self.conf.finalists.seeds, "seed")
            done = "" if left == len(every) else f"; {left} of {len(every)} trainings are left"
            log.info("finalists: %s, %s each%s", counted(len(named), "network"), each, done)
        for member in every:  # what the search trained with that seed is tested, and a finalist's
            if (record := member.record()) is not None and record.origin != FINALIST:
                self.remember(record.network, record.seed)
        self.command.use(every)
        self.command.display.title, self.command.display.total = "finalists", 0
        self.command.train([member for some in members.values() for member in some])
        return members

    def _is_tested(self, architecture: Architecture) -> bool:
        """Say whether a network was trained as a finalist, and tested, with all seeds."""
        named = answer.finalist(self.belief.history.space.code(architecture), 1)
        return all(member.is_done for member in self._members(self._trainings(named)))

    def _results(self, members: Mapping[Contender, Sequence[Member]]) -> list[Result]:
        """Average what finalists gave, with all seeds that they were trained with."""
        read = functools.cache(Store(self.conf.paths.runs).records)  # a study's, once for all
        own = {c: [r for m in some if (r := m.record())] for c, some in members.items()}
        rows = [(c, finalists.with_earlier(read, records)) for c, records in own.items()]
        return answer.results(rows, full=self.belief.history.space.baseline.params)

    def _handed(self, best: Result) -> Member:
        """Choose the training whose weights are handed over: of those that a loop kept some of."""
        kept = finalists.with_weights(Store(self.conf.paths.runs), best.records)
        one = answer.shipped(kept or best.records)
        words = finalists.overrides(self.conf, network=one.network, model=None, seed=one.seed)
        (member,) = self._members([words])
        return member

    def _drops(
        self, tried: Sequence[Architecture], results: Sequence[Result]
    ) -> dict[Architecture, float]:
        """Say what answers lost on test, in the order of trying; infinite where nothing did."""
        code, score = self.belief.history.space.code, self.belief.score
        scores = {r.contender.network: r.score for r in results}
        baseline = results[0].score
        return {
            a: score.drop(scores[code(a)], baseline) if code(a) in scores else math.inf
            for a in tried
        }

    def _chosen_first(
        self, results: Sequence[Result], tried: Sequence[Architecture], best: Architecture
    ) -> list[Result]:
        """Call the one of them that is handed over the answer; the others stay finalists."""
        if best not in tried:
            return list(results)
        code = self.belief.history.space.code
        order = [code(best), *(code(a) for a in tried if a != best)]
        arms = [arm.value.replace("_", " ") for arm in Arm]
        named = [
            replace(r, contender=answer.finalist(tested, order.index(tested)))
            if (tested := r.contender.network) in order and r.contender.role not in arms
            else r
            for r in results
        ]
        return sorted(named, key=lambda r: (r is not named[0], r.contender.role != answer.ROLE))

    def _trainings(self, one: Contender) -> list[list[str]]:
        """Spell what each of a finalist's trainings adds to the command line."""
        first = self.conf.seed
        if not finalists.learns_val(self.conf):
            first += 1  # else they were the search's own runs, which chose the answer
        return [
            finalists.overrides(self.conf, network=one.network, model=one.model, seed=seed)
            for seed in range(first, first + self.conf.finalists.seeds)
        ]

    def _check(
        self, results: Sequence[Result], members: Mapping[Contender, Sequence[Member]]
    ) -> None:
        asked, ended = self.conf.finalists.seeds, {result.contender for result in results}
        for contender, some in members.items():
            records = (member.record() for member in some)
            count = sum(r is not None and r.test_score is not None for r in records)
            if count < asked:
                log.warning(
                    "%d of %d trainings of %s failed or diverged%s",
                    asked - count,
                    asked,
                    contender.role,
                    "; its mean is of the others" if count else "",
                )
        if answer.BASELINE not in {contender.role for contender in ended}:
            raise SsrError(self._without_tests([self.study.plan.baseline]))

    def _best(
        self, results: Sequence[Result], tried: Sequence[Architecture], chosen: Architecture
    ) -> Result:
        """Return what the network gave that is handed over.

        Raises:
            SsrError: if it gave nothing, nor did any other answer that was tried.
        """
        code = self.belief.history.space.code(chosen)
        for result in results:
            if result.contender.network == code:
                return result
        raise SsrError(self._without_tests(tried))

    def _without_tests(self, networks: Iterable[Architecture]) -> str:
        codes = ", ".join(map(self.belief.history.space.code, networks))
        return (
            f"all finalists' trainings of {codes} failed or diverged, so there is no answer to "
            "hand over: mend the cause that is printed above and repeat the command, with "
            f"finalists.seeds={self.conf.finalists.seeds + 1} or more where trainings diverged: "
            "those are not repeated."
        )

    def _as_searched(self) -> list[Record]:
        """Hand over the search's own training of the answer; what was tested before decides it."""
        store, space, seen = Store(self.conf.paths.runs), self.belief.history.space, self._seen()
        finals = search_results.read_finals(store, self.study.name)
        decided = judging.decide(store, self.study.name, self.belief, seen)
        network, baseline = space.code(decided.network), space.code(space.plan.baseline)
        (member,) = self._members([[*finalists.UNTESTED, *ALONE, f"modifiers.network={network}"]])
        means = seed_means.on_val(seen.history.records)  # some may be from elsewhere
        drop = self.belief.score.drop(means[network].mean, means[baseline].mean)
        measured = {"answer": means[network].figure(), "baseline": means[baseline].figure()}
        metrics = {"measured_on": "val", "drop": drop, "measured": measured}
        study, full = self.study.name, space.baseline.params
        tested = judging.compared(
            store, study, finals, baseline=baseline, chosen=network, full=full
        )
        elsewhere = (record.study for record in finals if record.study != study)
        rows = {"results": answer.summary(tested), "finals_study": next(elsewhere, None)}
        return self._hand_over(member, metrics | rows, decided, seen)

    def _family(self, chosen: Architecture, others: Sequence[Contender]) -> list[Contender]:
        """Name the plain sibling of the seed network whose cost is nearest to the answer's.

        One that is the network of another contender, such as ResNet-14 is that of uniform depth, is
        trained once.
        """
        if Arm.family not in self.conf.finalists.arms:
            return []
        sibling = finalists.sibling(
            self.conf.model,
            self.conf.objective.cost,
            cost.count_one(self.study.plan, chosen),
            lambda words: self.command.compose([*self.arguments, *words]),
        )
        if sibling is None:
            return []
        is_fresh, space = self.conf.init.kind is Init.fresh, self.belief.history.space
        for one in others if is_fresh else ():
            if one.network == sibling.code:
                own = cost.count_one(space.plan, space.parse(sibling.code))
                if own == sibling.cost:
                    log.info(
                        "the family's %s is %s, the network of %s: it is trained once",
                        *(sibling.model, sibling.code, one.role),
                    )
                    return []
        role = "family" if is_fresh else "family, fresh weights"
        return [Contender(role, None, sibling.model)]

    def _members(self, jobs: Iterable[Sequence[str]]) -> list[Member]:
        return self.command.members([[*self.arguments, *job] for job in jobs])

    def _hand_over(
        self, member: Member, metrics: dict[str, Any], decided: Decision, seen: Belief
    ) -> list[Record]:
        record = member.record()
        if record is None or record.status is not Status.finished:
            raise SsrError(
                f"{member.title} has no finished training on this machine, so its weights are not "
                "here: type finalists.seeds=1 or more, and it is trained again."
            )
        conf = self.command.compose(member.overrides)
        store = Store(self.conf.paths.runs)
        to = store.study_folder(self.study.name) / BEST_FOLDER
        latency = answer.latency(self.belief, self.belief.history.space.parse(record.network))
        if latency is not None and latency.measured and latency.batch == 1:
            record = _with_latency(record, latency)
        question = {"allowed": self.belief.drop, "confidence": self.belief.confidence}
        if seen is not self.belief:
            self.tell(seen)
        elsewhere = metrics.get("finals_study") or record.study  # finalists may have their own
        studies = {self.study.name, elsewhere}
        tested = n_tested(one for study in studies for one in store.records(study))
        metrics = metrics | judging.told_fields(
            decided, self.belief, seen, self.conf.objective, latency=latency
        )
        metrics |= {"networks_tested": tested}
        metrics |= {"export": answer_folder.export_words(self.study, conf, to)}
        axis = self.conf.objective.cost
        exported = to.parent / EXPORTS / to.name
        answer_printing.print_replaced(
            store.read(to), record, **question, axis=axis, exported=exported
        )
        answer_folder.write(opened_study.open(conf), conf, record, member.folder, to, metrics)
        return [record]


def _with_latency(record: Record, latency: DeviceLatency) -> Record:
    """Put the answer's latency into its record, with its device where that has a name."""
    if latency.setting == costs.UNNAMED:
        return record.model_copy(update={"latency_ms": latency.ms, "latency_device": None})
    latencies = (record.latencies or {}) | {latency.setting: latency.ms}
    one = {"latency_ms": latency.ms, "latency_device": latency.setting}
    return record.model_copy(update=one | {"latencies": latencies})
