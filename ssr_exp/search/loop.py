"""The loop: read the records, propose a batch, have it trained, read again.

It trains nothing itself and keeps no state but its plans and the records, so it goes on from
wherever it was killed.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ssr_exp.config import SearchConfig, TaskKind
from ssr_exp.errors import SsrError
from ssr_exp.messages import WARNING
from ssr_exp.rescaling import lattice
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import FEWEST, Predictions
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import is_done
from ssr_exp.search import budget, costs, ending, history, printing, summary, too_few
from ssr_exp.search.attempts import Attempts, Train
from ssr_exp.search.belief import Belief
from ssr_exp.search.caps import check_latency, log_limit
from ssr_exp.search.costs import Latencies
from ssr_exp.search.evidence import Evidence
from ssr_exp.search.history import History
from ssr_exp.search.proposals import propose
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.rounds import End, Notebook, Planned, Round
from ssr_exp.search.space import Space
from ssr_exp.search.surrogate import CachedFits, Fit
from ssr_exp.search.val_warnings import ValWarnings
from ssr_exp.terminal import counted

log = logging.getLogger(__name__)

USED_UP = "the budget is used up"
REVISIONS = 20  # batches that are proposed anew because measuring changed what is known


@dataclass(frozen=True)
class Search:
    """A search, apart from how networks are trained.

    Args:
        first: the networks of round 0.
        book: where its plans are kept.
        evidence: the records.
        latencies: of a device, where latency is traded or capped; None: those of the records.
        watch: told after each look what is believed then.
        val: the images that networks are compared by; None: not known.
        fit: `surrogate.fit`, or what calls it.
    """

    space: Space
    conf: SearchConfig
    first: tuple[Architecture, ...]
    book: Notebook
    evidence: Evidence
    latencies: Latencies | None = None
    watch: Callable[[Predictions], object] = lambda _: None
    val: ValSet | None = None
    fit: Fit = field(default_factory=CachedFits)

    def run(self, train: Train) -> tuple[Belief, str]:
        """Go through all rounds; returns what is believed at the end, and why it ended.

        Raises:
            SsrError: if the first networks, or a whole round, failed.
        """
        for plan in self.begin():
            self.attempts.carry_out(plan, train)
        while True:
            belief = self.look()
            self.tell(belief)
            begun = self._begun_round() or self._new_round()
            if begun is None:
                return belief, self.all_done
            count = self.affordable(self.conf.batch - len(begun.planned))
            if not count:
                return belief, USED_UP
            belief, plan, reason = self.extend(begun, belief, count=count)
            if reason:
                return belief, reason
            self.attempts.carry_out(plan, train)

    @property
    def attempts(self) -> Attempts:
        """What trains the networks of its plans."""
        return Attempts(self.book, self.evidence, self.conf.modifiers.kind)

    def tell(self, belief: Belief, *, whole: bool = False) -> None:
        """Print how far the surrogate is to be believed, and leave what it predicts for pages.

        What speaks against it is printed the first time that it is so, after the last round by
        `conclude` alone; with `whole`, so is what it says of the segments.
        """
        told = summary.summarise(belief, self.conf, book=self.book)
        of_val = self.val_warnings.of_belief(belief)
        printing.print_diagnostics(belief, told, whole=whole)
        if whole or self.next_number() <= self.conf.rounds:
            printing.print_new([*told.looks[-1].warnings, *of_val])
        told = told.model_copy(update={"val_warnings": tuple(of_val)})
        self.watch(predictions.write(self.book.store, self.book.folder, told))

    def conclude(self) -> None:
        """Say beside the answer what speaks against believing it: what its page says, too."""
        if (told := predictions.read(self.book.folder)) is not None:
            printing.print_warnings([*told.val_warnings, *told.looks[-1].warnings])

    def remarks_on(self, record: Record) -> list[str]:
        """Warn of val, in lines, as soon as a run has ended that was the baseline's; once."""
        return [f"{WARNING}{one}" for one in printing.new(self.val_warnings.of_run(record))]

    @property
    def val_warnings(self) -> ValWarnings:
        """What is said of the images that networks are compared by."""
        baseline = self.space.code(self.space.plan.baseline)
        return ValWarnings(self.val, self.conf.objective, self.conf.cap, baseline)

    def next_number(self) -> int:
        """Number the next round."""
        planned = {plan.number for plan in self.book.read()}
        return next(n for n in itertools.count(1) if n not in planned)

    @property
    def all_done(self) -> str:
        """Say that all rounds are done."""
        rounds = self.conf.rounds
        return "the round is done" if rounds == 1 else f"all {rounds} rounds are done"

    def judge(self, added: Iterable[str] = ()) -> Belief:
        """Look at the records for the answer: without those of finalists, which only test it.

        So a choice of finalists stays as it was, whatever has been told of them since. A network
        that the search knew counts, if nothing else is told of it; one that was only compared with
        the answer does not.

        Args:
            added: networks that the search knew, beside those that it planned.

        Raises:
            SsrError: if they are too few.
        """
        records = self.evidence.records
        told = {r.network for r in records if r.origin != FINALIST}
        known = {*self.book.networks(), *added, self.space.code(self.space.plan.baseline)} - told
        searched = [r for r in records if r.origin != FINALIST or r.network in known]
        return self._believe(history.from_records(self.space, searched))

    def look(self, running: Collection[str] = ()) -> Belief:
        """Read the records and fit the surrogate, while networks of this search are running.

        Raises:
            SsrError: if they are too few; says how many there are.
        """
        return self._believe(self._trained(), running)

    def _believe(self, trained: History, running: Collection[str] = ()) -> Belief:
        records = self.evidence.records
        is_loop = self.conf.task.name is TaskKind.loop
        too_few.check(trained, records, is_loop=is_loop, strangers=self.evidence.strangers)
        costs.measure_new(self.latencies, trained.networks)
        return Belief.from_history(
            trained,
            self.conf,
            excluded=self._parsed(self.book.networks() | history.unusable(records)),
            unmeasured=filter(None, map(self.space.find, history.unmeasured(records))),
            pending=self._parsed(self.evidence.pending().union(running)),
            elsewhere=history.from_records(self.space, self.evidence.elsewhere()),
            latencies=self.latencies,
            val=self.val,
            fit=self.fit,
        )

    def _trained(self) -> History:
        return history.from_records(self.space, self.evidence.records)

    def next_batch(self, belief: Belief, number: int, *, count: int, at: int = 0) -> list[Planned]:
        """Propose the batch of a round, or what follows its first `at` networks."""
        entropy = [self.conf.seed, number, at] if at else [self.conf.seed, number]
        state = np.random.SeedSequence(entropy).generate_state(1)
        return propose.propose(belief, self.conf, count=count, seed=int(state[0]))

    def extend(
        self,
        plan: Round,
        belief: Belief,
        *,
        count: int,
        size: int | None = None,
        running: Collection[str] = (),
    ) -> tuple[Belief, Round, str]:
        """Propose more networks of a round, and write them down.

        Args:
            plan: the round so far.
            belief: what is believed.
            count: of networks, at most.
            size: of the whole round, where more come one after the other; None: these are all.
            running: networks in training.

        Returns:
            What is believed after measuring, the round with them, and why there are none, if so.
        """
        number, at = plan.number, len(plan.planned)
        belief, picks = self.measured_batch(belief, number, count=count, at=at, running=running)
        if reason := self.ends(belief, picks, number, at=at):
            return belief, plan, reason
        if not at:
            title, axis = f"round {number} of {self.conf.rounds}", self.conf.objective.cost
            whole = len(picks) if size is None else size
            printing.print_round(belief, picks, title=title, count=whole, axis=axis)
        more = {"planned": (*plan.planned, *picks)} | ({} if size is None else {"size": size})
        plan = plan.model_copy(update=more)
        self.book.write(plan)
        return belief, plan, ""

    def measured_batch(
        self, belief: Belief, number: int, *, count: int, at: int = 0, running: Collection[str] = ()
    ) -> tuple[Belief, list[Planned]]:
        """Propose a batch whose latencies were measured: what breaks the cap is not trained.

        Returns it with what is believed after measuring.
        """
        picks = self.next_batch(belief, number, count=count, at=at)
        for _ in range(REVISIONS):
            if not costs.measure_new(self.latencies, self._architectures(picks)):
                return belief, picks
            belief = self.look(running)
            picks = self.next_batch(belief, number, count=count, at=at)
        costs.measure_new(self.latencies, self._architectures(picks))
        times = {} if self.latencies is None else self.latencies.measured()
        limit = log_limit(belief.caps.get("latency_ms", math.inf))
        slow = {a for a, ms in times.items() if math.log(ms) > limit}
        return belief, [p for p in picks if self.space.parse(p.network) not in slow]

    def _architectures(self, picks: Iterable[Planned]) -> list[Architecture]:
        return [self.space.parse(pick.network) for pick in picks]

    def begin(self) -> list[Round]:
        """List the plans of which not all is done; plan the first networks if there is a need.

        Raises:
            SsrError: if they cannot be met.
        """
        self.prepare()
        if plans := self.book.read():
            left = self.attempts.left([p for p in plans if p.number <= self.conf.rounds])
            self._say_what_is_left(left)
            return left
        return self.plan_first()

    def _say_what_is_left(self, plans: Sequence[Round]) -> None:
        for plan in plans:
            count, todo = len(plan.planned), len(self.attempts.todo(plan))
            what = f"round {plan.number}" if plan.number else "first networks"
            log.info("%s: %d of %d are done, %d to train", what, count - todo, count, todo)

    def prepare(self) -> None:
        """Look, before anything is trained, at what will be compared and measured.

        Raises:
            SsrError: if a latency is needed that nobody measured, or no network keeps its cap.
        """
        if self.to_come():  # else it is said beside the answer
            told = self.val_warnings.before(self.evidence.score, self.evidence.records)
            printing.print_new(told)
        if not self.space.is_enumerable:
            size = lattice.spell(self.space.lattice.size)
            how = "local search proposes, and predictions are of a sample that holds their front"
            log.info("the lattice has %s networks: %s", size, how)
        self.evidence.forget()
        check_latency(self.space, self.conf, self._trained(), self.latencies)

    def plan_first(self) -> list[Round]:
        """Plan the first networks, as far as the records do not stand in for them.

        Raises:
            SsrError: if they are too few, or the budget does not cover them.
        """
        if not (networks := self._missing()):
            return []
        budget.check(self.conf, len(networks))
        if not self.evidence.records and (strangers := self.evidence.strangers()):
            log.info("no record is of this study.%s", strangers)
        log.info("%s to begin with%s", counted(len(networks), "network"), self._then())
        if (hours := self.conf.budget.hours) is not None:
            log.info("budget.hours=%g counts these, and stops none of them", hours)
        planned = tuple(Planned(network=network) for network in networks)
        plan = Round(number=0, seed=self.conf.seed, planned=planned)
        self.book.write(plan)
        return [plan]

    def check_budget(self) -> None:
        """Say before anything is asked for that the budget does not cover the first networks.

        Raises:
            SsrError: then.
        """
        limits = (self.conf.budget.runs, self.conf.budget.epochs)
        if limits != (None, None) and not self.book.read():
            budget.check(self.conf, len(self._missing()))

    def _then(self) -> str:
        rounds, batch = self.conf.rounds, self.conf.batch
        return f", then {counted(rounds, 'round')} of {batch}" if rounds else ""

    @property
    def over(self) -> str | None:
        """Say why nothing is proposed any more, if that is so; see `ends`."""
        end = self.book.read_end()
        if end is not None and end == self._end(end.reason, end.number, end.at):
            return end.reason
        return None if self.to_come() else self.all_done

    def to_come(self) -> int:
        """Count the trainings that the search may still take, if it ends with its last round."""
        plans = self.book.read()
        planned = [p.networks for p in plans if 0 < p.number <= self.conf.rounds]
        done = sum(map(self._is_done, itertools.chain(*planned)))
        return len(self.first_left()) + self.conf.rounds * self.conf.batch - done

    def first_left(self) -> list[str]:
        """List the first networks that are not done."""
        plans = [p.networks for p in self.book.read() if p.number == 0] or [tuple(self._missing())]
        return [network for network in itertools.chain(*plans) if not self._is_done(network)]

    def _is_done(self, network: str) -> bool:
        return any(r.network == network and is_done(r) for r in self.evidence.records)

    def open_round(self) -> Round | None:
        """Return the round that is not full yet, or a new one; None if all are."""
        for plan in self.book.read():
            if 0 < plan.number <= self.conf.rounds and len(plan.planned) < self.conf.batch:
                return plan
        return self._new_round()

    def _new_round(self) -> Round | None:
        number = self.next_number()
        if number > self.conf.rounds:
            return None
        return Round(number=number, seed=self.conf.seed, planned=())

    def _begun_round(self) -> Round | None:
        """Return a round whose networks came one after the other, and are not all there."""
        for plan in self.book.read():
            most = min(plan.size or 0, self.conf.batch)
            if 0 < plan.number <= self.conf.rounds and len(plan.planned) < most:
                # What is added has none; what failed has had its own.
                return plan.model_copy(
                    update={"attempts": 0, "planned": self.attempts.given_up(plan)}
                )
        return None

    def _missing(self) -> list[str]:
        """List the first networks, if the records do not stand in for them."""
        trained, baseline = self._trained().networks, self.space.plan.baseline
        enough = max(FEWEST, min(len(self.first), len(self.space.names) + 2))
        if len(trained) >= enough:
            return [] if baseline in trained else [self.space.code(baseline)]
        both = {*trained, *self.first}
        if len(both) < FEWEST:
            too_few.refuse_first(self.space, self.conf, len(both))
        return [self.space.code(a) for a in self.first if a not in trained]

    def _parsed(self, names: Iterable[str]) -> list[Architecture]:
        architectures = []
        for name in sorted(names):
            try:
                architectures.append(self.space.parse(name))
            except SsrError as error:
                log.warning("left out a network: %s", error)
        return architectures

    def affordable(self, count: int, running: int = 0) -> int:
        """Say how many of `count` more trainings the budget allows, beside those under way."""
        plans, records = self.book.read(), self.evidence.records
        return budget.affordable(self.conf, plans, records, count=count, running=running)

    def affordable_finalists(self, count: int) -> int:
        """Say how many of `count` more trainings of finalists the budget allows."""
        plans, records, epochs = self.book.read(), self.evidence.records, self.conf.finalists.epochs
        return budget.affordable(self.conf, plans, records, count=count, epochs=epochs)

    def ends(
        self, belief: Belief, picks: Sequence[Planned], number: int, *, at: int = 0
    ) -> str | None:
        """Say why the search ends before a batch, if it does, which is not worth its training.

        That is kept: what finalists score on val may promise a gain later, and a search that is
        repeated is to train nothing more, but for other rounds, another gain or confidence, or new
        trainings.
        """
        if reason := ending.no_gain(self.conf, belief, picks):
            self.book.write_end(self._end(reason, number, at))
            return reason
        before = self.book.read_end()
        if before is not None and before == self._end(before.reason, number, at):
            return before.reason
        return None

    def _end(self, reason: str, number: int, at: int) -> End:
        return ending.describe(self.conf, self.evidence.records, reason, number, at=at)
