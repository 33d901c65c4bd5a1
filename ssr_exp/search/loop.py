"""The loop: read the records, propose a batch, have it trained, read again.

It trains nothing itself and keeps no state but its plans and the records, so it goes on from
wherever it was killed.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ssr_exp.config import Acquisition, CapConf, CostAxis, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import FEWEST, Predictions
from ssr_exp.runs.record import Record, Status
from ssr_exp.search import belief as views
from ssr_exp.search import budget, costs, diagnostics, history, printing, summary
from ssr_exp.search import caps as limits
from ssr_exp.search.attempts import Attempts, Train
from ssr_exp.search.belief import View
from ssr_exp.search.costs import Latencies
from ssr_exp.search.history import History
from ssr_exp.search.proposals import acquisition, propose
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.rounds import Notebook, Planned, Round
from ssr_exp.search.space import Space
from ssr_exp.terminal import counted

log = logging.getLogger(__name__)

USED_UP = "the budget is used up"
REVISIONS = 20  # batches that are proposed anew because measuring changed what is known


class TooFew(SsrError):
    """The study has too few records for a surrogate."""


@runtime_checkable
class Sources(Protocol):
    """Where records come from; see `ssr_exp.search.evidence`."""

    def fetch(self) -> None:
        """Read anew what is not local."""

    def read(self) -> list[Record]:
        """List all records of the study, whoever trained them."""

    def elsewhere(self) -> list[Record]:
        """List records of other epochs that the surrogate may learn from."""

    def pending(self) -> set[str]:
        """Name the networks that somebody else is training or has planned."""

    def strangers(self) -> str:
        """Say which other studies are there, or nothing."""


@dataclass(frozen=True)
class Search:
    """A search, apart from how networks are trained.

    Args:
        space: the networks that can be proposed.
        conf: what is asked for.
        first: the networks of round 0.
        book: where its plans are kept.
        sources: of records.
        latencies: of a device, where latency is traded or capped; None: those of the records.
        watch: told after each look what is believed then.
        val: the images that networks are compared by; None: not known.
    """

    space: Space
    conf: SearchConfig
    first: tuple[Architecture, ...]
    book: Notebook
    sources: Sources
    latencies: Latencies | None = None
    watch: Callable[[Predictions], object] = lambda _: None
    val: ValSet | None = None

    def run(self, train: Train) -> tuple[View, str]:
        """Go through all rounds; returns what is known at the end, and why it ended.

        Raises:
            SsrError: if the first networks, or a whole round, failed.
        """
        for plan in self.begin():
            self.attempts.carry_out(plan, train)
        while True:
            seen = self.look()
            self.tell(seen)
            number = self.next_number()
            if number > self.conf.rounds:
                return seen, self.all_done
            count = self.affordable(self.conf.batch)
            if not count:
                return seen, USED_UP
            seen, picks = self.measured_batch(seen, number, count=count)
            if reason := self.no_gain(seen, picks):
                return seen, reason
            printing.print_batch(seen, picks, title=f"round {number} of {self.conf.rounds}")
            plan = Round(number=number, seed=self.conf.seed, planned=self.planned(picks))
            self.book.write(plan)
            self.attempts.carry_out(plan, train)

    @property
    def attempts(self) -> Attempts:
        """What trains the networks of its plans."""
        return Attempts(self.book, self.sources.read, self.conf.modifiers.kind)

    def tell(self, seen: View) -> None:
        """Print how far the surrogate is to be believed, and leave what it predicts for pages.

        What speaks against it is printed the first time that it is so.
        """
        check, sensitivities = diagnostics.check(seen), diagnostics.sensitivities(seen)
        printing.print_checks(seen, check, sensitivities)
        printing.print_new(self._of_val(seen))
        told = summary.of(seen, self.conf, check, sensitivities, book=self.book)
        self.watch(predictions.write(self.book.store, self.book.folder, told))

    def conclude(self, seen: View) -> None:
        """Repeat, beside the answer, what speaks against believing it."""
        printing.print_warnings([*self._of_val(seen), *diagnostics.check(seen).warnings()])

    def _of_val(self, seen: View) -> list[str]:
        if self.val is None:
            return []
        accuracy = seen.history.accuracies()[self.space.plan.baseline]
        return [*self.val.too_coarse(self.conf), *self.val.learnt_nothing(accuracy)]

    def next_number(self) -> int:
        """Number the next round."""
        planned = {plan.number for plan in self.book.read()}
        return next(n for n in itertools.count(1) if n not in planned)

    @property
    def all_done(self) -> str:
        """Say that all rounds are done."""
        if self.conf.rounds == 1:
            return "the round is done"
        return f"all {self.conf.rounds} rounds are done"

    def look(self, running: Collection[str] = ()) -> View:
        """Read the records and fit the surrogate.

        Args:
            running: networks of this search that are being trained, or wait for their turn.

        Raises:
            SsrError: if they are too few; says how many there are.
        """
        self.sources.fetch()
        records = self.sources.read()
        known = history.from_records(self.space, records)
        self._check_enough(known, records)
        elsewhere = history.from_records(self.space, self.sources.elsewhere())
        self._measure(known.networks)
        return views.of(
            known,
            self.conf,
            taken=self._parsed(self.book.networks() | history.unusable(records)),
            pending=self._parsed(self.sources.pending().union(running)),
            elsewhere=elsewhere,
            latencies=self.latencies,
        )

    def next_batch(self, seen: View, number: int, *, count: int, at: int = 0) -> list[propose.Pick]:
        """Propose the batch of a round, or what follows its first `at` networks."""
        entropy = [self.conf.seed, number, at] if at else [self.conf.seed, number]
        state = np.random.SeedSequence(entropy).generate_state(1)
        return propose.propose(seen, self.conf, count=count, seed=int(state[0]))

    def measured_batch(
        self, seen: View, number: int, *, count: int, at: int = 0, running: Collection[str] = ()
    ) -> tuple[View, list[propose.Pick]]:
        """Propose a batch whose latencies were measured: what breaks the cap is not trained.

        Returns it with what is known after measuring.
        """
        picks = self.next_batch(seen, number, count=count, at=at)
        for _ in range(REVISIONS):
            if not self._measure(pick.architecture for pick in picks):
                return seen, picks
            seen = self.look(running)
            picks = self.next_batch(seen, number, count=count, at=at)
        self._measure(pick.architecture for pick in picks)
        return seen, [pick for pick in picks if self._keeps_latency(seen, pick.architecture)]

    def _measure(self, architectures: Iterable[Architecture]) -> bool:
        """Measure latencies; returns whether any became known by it.

        What cannot be measured, because the machine is too noisy, stays predicted.
        """
        if self.latencies is None:
            return False
        known = self.latencies.known()
        if not (new := [a for a in architectures if a not in known]):
            return False
        try:
            return self.latencies.measure(new)
        except SsrError as error:
            log.warning("latencies stay predicted: %s", error)
            return False

    def _keeps_latency(self, seen: View, architecture: Architecture) -> bool:
        known = {} if self.latencies is None else self.latencies.known()
        return known.get(architecture, 0.0) <= seen.caps.get("latency_ms", math.inf)

    def begin(self) -> list[Round]:
        """List the plans of which not all is done; plan the first networks if there is a need.

        Raises:
            SsrError: if they cannot be met.
        """
        if self.val is not None:
            printing.print_new(self.val.too_coarse(self.conf))
        self.sources.fetch()
        self._check_latency()
        if plans := self.book.read():
            return self.attempts.left(plans)
        if networks := self._missing():
            budget.check(self.conf, len(networks))
            if strangers := self.sources.strangers():
                log.info("no record is of this study.%s", strangers)
            log.info("%s to begin with", counted(len(networks), "network"))
            planned = tuple(Planned(network=network) for network in networks)
            plans = [Round(number=0, seed=self.conf.seed, planned=planned)]
            self.book.write(plans[0])
        return plans

    def _missing(self) -> list[str]:
        """List the first networks, if the records do not stand in for them."""
        known = history.from_records(self.space, self.sources.read())
        enough = max(FEWEST, min(len(self.first), len(self.space.names) + 2))
        baseline = self.space.plan.baseline
        if len(known.networks) >= enough:
            return [] if baseline in known.networks else [self.space.code(baseline)]
        both = {*known.networks, *self.first}
        if len(both) < FEWEST:
            raise SsrError(
                f"the surrogate needs {FEWEST} networks to begin with, and these are "
                f"{len(both)}: type modifiers=sentinel_all."
            )
        return [self.space.code(a) for a in self.first if a not in known.networks]

    def _check_latency(self) -> None:
        """Refuse to begin what needs latencies that nobody measured."""
        costs_time = self.conf.objective.cost is CostAxis.latency_ms
        if costs_time or self.conf.cap.latency_ms is not None:
            price = costs.latency(
                history.from_records(self.space, self.sources.read()), self.latencies
            )
            if self.latencies is not None and self.conf.cap.latency_ms is not None:
                self._measure([self.space.plan.baseline])
                baseline = self.latencies.known().get(self.space.plan.baseline)
                known = {} if baseline is None else {"latency_ms": baseline}
                caps = limits.absolute(CapConf(latency_ms=self.conf.cap.latency_ms), known)
                limits.check_latency(self.space, caps["latency_ms"], price)

    def planned(self, picks: Sequence[propose.Pick]) -> tuple[Planned, ...]:
        """Write down what was proposed, and what is expected of it."""
        return tuple(
            Planned(
                network=self.space.code(pick.architecture),
                low=pick.low,
                mean=pick.mean,
                high=pick.high,
                promise=pick.promise,
            )
            for pick in picks
        )

    def _parsed(self, names: Iterable[str]) -> list[Architecture]:
        found = []
        for name in sorted(names):
            try:
                found.append(self.space.parse(name))
            except SsrError as error:
                log.warning("left out a network: %s", error)
        return found

    def _check_enough(self, known: History, records: Sequence[Record]) -> None:
        failed = sum(r.status is not Status.finished for r in records)
        if self.space.plan.baseline in known.networks and len(known.networks) >= FEWEST:
            return
        baseline = self.space.code(self.space.plan.baseline)
        broken = [r for r in records if r.network == baseline and r.status is not Status.finished]
        if broken and self.space.plan.baseline not in known.networks:
            remedy = "mend the cause, then repeat the command"
            if broken[0].status is Status.diverged:
                remedy = "repeat the command with a lower recipe.lr"
            raise TooFew(
                f"the baseline {broken[0].status.value} ({broken[0].error}), and nothing can be "
                f"compared without it: {remedy}."
            )
        what = f"{counted(len(known.networks), 'network')} with a finished run"
        if failed:
            what += f" ({failed} runs failed or diverged)"
        raise TooFew(
            f"the study has {what}, and the surrogate needs {FEWEST}, the baseline among them: "
            "type modifiers=sentinel_all rounds=1, and the search trains the first ones."
            + self.sources.strangers()
        )

    def affordable(self, count: int, running: int = 0) -> int:
        """Say how many of `count` more trainings the budget allows, beside those under way."""
        plans, records = self.book.read(), self.sources.read()
        return budget.affordable(self.conf, plans, records, count=count, running=running)

    def no_gain(self, seen: View, picks: Sequence[propose.Pick]) -> str | None:
        """Say why a batch is not worth its training, if it is not."""
        if not picks:
            return "no network that is left promises a gain"
        first, named = picks[0].promise, acquisition.kind(self.conf)
        if first is None:
            return None
        whole = seen.state.front.hypervolume if named is Acquisition.ehvi else 1.0
        share = first / whole if whole > 0 else 1.0
        if share < self.conf.min_gain:
            return f"no network promises a gain of {self.conf.min_gain:g} (the best: {share:.2g})"
        return None
