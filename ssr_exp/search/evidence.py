"""Where a search's records come from: the local store, and W&B or a table beside it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssr_exp.config import RunsKind, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.runs import store, studies, tables
from ssr_exp.runs.record import Fractions, Record
from ssr_exp.runs.wandb import training_run
from ssr_exp.search import rounds
from ssr_exp.search.rounds import Notebook
from ssr_exp.search.space import Space

log = logging.getLogger(__name__)

MOST_DIFFERENCES = 4  # that a sentence names


@dataclass
class Sources:
    """Reads what is known of a study; nothing that is read is more than data.

    Args:
        store: local records, read anew each time.
        study: its name.
        fields: what its fingerprint is of.
        space: its lattice.
        conf: the search.
        book: the search's plans.
    """

    store: store.Store
    study: str
    fields: dict[str, Any]
    space: Space
    conf: SearchConfig
    book: Notebook
    _others: list[Record] = field(default_factory=list, init=False)
    _short: list[Record] = field(default_factory=list, init=False)

    def fetch(self) -> None:
        """Read the source beside the local store anew.

        Raises:
            SsrError: if it cannot be read, or holds other studies only.
        """
        runs = self.conf.runs
        if runs.kind is RunsKind.wandb:
            self._others = training_run.records(runs, self.conf.logger, study=self.study)
        elif runs.kind is RunsKind.table:
            self._others = self._table()

    def read(self) -> list[Record]:
        """List the study's records: local ones, and those that were fetched last; none twice."""
        local_ones = self.store.records(self.study)
        known = {_result(record) for record in local_ones}
        return [*local_ones, *(r for r in self._others if _result(r) not in known)]

    def elsewhere(self) -> list[Record]:
        """List the records of studies that differ in nothing but their epochs."""
        if not self.conf.surrogate.fidelity:
            return []
        own = self.conf.trainer.max_epochs
        siblings = studies.siblings(self.store.root, self.fields)
        shorter = sorted(name for name, epochs in siblings.items() if epochs < own)
        return [r for name in shorter for r in self.store.records(name)] + self._short

    def pending(self) -> set[str]:
        """Name the networks that another process trains, or that a running search has planned."""
        busy = {
            path.parent.parent.name
            for path in self.store.study_folder(self.study).glob(f"*/seed*/{store.LOCK_FILE}")
            if self.store.is_busy(path.parent)
        }
        running = [o for o in rounds.others(self.book) if self.store.is_busy(o.folder)]
        return busy.union(*(_networks(other) for other in running))

    def strangers(self) -> str:
        """Say which other studies of this model and data set there are, and how they differ."""
        told = []
        for name, fields in studies.read_all(self.store.root).items():
            if name.rpartition("-")[0] == self.study.rpartition("-")[0] and name != self.study:
                differences = studies.differences(fields, self.fields)
                more = len(differences) - MOST_DIFFERENCES
                words = ", ".join(differences[:MOST_DIFFERENCES])
                told.append(f"{name} ({words}{f', and {more} more' if more > 0 else ''})")
        if not told:
            return ""
        return (
            f" {self.store.root} holds other studies, which cannot be mixed in: {'; '.join(told)}."
        )

    def _table(self) -> list[Record]:
        named = self.conf.runs.file
        if named is None:
            raise SsrError("runs=table needs runs.file=PATH, a .csv or .jsonl file.")
        path = Path(named).expanduser()
        rows = tables.read(path)
        own = [row for row in rows if row.study in (None, self.study)]
        if rows and not own:
            others = sorted({str(row.study) for row in rows})
            raise SsrError(
                f"{path} holds records of {', '.join(others)} only, not of {self.study}: give "
                "model, dataset, recipe and trainer as there, or take its study column out."
            )
        found = [self._completed(row, path, n) for n, row in enumerate(own, start=1)]
        records, epochs = [r for r in found if r is not None], self.conf.trainer.max_epochs
        self._short = [r for r in records if r.epochs < epochs]
        other = sum(r.epochs != epochs for r in records)
        if other:
            log.warning("%d rows of %s are of other epochs than %d", other, path, epochs)
        return [r for r in records if r.epochs == epochs]

    def _completed(self, row: tables.TableRow, path: Path, number: int) -> Record | None:
        """Add to a row what its network's code says; its number tells repeats apart."""
        plan = self.space.plan
        try:
            architecture = self.space.parse(row.network)
        except SsrError as error:
            log.warning("left out a row of %s: %s", path, error)
            return None
        modifiers = plan.modifiers(architecture)
        full = self.space.baseline._asdict()
        return Record(
            study=self.study,
            network=self.space.code(architecture),
            model=self.conf.model.name,
            dataset=self.conf.dataset.name,
            modifiers=Fractions(depth=modifiers.depth, width=modifiers.width),
            blocks=architecture.blocks,
            widths=plan.channels(architecture),
            seed=row.seed,
            epochs=self.conf.trainer.max_epochs if row.epochs is None else row.epochs,
            status=row.status,
            val_acc=row.val_acc,
            val_loss=row.val_loss,
            test_acc=row.test_acc,
            latency_ms=row.latency_ms,
            latency_device=row.latency_device,
            **cost.of(plan, architecture)._asdict(),
            **{f"baseline_{name}": value for name, value in full.items()},
            wall_s=row.wall_s or 0.0,
            device=str(path),
            precision=self.conf.trainer.precision,
            versions={},
            git_commit=None,
            started_at=f"row {number}",
        )


def _networks(book: Notebook) -> set[str]:
    try:
        return book.networks()
    except SsrError as error:
        log.warning("%s", error)
        return set()


def _result(record: Record) -> tuple[object, ...]:
    """Say what two records of the same training have in common, wherever they come from."""
    return record.network, record.seed, record.status, record.val_acc
