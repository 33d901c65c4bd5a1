"""The trained network that a user takes: a search's answer, a finished run, or a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import files
from ssr_exp.config import TaskKind
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.runs import studies, study_names, trained
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import (
    BEST_FOLDER,
    CONFIG_FILE,
    LAST_CHECKPOINT,
    METRICS_FILE,
    RECORD_FILE,
    Store,
)

TRUST = "type trust=true if you trust where it comes from"


@dataclass(frozen=True, eq=False)
class Selection:
    """A trained network, and what is known of it."""

    network: nn.Module  # in eval mode, on the CPU
    about: saved.Description  # how it is built, and what its logits mean
    record: Record  # of its training
    study: Mapping[str, Any]  # what decided its results, as `study.json` says it
    folder: Path  # of the study that it is exported from
    label: str  # tells it from the study's other runs
    # what its run was asked to do, as `config.json` says it; empty if that is gone
    asked: Mapping[str, Any]
    # what is told of an answer, as `metrics.json` of `best/` says it; empty of another network
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def comparison(self) -> Sequence[Mapping[str, Any]]:
        """The last comparison of the search that named it; empty without one."""
        results = self.told.get("results")
        return [r for r in results if isinstance(r, dict)] if isinstance(results, list) else []

    @property
    def verdict(self) -> str | None:
        """What speaks against an answer; see `ssr_exp.runs.verdict`."""
        against = self.told.get("verdict")
        return against if isinstance(against, str) else None

    @property
    def task(self) -> str:
        """What it learnt, as `task=` names it."""
        task = self.study.get("task")
        named = task.get("name") if isinstance(task, dict) else None
        return named if isinstance(named, str) else TaskKind.classification

    @property
    def has_seen_val(self) -> bool:
        """Whether it learned from the images that a search compares networks by."""
        dataset = self.study.get("dataset")
        return isinstance(dataset, dict) and bool(dataset.get("train_on_val", False))


def find(
    runs: Path, run: str, *, study: str | None = None, seed: int | None = None, trust: bool = False
) -> Selection:
    """Find a trained network.

    Args:
        runs: `paths.runs`.
        run: `best`, a network's code, or a folder like `best/`.
        study: which one, where there are several.
        seed: of a code that was trained with several; None: the lowest.
        trust: call the function that makes the seed network, if a function does.

    Raises:
        SsrError: if there is none, it did not finish, or its weights are missing or damaged.
    """
    if _is_folder(folder := Path(run).expanduser()):
        return _read(folder, trust=trust)
    if "/" in run:
        raise SsrError(
            f"{run} is no folder of a trained network: name one like {BEST_FOLDER}/, or that of a "
            "run, <study>/<network>/seed<seed>."
        )
    if run == BEST_FOLDER:
        parent = _study(runs, study, lambda p: (p / BEST_FOLDER / saved.NETWORK).exists(), "best/")
        return _read(parent / BEST_FOLDER, trust=trust)
    parent = _study(runs, study, lambda p: bool(_seeds(p, run)), f"run of {run}")
    return _read(_run(parent, run, seed), trust=trust)


def _is_folder(path: Path) -> bool:
    """Say whether a trained network lies there; a code may be too long for a path."""
    pairs = (saved.NETWORK, saved.WEIGHTS), (RECORD_FILE, LAST_CHECKPOINT)
    try:
        return any(all((path / name).exists() for name in pair) for pair in pairs)
    except OSError:
        return False


def _study(runs: Path, study: str | None, holds: Callable[[Path], bool], what: str) -> Path:
    """Find the one study that holds something."""
    here = [path.parent for path in sorted(runs.glob(f"*/{studies.FILE}"))]
    if not here:
        raise SsrError(f"{runs} holds no study: type paths.runs=DIR, the folder of the records.")
    names = ", ".join(path.name for path in here)
    study = None if study is None else study_names.find(runs, study)
    holders = [path for path in here if study in (None, path.name) and holds(path)]
    if len(holders) == 1:
        return holders[0]
    if holders:
        several = ", ".join(path.name for path in holders)
        raise SsrError(f"several studies in {runs} hold a {what}: type study=NAME, of {several}.")
    raise SsrError(
        f"no study in {runs} holds a {what} ({names}): type run=CODE with the code of a network "
        f"that was trained, such as d3-2-1_w16-8-32, run={BEST_FOLDER} after a search, or "
        "run=FOLDER."
    )


def _seeds(study: Path, code: str) -> dict[int, Path]:
    """List the folders of a network's runs by their seeds, the lowest seed first."""
    above = Store(study.parent).folder(study.name, code, 0).parent
    folders = [path.parent for path in above.glob(f"seed*/{RECORD_FILE}")]
    numbers = {folder.name.removeprefix("seed"): folder for folder in folders}
    return dict(sorted((int(n), folder) for n, folder in numbers.items() if n.isdecimal()))


def _run(study: Path, code: str, seed: int | None) -> Path:
    """Find the first run of a network that finished, or else the first."""
    seeds = _seeds(study, code)
    if seed is not None and seed not in seeds:
        known = ", ".join(map(str, seeds))
        raise SsrError(f"{study.name} holds no such run of {code}: type seed=N, of {known}.")
    folders = [folder for number, folder in seeds.items() if seed in (None, number)]
    records = {f: record for f in folders if (record := Store(study.parent).read(f))}
    finished = (f for f, record in records.items() if record.status is Status.finished)
    return next(finished, next(iter(records), folders[0]))


def _read(folder: Path, *, trust: bool) -> Selection:
    record = Store(folder).read(folder)
    if record is None:
        raise SsrError(f"{folder} holds no {RECORD_FILE} that can be read: name another network.")
    source = trained.read(folder, TRUST, trust=trust)
    study, here = source.study_folder, folder.resolve()
    run = Store(study.parent).folder(record.study, record.network, record.seed)
    return Selection(
        source.network,
        source.about,
        record,
        source.study,
        study,
        "-".join(here.relative_to(study).parts),
        files.read_or_empty(here / CONFIG_FILE) or files.read_or_empty(run / CONFIG_FILE),
        files.read_or_empty(folder / METRICS_FILE),
    )
