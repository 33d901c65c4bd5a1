"""The studies of a store in a few words and numbers: what `ssr studies` lists and compares."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ssr_exp import files
from ssr_exp.report import search_results
from ssr_exp.runs import removal, seed_means, studies, study_names
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.record import FINALIST, Record, Status
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.runs.store import CONFIG_FILE, RECORD_FILE, SEED, Store, folder_name
from ssr_exp.runs.study_names import Begun

FEW = 8  # runs that are looked at for what a whole study is


@dataclass(frozen=True)
class StudySummary:
    """A study in short.

    Attributes:
        folder: its folder's name.
        begun: how it was begun, and is called.
        fields: what it is, as `study.json` says it; empty if that cannot be read.
        records: of its runs.
        answer: of a search's `best/`; None without one.
        differs: from those of the same network and data set, by key; see `studies.told_apart`.
        holds_finalists: whether it is of finalists that learned from val, too.
        finalists_of: the study whose finalists it holds; None: it is one for itself, or it is not
            known yet whose search trains them.
        finals: the records of its finalists in studies of their own.
        told: what is said of the answer; None without one.
        under_way: runs that a process trains, or has leased.
        stopped: runs that were begun and have no record.
        size: of its folder, in bytes.
    """

    folder: str
    begun: Begun
    fields: Mapping[str, Any]
    records: Sequence[Record]
    answer: Record | None
    under_way: int
    stopped: int
    size: int
    differs: Mapping[str, str] = field(default_factory=dict)
    holds_finalists: bool = False
    finalists_of: str | None = None
    finals: Sequence[Record] = ()
    told: Comparison | None = None

    @property
    def title(self) -> str:
        """What it is called: by a name of one's own, if it has one."""
        return self.begun.name or self.folder

    @property
    def handed(self) -> tuple[Record, Comparison] | None:
        """The answer with what is said of it; None where one of them is not there."""
        return None if self.answer is None or self.told is None else (self.answer, self.told)

    @property
    def network(self) -> str:
        """The seed network's name; empty if it is not known."""
        return self.records[-1].model if self.records else _name(self.fields, "model")

    @property
    def dataset(self) -> str:
        """The data set's name; likewise."""
        return self.records[-1].dataset if self.records else _name(self.fields, "dataset")

    @property
    def seconds(self) -> float:
        """What its runs took, on their devices."""
        return sum(record.wall_s for record in self.records)

    @property
    def seconds_of_finals(self) -> float:
        """What its finalists in studies of their own took."""
        return sum(record.wall_s for record in self.finals)

    @property
    def last(self) -> str:
        """When its last run was begun, in ISO 8601; empty if it has none."""
        return max((record.started_at for record in self.records), default="")

    @property
    def best(self) -> SeedMean | None:
        """What the network with the best score on val has, as the mean over its seeds."""
        means = seed_means.on_val(self.records).values()
        return max(means, key=_goodness, default=None)

    def count(self, status: Status) -> int:
        """Count the runs that ended so; those that are tried again are under way as well."""
        return sum(record.status is status for record in self.records)


def read(store: Store) -> list[StudySummary]:
    """Read the studies of a store, the one with the newest run last."""
    records: dict[str, list[Record]] = {name: [] for name in study_names.every(store.root)}
    for record in store.records():
        records.setdefault(folder_name(record.study), []).append(record)
    fields = studies.read_all(store.root)
    by_name = {name: some for name, some in records.items() if some}
    of = _finalists(store, by_name, {name: fields.get(name, {}) for name in records})
    summaries = [
        _summary(store, name, fields.get(name, {}), some) for name, some in records.items()
    ]
    apart = _told_apart([one for one in summaries if one.folder not in of])
    told = [
        replace(
            one,
            differs=apart.get(one.folder, {}),
            holds_finalists=one.folder in of,
            finalists_of=of.get(one.folder),
            finals=[r for final, name in of.items() if name == one.folder for r in records[final]],
        )
        for one in summaries
    ]
    return sorted(told, key=lambda one: (one.last, one.folder))


def _finalists(
    store: Store,
    records: Mapping[str, Sequence[Record]],
    fields: Mapping[str, Mapping[str, Any]],
) -> dict[str, str | None]:
    """Name the studies that hold finalists, with the study whose search they are of.

    An answer names its own; of a search that trains its first ones, what they are says whose.
    """
    finals = search_results.finalist_studies(store, records)
    of: dict[str, str | None] = {final: name for name, others in finals.items() for final in others}
    under_way = [
        name for name in fields if name not in of and _is_of_finalists(store, name, fields[name])
    ]
    others = {name: one for name, one in fields.items() if name not in (*of, *under_way)}
    return of | {name: studies.searched_as(fields[name], others) for name in under_way}


def _is_of_finalists(store: Store, name: str, fields: Mapping[str, Any]) -> bool:
    """Say whether a study's trainings learn from val, too, and a search began them."""
    dataset = fields.get("dataset")
    if not isinstance(dataset, dict) or dataset.get("train_on_val") is not True:
        return False
    begun = itertools.islice((store.root / name).glob(f"*/seed*/{CONFIG_FILE}"), FEW)
    return any(files.read_or_empty(path).get("origin") == FINALIST for path in begun)


def one_of(summaries: Sequence[StudySummary], folder: str) -> StudySummary:
    """Pick a study by its folder's name, which is there."""
    return next(one for one in summaries if one.folder == folder)


def _summary(
    store: Store,
    name: str,
    fields: Mapping[str, Any],
    records: Sequence[Record],
) -> StudySummary:
    folder = store.root / name
    done = {(folder_name(r.network), r.seed) for r in records if r.status is not Status.failed}
    under_way = stopped = 0
    for run in folder.glob("*/seed*/"):
        if not SEED.fullmatch(run.name) or (run.parent.name, int(run.name[4:])) in done:
            continue
        is_claimed = store.is_claimed(run, glance_s=0, read_only=True)
        under_way += is_claimed
        is_begun = (run / CONFIG_FILE).exists() and not (run / RECORD_FILE).exists()
        stopped += is_begun and not is_claimed
    return StudySummary(
        folder=name,
        begun=study_names.read(folder),
        fields=fields,
        records=records,
        answer=store.answer(name),
        under_way=under_way,
        stopped=stopped,
        size=removal.size(folder),
        told=search_results.read_comparison(store, name),
    )


def _told_apart(summaries: Sequence[StudySummary]) -> dict[str, dict[str, str]]:
    """Say what studies of the same network and data set differ in, by folder and key."""
    alike: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for one in summaries:
        alike.setdefault((one.network, one.dataset), {})[one.folder] = one.fields
    return {
        name: told for fields in alike.values() for name, told in studies.told_apart(fields).items()
    }


def _goodness(one: SeedMean) -> float:
    return one.records[0].scored_by.sign * one.mean


def _name(fields: Mapping[str, Any], part: str) -> str:
    said = fields.get(part)
    return str(said.get("name", "")) if isinstance(said, dict) else ""
