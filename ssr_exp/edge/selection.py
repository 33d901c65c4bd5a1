"""The trained network that a user takes: a search's answer, a finished run, or a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale, saved
from ssr_exp.runs import studies
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import (
    BEST_FOLDER,
    CONFIG_FILE,
    LAST_CHECKPOINT,
    METRICS_FILE,
    RECORD_FILE,
    Store,
    network_weights,
)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A trained network, and what is known of it.

    Args:
        network: in eval mode, on the CPU.
        about: how it is built, and what its logits mean.
        record: of its training.
        study: what decided its results, as `study.json` says it.
        folder: of the study that it is exported from.
        label: tells it from the study's other runs.
        asked: what its run was asked to do, as `config.json` says it; empty if that is gone.
        comparison: the last comparison of the search that named it; empty without one.
    """

    network: nn.Module
    about: saved.Description
    record: Record
    study: Mapping[str, Any]
    folder: Path
    label: str
    asked: Mapping[str, Any]
    comparison: Sequence[Mapping[str, Any]] = ()

    @property
    def has_seen_val(self) -> bool:
        """Whether it learned from the images that a search compares networks by."""
        dataset = self.study.get("dataset")
        return isinstance(dataset, dict) and bool(dataset.get("train_on_val", False))


def find(
    runs: Path, run: str, *, study: str | None = None, seed: int | None = None, trust: bool = False
) -> Chosen:
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
    where = Path(run).expanduser()
    if (where / saved.NETWORK).exists() and (where / saved.WEIGHTS).exists():
        return _of_folder(where, where.resolve().parent, trust=trust)
    if (where / RECORD_FILE).exists() and (where / LAST_CHECKPOINT).exists():
        network = where.resolve().parent
        return _of_run(network.parent, network.name, _number(where.resolve()), trust=trust)
    if "/" in run:
        raise SsrError(
            f"{run} is no folder of a trained network: name one like {BEST_FOLDER}/, or that of a "
            "run, <study>/<network>/seed<seed>."
        )
    if run == BEST_FOLDER:
        folder = _study(runs, study, lambda p: (p / BEST_FOLDER / saved.NETWORK).exists(), "best/")
        return _of_folder(folder / BEST_FOLDER, folder, trust=trust)
    folder = _study(runs, study, lambda p: bool(_seeds(p, run)), f"run of {run}")
    return _of_run(folder, run, seed, trust=trust)


def _study(runs: Path, study: str | None, holds: Callable[[Path], bool], what: str) -> Path:
    """Find the one study that holds something."""
    here = [path.parent for path in sorted(runs.glob(f"*/{studies.FILE}"))]
    if not here:
        raise SsrError(f"{runs} holds no study: type paths.runs=DIR, the folder of the records.")
    names = ", ".join(path.name for path in here)
    if study is not None and study not in names.split(", "):
        raise SsrError(f"{runs} holds no study {study}; it holds {names}.")
    found = [path for path in here if study in (None, path.name) and holds(path)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(path.name for path in found)
        raise SsrError(f"several studies in {runs} hold a {what}: type study=NAME, of {several}.")
    raise SsrError(
        f"no study in {runs} holds a {what} ({names}): type run=CODE with the code of a network "
        f"that was trained, such as d3-2-1_w16-8-32, run={BEST_FOLDER} after a search, or "
        "run=FOLDER."
    )


def _seeds(study: Path, code: str) -> list[Path]:
    """List the folders of a network's runs, the lowest seed first."""
    above = Store(study.parent).folder(study.name, code, 0).parent
    return sorted((p.parent for p in above.glob(f"seed*/{RECORD_FILE}")), key=_number)


def _of_folder(folder: Path, study: Path, *, trust: bool) -> Chosen:
    """Read a folder that stands alone."""
    about = saved.read(folder)
    record = Store(folder).read(folder)
    if record is None:
        raise SsrError(f"{folder} holds no {RECORD_FILE} that can be read: hand it over again.")
    _check(record, folder)
    _check_trust(about, folder, trust=trust)
    found = _read(folder / METRICS_FILE).get("results", [])
    comparison = found if isinstance(found, list) else []
    run = Store(study.parent).folder(record.study, record.network, record.seed)
    return Chosen(
        saved.load(folder, trust=trust),
        about,
        record,
        _read(folder / studies.FILE) or _read(study.parent / record.study / studies.FILE),
        study,
        folder.resolve().name,
        _read(run / CONFIG_FILE),
        [row for row in comparison if isinstance(row, dict)],
    )


def _of_run(study: Path, code: str, seed: int | None, *, trust: bool) -> Chosen:
    """Build the network of a run, and load what its training left."""
    store = Store(study.parent)
    folders = [path for path in _seeds(study, code) if seed in (None, _number(path))]
    records = [(folder, record) for folder in folders if (record := store.read(folder))]
    if folders and not records:
        raise SsrError(f"no {RECORD_FILE} of {code} in {study} can be read: train it again.")
    if not records:
        seeds = ", ".join(str(_number(path)) for path in _seeds(study, code))
        raise SsrError(f"{study.name} holds no such run of {code}: type seed=N, of {seeds}.")
    folder, record = next((r for r in records if r[1].status is Status.finished), records[0])
    _check(record, folder)
    about = saved.read(study)
    _check_trust(about, study, trust=trust)
    seed_network, plan = saved.seed_network(about)
    architecture = codes.parse(plan, code)
    network = rescale.build(seed_network, plan, architecture, inherits=True)
    path = folder / LAST_CHECKPOINT
    if not path.exists():
        raise SsrError(
            f"{folder} holds no {LAST_CHECKPOINT}, the weights that its training left: remove "
            f"{folder / RECORD_FILE} and train it again."
        )
    rescale.load(network, network_weights(path), source=str(path))
    shares = plan.modifiers(architecture)
    known = {
        "network": codes.write(plan, architecture),
        "modifiers": saved.Shares(depth=shares.depth, width=shares.width),
    }
    return Chosen(
        network.eval(),
        about.model_copy(update=known),
        record,
        _read(study / studies.FILE),
        study,
        f"{folder.parent.name}-{folder.name}",
        _read(folder / CONFIG_FILE),
    )


def _check(record: Record, folder: Path) -> None:
    if record.status is not Status.finished:
        why = f" ({record.error})" if record.error else ""
        raise SsrError(
            f"the run in {folder} {record.status.value}{why}, so there is nothing to export: name "
            "one that finished."
        )


def _check_trust(about: saved.Description, folder: Path, *, trust: bool) -> None:
    if not trust and about.model.calls_code(folder):
        raise SsrError(
            f"{folder} is of a network that the function {about.model.name} makes: type trust=true "
            "if you trust where the folder comes from."
        )


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object as data; what is missing or damaged is empty."""
    try:
        return files.read_fields(path)
    except (FileNotFoundError, files.Unreadable):
        return {}


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("seed")
    return int(digits) if digits.isdecimal() else -1
