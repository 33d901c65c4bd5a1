"""How often a plan's networks are trained: what fails is tried again, but not for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.runs import store
from ssr_exp.search.evidence import Evidence
from ssr_exp.search.rounds import Notebook, Planned, Round

log = logging.getLogger(__name__)

MOST = 2  # a failed training is tried once more, and once more by each repeated command

Errors = Mapping[str, object]
"""By network: what is known of trainings that ended without a record."""

Train = Callable[[Sequence[str], str], Errors]
"""Train networks by their codes; the second argument says why, for their records.

It returns when each has a record or was given up.
"""


@dataclass(frozen=True)
class Attempts:
    """Trainings of one search.

    Args:
        book: its plans.
        evidence: the records of the study, read anew after trainings.
        kind: why the first networks are trained.
    """

    book: Notebook
    evidence: Evidence
    kind: str

    def carry_out(self, plan: Round, train: Train) -> None:
        """Train what a plan names and is not done; try again what failed.

        Raises:
            SsrError: if the disk took no more, or nothing of the plan could be trained.
        """
        errors: dict[str, object] = {}
        given_up = {one.network for one in plan.planned if one.attempts >= MOST}
        while plan.attempts < MOST and (
            todo := [one for one in self.todo(plan) if one not in given_up]
        ):
            errors |= train(todo, self.origin(plan.number))
            refuse_disk(errors)
            counts = {"attempts": plan.attempts + 1, "launched": plan.launched + len(todo)}
            plan = self._write(plan, **counts)
            self.evidence.forget()
        failed = self.todo(plan)
        for network in failed:
            if network not in given_up:
                log.warning("%s failed again and is left out", network)
        self.refuse_failure(plan, failed, errors)

    def count(self, plan: Round, network: str) -> Round:
        """Write down that a network's training, which was launched on its own, has ended."""
        self.evidence.forget()
        tries = [one.attempts + (one.network == network) for one in plan.planned]
        return self._write(plan, planned=_tried(plan, tries), launched=plan.launched + 1)

    def left(self, plans: Sequence[Round]) -> list[Round]:
        """List the plans of which not all is done.

        What an earlier command gave up gets one more attempt: its cause may be mended.
        """
        return [self._granted(plan) for plan in plans if self.todo(plan)]

    def given_up(self, plan: Round) -> tuple[Planned, ...]:
        """List a plan's networks, those without a result as given up for this command."""
        left = self.todo(plan)
        tries = [MOST if one.network in left else one.attempts for one in plan.planned]
        return _tried(plan, tries)

    def _granted(self, plan: Round) -> Round:
        given_up = {o.network for o in plan.planned if max(o.attempts, plan.attempts) >= MOST}
        tries = [MOST - 1 if o.network in given_up else o.attempts for o in plan.planned]
        attempts = plan.attempts if given_up.isdisjoint(self.todo(plan)) else MOST - 1
        return self._write(plan, attempts=attempts, planned=_tried(plan, tries))

    def _write(self, plan: Round, **changes: object) -> Round:
        changed = plan.model_copy(update=changes)
        if changed != plan:
            self.book.write(changed)
        return changed

    def todo(self, plan: Round) -> list[str]:
        """List a plan's networks that have no result yet."""
        records = (r for r in self.evidence.records if r.seed == plan.seed)
        done = {r.network for r in records if store.is_done(r)}
        return [network for network in plan.networks if network not in done]

    def origin(self, number: int) -> str:
        """Say why a round's networks are trained, for their records."""
        return f"round{number}" if number else self.kind

    def refuse_failure(self, plan: Round, failed: Sequence[str], errors: Errors) -> None:
        """Stop where nothing of a round could be trained, once it is whole.

        A round of one network is left out, unless nothing of the one before could be trained.

        Raises:
            SsrError: if so; says why the first one failed.
        """
        whole = max(len(plan.networks), plan.size or 0)
        stops = whole > 1 or plan.number == 0 or self._failed(plan.number - 1)
        if failed and len(failed) == whole and stops:
            reasons = [r.error for r in self.evidence.records if r.network == failed[0] and r.error]
            why = reasons[0] if reasons else errors.get(failed[0], "it left no record")
            raise SsrError(
                f"all {len(failed)} trainings of round {plan.number} failed (the first: "
                f"{str(why).rstrip('.')}): mend the cause, then repeat the command."
            )

    def _failed(self, number: int) -> bool:
        """Say whether no network of a round has a result."""
        plans = [plan for plan in self.book.read() if plan.number == number]
        return any(len(self.todo(plan)) == len(plan.networks) for plan in plans)


def _tried(plan: Round, tries: Sequence[int]) -> tuple[Planned, ...]:
    """Give each network of a plan its number of attempts."""
    pairs = zip(plan.planned, tries, strict=True)
    return tuple(one.model_copy(update={"attempts": tried}) for one, tried in pairs)


def refuse_disk(errors: Errors) -> None:
    """Stop where a training could not write its files: the next ones could not, either.

    Raises:
        SsrError: if so; says what to do.
    """
    if reasons := [error for error in errors.values() if files.is_disk_full(error)]:
        raise SsrError(f"{reasons[0]} Then repeat the command: it goes on from here.")
