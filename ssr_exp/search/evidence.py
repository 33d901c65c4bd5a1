"""What a search knows of its study: the local store, and W&B or a table beside it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssr_exp import terminal
from ssr_exp.config import RunsKind, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.runs import studies, tables
from ssr_exp.runs.record import Fractions, Record
from ssr_exp.runs.score import ACCURACY, PERCENT, Score
from ssr_exp.runs.store import LOCK_FILE, Store
from ssr_exp.runs.wandb import training_run
from ssr_exp.search import rounds
from ssr_exp.search.rounds import Notebook
from ssr_exp.search.space import Space
from ssr_exp.terminal import counted

log = logging.getLogger(__name__)

MOST_DIFFERENCES = 4  # that a sentence names


@dataclass
class Evidence:
    """What is known of a study, whose fingerprint is of `fields`; it is read as data only."""

    store: Store
    study: str
    fields: dict[str, Any]
    space: Space
    conf: SearchConfig
    book: Notebook
    score: Score = ACCURACY  # of the study's records
    _records: list[Record] | None = field(default=None, init=False)
    _read: list[Record] | None = field(default=None, init=False)  # last, from the source beside
    _short: list[Record] = field(default_factory=list, init=False)

    @property
    def records(self) -> list[Record]:
        """The study's records, whoever trained them, none twice; kept until `forget`.

        Where a table has a latency of a training of the store, its record has that, too. Of equal
        rows one is that training, and the others are repeats of it.

        Raises:
            SsrError: if a source that was never read cannot be, or holds other studies only.
        """
        if self._records is None:
            beside = self._beside()
            local = {(r.network, r.seed): r for r in self.store.records(self.study)}
            others, in_table = list[Record](), set[tuple[str, int]]()
            for other in beside:
                same = local.get(key := (other.network, other.seed))
                if same is None or key in in_table or not self._is_same_training(other, same):
                    others.append(other)
                elif self.conf.runs.kind is RunsKind.table:
                    local[key] = _with_latency(same, other)
                    in_table.add(key)
            self._records = [*local.values(), *others]
        return self._records

    def forget(self) -> None:
        """Have the records read anew, as trainings have ended."""
        self._records = None

    def _beside(self) -> list[Record]:
        """Read the source beside the local store; while that fails, what it held last counts."""
        try:
            self._read = self._source()
        except SsrError as error:
            if self._read is None:
                raise
            told = counted(len(self._read), "record")
            log.warning("the search goes on with the %s that it read before: %s", told, error)
        return self._read

    def _source(self) -> list[Record]:
        runs = self.conf.runs
        if runs.kind is RunsKind.wandb:
            return training_run.records(runs, self.conf.logger, study=self.study)
        return self._table() if runs.kind is RunsKind.table else []

    def _is_same_training(self, other: Record, own: Record) -> bool:
        """Say whether a record from elsewhere is of a training of the store, by what it gave.

        The two are of one network and seed. In a table people may have rounded scores.
        """
        if other.status is not own.status:
            return False
        if other.score == own.score:
            return True
        if self.conf.runs.kind is not RunsKind.table or other.score is None or own.score is None:
            return False
        return _is_rounded(other.score, own.score, self.score)

    def elsewhere(self) -> list[Record]:
        """List the records of studies that differ in nothing but their fewer epochs."""
        if not self.conf.surrogate.fidelity:
            return []
        siblings = studies.siblings(self.store.root, self.fields).items()
        shorter = sorted(name for name, epochs in siblings if epochs < self.conf.trainer.max_epochs)
        return [r for name in shorter for r in self.store.records(name)] + self._short

    def pending(self) -> set[str]:
        """Name the networks that another process trains, or that a running search has planned.

        But for those that failed or diverged there: nothing comes of them, unless it tries again.
        """
        busy = {
            self.store.network(path.parent)
            for path in self.store.study_folder(self.study).glob(f"*/seed*/{LOCK_FILE}")
            if self.store.is_busy(path.parent)
        }
        running = [o for o in rounds.others(self.book) if self.store.is_busy(o.folder)]
        broken = {(r.network, r.seed) for r in self.records if not r.is_measured}
        return busy.union(*(_awaited(book, broken) for book in running))

    def strangers(self) -> str:
        """Say which other studies of this model and data set there are, and how they differ."""
        others = []
        for name, fields in studies.read_all(self.store.root).items():
            kind = name.rpartition("-")[0]
            if kind and kind == self.study.rpartition("-")[0] and name != self.study:
                differences = studies.differences(fields, self.fields)
                others.append(f"{name} ({terminal.first_of(differences, MOST_DIFFERENCES)})")
        if not others:
            return ""
        listed = "; ".join(others)
        return f" {self.store.root} holds other studies, which cannot be mixed in: {listed}."

    def _table(self) -> list[Record]:
        named = self.conf.runs.file
        if named is None:
            raise SsrError("runs=table needs runs.file=PATH, a .csv or .jsonl file.")
        path = Path(named).expanduser()
        rows = tables.read(path)
        mine = [row for row in rows if row.study in (None, self.study)]
        if rows and not mine:
            others = sorted({str(row.study) for row in rows})
            raise SsrError(
                f"{path} holds records of {', '.join(others)} only, not of {self.study}: give "
                "model, dataset, recipe and trainer as there, or take its study column out."
            )
        self._check_scores(mine, path)
        epochs, own, rest = self.conf.trainer.max_epochs, list[Record](), list[Record]()
        for number, row in enumerate(mine, start=1):
            if (record := self._completed(row, path, number)) is not None:
                # Of this very study a run has fewer epochs if a callback stopped it early.
                is_own = record.epochs == epochs or row.study == self.study
                (own if is_own else rest).append(record)
        self._short = [r for r in rest if r.epochs < epochs]
        if rest:
            told = counted(len(rest), "row")
            log.warning("%s of %s: other epochs than %d", told, path, epochs)
        return own

    def _check_scores(self, rows: Sequence[tables.TableRow], path: Path) -> None:
        """Refuse scores that cannot be this study's.

        Raises:
            SsrError: if one is of another name than the study's, or out of its bounds.
        """
        for row in rows:
            if row.score_key not in (None, self.score.key):
                raise SsrError(
                    f"{path} holds scores by {row.score_key}, and this study is judged by "
                    f"{self.score.key}: name another table, or mend its column score_key."
                )
        scores = [row.score for row in rows if row.score is not None]
        if self.score.unit == PERCENT and len(scores) > 1 and 0 < max(scores) <= 1:
            raise SsrError(
                f"{path}: no score is above 1, but {self.score.key} is percent, from 0 to 100: "
                "multiply them by 100."
            )
        for row in rows:
            if row.score is None and row.val_acc is not None and self.score != ACCURACY:
                raise SsrError(
                    f"{path} holds accuracies, and this study is judged by {self.score.key}: name "
                    "the column score, and give it there."
                )
            for value in (row.value, row.test_value):
                low, high = self.score.limits
                if value is not None and not low <= value <= high:
                    raise SsrError(
                        f"{path}: {self.score.key} of {row.network} is {value:g}, and it lies from "
                        f"{self.score.between()}: mend the line or leave it out."
                    )

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
            score=row.value,
            metrics={} if row.val_loss is None else {"val/loss": row.val_loss},
            test_score=row.test_value,
            **self.score.fields(),
            latency_ms=row.latency_ms,
            latency_device=row.latency_device,
            **cost.count_one(plan, architecture)._asdict(),
            **{f"baseline_{name}": value for name, value in full.items()},
            wall_s=row.wall_s or 0.0,
            device=str(path),
            precision=self.conf.trainer.precision,
            versions={},
            git_commit=None,
            started_at=f"row {number}",
        )


def _awaited(book: Notebook, broken: Collection[tuple[str, int]]) -> set[str]:
    """Name what a search has planned, but for what broke: networks, each with a seed."""
    try:
        plans = book.read()
    except SsrError as error:
        log.warning("%s", error)
        return set()
    return {n for plan in plans for n in plan.networks if (n, plan.seed) not in broken}


def _is_rounded(value: float, exact: float, score: Score) -> bool:
    """Say whether a value is an exact one as pages print it, or with the value's own digits."""
    digits = len(repr(value).partition(".")[2])
    return value in (float(score.number(exact)), round(exact, digits))


def _with_latency(own: Record, other: Record) -> Record:
    """Put what a table says of a training's latency into its record, if it says any."""
    if other.latency_ms is None:
        return own
    latency = {"latency_ms": other.latency_ms, "latency_device": other.latency_device}
    return own.model_copy(update=latency)
