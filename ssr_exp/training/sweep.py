"""A sweep: several configurations stand for many runs, each trained once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssr_exp import messages, terminal
from ssr_exp.config import AUTO, Config
from ssr_exp.datasets.reading import Reading
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import BUSY, Store, is_done
from ssr_exp.training import few_steps, run
from ssr_exp.training.opened_study import Job

log = logging.getLogger(__name__)

Errors = dict[Path, object]
"""By folder: what a run raised, or `BUSY` if another process was training it."""

# Said in full, because an experiment's own modifiers are merged after their group.
ALONE = (
    "modifiers=explicit",
    "modifiers.kind=explicit",
    "modifiers.depth=null",
    "modifiers.width=null",
    "modifiers.file=null",
)


@dataclass(frozen=True)
class Member:
    """A run of the sweep."""

    overrides: tuple[str, ...]  # the command line that trains it alone
    store: Store
    folder: Path  # of its record
    title: str  # the run in words
    tested: bool = False  # whether the test set is asked for, too
    network: str = ""  # its code; empty: the title says it
    model: str = ""  # the seed network's name
    seed: int = 0
    reading: Reading | None = field(default=None, compare=False, repr=False)
    job: Job | None = field(default=None, compare=False, repr=False)
    asked: tuple[str, ...] = ()  # the command line that it is of

    def record(self) -> Record | None:
        """Read its record, if there is a whole one."""
        return self.store.read(self.folder)

    @property
    def is_done(self) -> bool:
        """Say whether it need not be trained."""
        return is_done(self.record(), tested=self.tested)


def expand(configurations: Iterable[tuple[Sequence[str], Config]]) -> list[Member]:
    """List the runs that command lines and their configurations stand for, each once, in order.

    Raises:
        SsrError: if one cannot be met, or the runs folder cannot be written; nothing is trained.
    """
    members: dict[Path, Member] = {}
    for overrides, conf in configurations:
        store = Store(conf.paths.runs)
        store.check()
        for job in run.plan(conf):
            folder = run.folder(store, job)
            alone = tuple(text for text in overrides if not _names_modifiers(text))
            alone += (*ALONE, f"modifiers.network={job.network}")
            if conf.trainer.precision == AUTO:  # decided here: a job may find another device
                alone += (f"trainer.precision={job.study.precision}",)
            alone += () if conf.origin else (f"origin={conf.modifiers.kind}",)
            read = few_steps.reading(job.conf, job.study.splits)
            member = Member(
                alone,
                store,
                folder,
                job.title,
                conf.trainer.test,
                network=job.network,
                model=conf.model.name,
                seed=conf.seed,
                reading=read,
                job=job,
                asked=tuple(overrides),
            )
            members.setdefault(folder, member)
    if not members:
        raise SsrError("this command stands for no run: its sweep is empty.")
    return list(members.values())


def to_train(members: Sequence[Member]) -> list[Member]:
    """Keep the runs that are still to be trained."""
    return [member for member in members if not member.is_done]


def say_plan(members: Sequence[Member]) -> None:
    """Say how many runs there are, and how many of them are done."""
    left, everything = len(to_train(members)), terminal.counted(len(members), "network")
    log.info("%s: %d done before, %d to train", everything, len(members) - left, left)


def busy(members: Sequence[Member], errors: Errors) -> list[Member]:
    """Keep the runs that another process was training when their turn came."""
    return [m for m in members if errors.get(m.folder) == BUSY and not m.is_done]


def problems(members: Sequence[Member], errors: Errors) -> list[str]:
    """Say of each run that did not come to an end why."""
    reasons: list[str] = []
    for member in members:
        record = member.record()
        if record is None:
            reasons.append(f"{member.title}: {errors.get(member.folder, 'it left no record')}")
        elif record.status is Status.failed:
            reasons.append(f"{member.title}: {record.error}")
        elif member.folder in errors and not member.is_done:
            reasons.append(f"{member.title}: {errors[member.folder]}")
    return reasons


def study_records(members: Sequence[Member], records: Sequence[Record]) -> list[Record]:
    """Read all records of the studies that a sweep's records belong to."""
    stores = {member.store.root: member.store for member in members}.values()
    studies = sorted({record.study for record in records})
    return [r for store in stores for study in studies for r in store.records(study)]


def _names_modifiers(override: str) -> bool:
    return messages.part_of(override) == "modifiers"
