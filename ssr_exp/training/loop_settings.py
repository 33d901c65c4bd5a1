"""What a study of a loop of the user's own was begun with, as its `study.json` keeps it.

A command goes on with that, and so does a later session of the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ssr_exp import files
from ssr_exp.config import (
    Config,
    DatasetConf,
    FinalistsConf,
    ModelConf,
    ScoreConf,
    SearchConfig,
    SegmentConf,
    TaskConf,
)
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs import provenance, studies
from ssr_exp.runs.store import Store
from ssr_exp.training.opened_study import OpenedStudy

SEARCH = "search"  # among the settings: those of its search, by their keys
FINALISTS = "finalists"  # likewise: how many trainings the loop ended with last
SEARCH_PARTS = (
    *("surrogate", "acquisition", "objective", "cap", "latency", "runs", "modifiers", "budget"),
    *("rounds", "batch", "min_gain", "seed"),
)
EPOCHS = "trainer.max_epochs"  # likewise: what a budget of epochs counts for each training
LATTICE = ("frozen", "width_steps")  # of its segmentation: they make no other study
PARTS: Mapping[str, type] = {
    "model": ModelConf,
    "segment": SegmentConf,
    "dataset": DatasetConf,
    "task": TaskConf,
}


def settings(conf: Config, plan: Plan) -> dict[str, Any]:
    """List what is not as it is by default, of a study that begins."""
    told: dict[str, Any] = {
        part: _chosen(getattr(conf, part), kind()) for part, kind in PARTS.items()
    }
    if isinstance(conf, SearchConfig):
        told[SEARCH] = _chosen_search(conf)
    model = saved.Model.from_conf(conf.model, plan.input_shape)
    return told | {studies.CALLS_CODE: model.calls_code()}


def _chosen_search(conf: SearchConfig) -> dict[str, Any]:
    """List the settings of a search that are not as they are by default, by their keys."""
    usual, found = SearchConfig(), dict[str, Any]()
    for name in SEARCH_PARTS:
        value, plain = getattr(conf, name), getattr(usual, name)
        if is_dataclass(value):
            found |= {f"{name}.{key}": part for key, part in _chosen(value, plain).items()}
        elif value != plain:
            found[name] = value
    if conf.trainer.max_epochs != usual.trainer.max_epochs:
        found[EPOCHS] = conf.trainer.max_epochs
    return found


def _chosen(conf: Any, usual: Any) -> dict[str, Any]:
    """List what is not as it is by default."""
    values = ((field.name, getattr(conf, field.name)) for field in fields_of(conf))
    return {
        name: asdict(value) if isinstance(value, ScoreConf) else value
        for name, value in values
        if value != getattr(usual, name)
    }


def read(root: Path, name: str) -> dict[str, Any]:
    """Read what a study was begun with.

    Raises:
        SsrError: if there is no such study, or commands began it.
    """
    here = studies.read_all(root)
    if name not in here:
        raise SsrError(f"there is no study {name} in {root}; it holds {', '.join(here) or 'none'}.")
    settings = here[name].get(studies.SETTINGS)
    if not isinstance(settings, dict):
        raise SsrError(
            f"study={name} was begun by a command: repeat its words, without study=. (study= is "
            "for studies that ssr_exp.Study began.)"
        )
    return settings


def search(root: Path, name: str) -> dict[str, Any]:
    """Read how the search of a study is set, by the keys of `ssr search`, but for what is usual.

    Finalists are those that its loop asked for last.

    Raises:
        SsrError: if there is no such study, or commands began it.
    """
    return {**of_search(read(root, name)), **_finalists(root, name)}


def of_search(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read of a study's settings those of its search; the file may be somebody else's."""
    found = settings.get(SEARCH)
    rows = found.items() if isinstance(found, dict) else ()
    return {k: v for k, v in rows if k == EPOCHS or k.partition(".")[0] in SEARCH_PARTS}


def lattice(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read which networks of a study are looked at: what may be asked otherwise, by its keys."""
    found = settings.get("segment")
    rows = found.items() if isinstance(found, dict) else ()
    return {f"segment.{key}": value for key, value in rows if key in LATTICE}


def seeds(root: Path, name: str) -> dict[str, Any]:
    """Read with how many seeds a study's loop asked for finalists last: what promises are of."""
    return {k: v for k, v in _finalists(root, name).items() if k == f"{FINALISTS}.seeds"}


def _finalists(root: Path, name: str) -> dict[str, Any]:
    about = files.read_or_empty(root / name / studies.FILE)
    settings = about.get(studies.SETTINGS)
    told = settings.get(FINALISTS) if isinstance(settings, dict) else None
    known = {field.name for field in fields_of(FinalistsConf)}
    rows = told.items() if isinstance(told, dict) else ()
    return {f"{FINALISTS}.{key}": value for key, value in rows if key in known}


def settle(conf: Config) -> None:
    """Fill a configuration with what the study that it names was begun with.

    Which of its networks are looked at, the configuration says itself; see `lattice`.

    Raises:
        SsrError: if there is no such study, or commands began it.
    """
    if conf.study is None:
        return
    settings = read(Path(conf.paths.runs), conf.study)
    for part, kind in PARTS.items():
        try:
            value: Any = TypeAdapter(kind).validate_python(settings.get(part, {}))
        except ValidationError as error:
            raise SsrError(f"the {studies.FILE} of {conf.study} is damaged ({error}).") from None
        if part == "segment":  # `lattice`, or what was asked instead
            value.frozen, value.width_steps = conf.segment.frozen, conf.segment.width_steps
        if part == "task":
            value.target, value.arguments = conf.task.target, conf.task.arguments
        setattr(conf, part, value)


def with_earlier_finalists(opened: OpenedStudy, store: Store) -> OpenedStudy:
    """Keep, of a study that its loop begins again, how many finalists it asked for last."""
    about = files.read_or_empty(store.study_folder(opened.name) / studies.FILE)
    before = about.get(studies.SETTINGS)
    asked = before.get(FINALISTS) if isinstance(before, dict) else None
    return opened if asked is None else _with_finalists(opened, asked)


def note_finalists(opened: OpenedStudy, store: Store, conf: FinalistsConf) -> OpenedStudy:
    """Write down how many finalists a loop asks for, so that a command asks for as many.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    asked = {"count": conf.count, "seeds": conf.seeds, "retries": conf.retries}
    if opened.changed[studies.SETTINGS].get(FINALISTS) == asked:
        return opened
    noted = _with_finalists(opened, asked)
    store.write_text(
        store.study_folder(opened.name) / studies.FILE, provenance.to_json(noted.about)
    )
    return noted


def _with_finalists(opened: OpenedStudy, asked: Any) -> OpenedStudy:
    settings = {**opened.changed[studies.SETTINGS], FINALISTS: asked}
    return replace(opened, changed={**opened.changed, studies.SETTINGS: settings})
