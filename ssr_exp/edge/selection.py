"""The trained network that a user takes: a search's answer, a finished run, or a folder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import files
from ssr_exp.config import TaskKind
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.runs import last_comparison, studies, study_names, trained
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import (
    BEST_FOLDER,
    CONFIG_FILE,
    LAST_CHECKPOINT,
    RECORD_FILE,
    Store,
)

IMAGE_SHAPE = 3  # numbers: channels, height, width
NEAREST = 3  # names that are offered in place of one that is not there
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
    told: Comparison | None = None  # what is told of an answer; None of another network

    @property
    def verdict(self) -> str | None:
        """What speaks against an answer; see `ssr_exp.runs.verdict`."""
        return None if self.told is None else self.told.against(self.record)

    @property
    def task(self) -> str:
        """What it learnt, as `task=` names it."""
        task = self.study.get("task")
        named = task.get("name") if isinstance(task, dict) else None
        return named if isinstance(named, str) else TaskKind.classification

    @property
    def sample(self) -> str:
        """What it takes one of: an image, or of networks of any other input a sample."""
        is_image = self.about.inputs is None and len(self.about.input_shape) == IMAGE_SHAPE
        return "image" if is_image else "sample"

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
        run: `best`, a network's code, or a folder like `./best`.
        study: which one, where there are several.
        seed: of a code that was trained with several; None: the lowest.
        trust: call the function that makes the seed network, if a function does.

    Raises:
        SsrError: if there is none, it did not finish, or its weights are missing or damaged.
    """
    is_answer = run == BEST_FOLDER
    if is_answer and seed is not None:
        raise SsrError("run=best has a seed of its own: leave seed= out, or type run=CODE seed=N.")
    if not is_answer and is_folder(folder := Path(run).expanduser()):
        if study is not None or seed is not None:
            raise SsrError(f"{run} is the folder of one network: leave study= and seed= out.")
        return _read(folder, trust=trust)
    if "/" in run:
        raise SsrError(
            f"{run} is no folder of a trained network: name one like {BEST_FOLDER}/, or that of a "
            "run, <study>/<network>/seed<seed>."
        )
    parent = _study(runs, study, run)
    return _read(parent / BEST_FOLDER if is_answer else _run(parent, run, seed), trust=trust)


def is_folder(path: Path) -> bool:
    """Say whether a trained network lies there; a code may be too long for a path."""
    pairs = (saved.NETWORK, saved.WEIGHTS), (RECORD_FILE, LAST_CHECKPOINT)
    try:
        return any(all((path / name).exists() for name in pair) for pair in pairs)
    except OSError:
        return False


def _study(runs: Path, study: str | None, run: str) -> Path:
    """Find the one study that holds what `run` names."""
    here = [path.parent for path in sorted(runs.glob(f"[!.]*/{studies.FILE}"))]
    if not here:
        raise SsrError(f"{runs} holds no study: type paths.runs=DIR, the folder of the records.")
    study = None if study is None else study_names.find(runs, study)
    asked = [path for path in here if study in (None, path.name)]
    held = _answers if run == BEST_FOLDER else partial(_seeds, code=run)
    holders = [path for path in asked if held(path)]
    if len(holders) == 1:
        return holders[0]
    what = "best/" if run == BEST_FOLDER else f"run of {run}"
    titles = ", ".join(study_names.title(runs, path.name) for path in holders or asked)
    if holders:
        raise SsrError(f"several studies in {runs} hold a {what}: type study=NAME, of {titles}.")
    where = f"no study in {runs} holds a {what} ({titles})"
    if study is not None:
        where = f"study {titles or study} holds no {what}"
    raise SsrError(f"{where}: {_instead(asked, run)}")


def _instead(asked: Sequence[Path], run: str) -> str:
    """Say what can be typed of some studies, what is nearest to what was typed first."""
    answers = list(dict.fromkeys(name for path in asked for name in _answers(path)))
    codes = list(dict.fromkeys(code for path in asked for code in _codes(path)))
    nearest = difflib.get_close_matches(run, [*answers, *codes], NEAREST, cutoff=0.0)
    runs = [f"run={name}" for name in dict.fromkeys((*nearest, *answers))]
    if not runs:
        return "no network was trained there yet; type run=FOLDER for one that lies elsewhere."
    more = len(codes) + len(answers) - len(runs)
    others = f" (or one of {more} more networks)" if more > 0 else ""
    later = "" if answers else f"; run={BEST_FOLDER} is there after a search"
    return f"type {', '.join(runs)}{others} or run=FOLDER{later}."


def _answers(study: Path) -> list[str]:
    """Name the answer of a study, if it has one."""
    return [BEST_FOLDER] if (study / BEST_FOLDER / saved.NETWORK).exists() else []


def _codes(study: Path) -> list[str]:
    """List the networks of a study that were trained, by their codes."""
    records = Store(study.parent).records(study.name)
    return [record.network for record in records if record.status is Status.finished]


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
        last_comparison.read(folder),
    )
