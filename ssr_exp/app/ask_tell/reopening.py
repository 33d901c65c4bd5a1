"""A study that is there, whether Python or a command began it, is gone on with in Python."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssr_exp.app import continuing
from ssr_exp.app.ask_tell import search_words
from ssr_exp.app.ask_tell.beginning import settings
from ssr_exp.config import ModelConf, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.report import search_results
from ssr_exp.rescaling import saved
from ssr_exp.runs import studies, study_names
from ssr_exp.runs.store import Store
from ssr_exp.training import answer_folder, loop_settings, loop_study
from ssr_exp.training.opened_study import OpenedStudy

log = logging.getLogger(__name__)


def reopened(
    name: str, root: Path, options: Mapping[str, Any], *, trust: bool
) -> tuple[OpenedStudy, SearchConfig]:
    """Open a study that is there, and make the configuration of a search of it.

    Raises:
        SsrError: if there is none, it is not trusted, its networks cannot be made, or the options
            would make it another one.
    """
    if decided := next(filter(continuing.is_decided, options), None):
        raise SsrError(
            f"options={{{decided!r}: ...}} goes with no Study.open: a study keeps the networks, "
            "the score and the training that it was begun with. Leave it out."
        )
    name, here = study_names.find(root, name), studies.read_all(root)
    if name not in here:
        raise SsrError(f"{root / name} holds no {studies.FILE}, so it cannot be gone on with.")
    about, folder = saved.read(root / name), root / name
    if not trust:
        saved.check_trust(folder, about, "pass trust=True if you trust where it comes from")
    given = {"paths.runs": str(root), **options}
    if isinstance(theirs := here[name].get(studies.SETTINGS), dict):
        usual = {
            "dataset.name": loop_study.DATASET,
            **loop_settings.lattice(theirs),
            **loop_settings.of_search(theirs),
            **search_words.of_loop(root, name, trust=trust),
            **_tested_seeds(Store(root), name),
            **loop_settings.seeds(root, name),
        }
        given = {"study": name, "trust": trust, **usual, **given}
        conf = settings(given, ModelConf(name="network"))
        return loop_study.reopen(conf), conf
    given = {**search_words.read(root, name, trust=trust), **_of_study(about), **given}
    return _of_command(name, root, here[name], about, given)


def _tested_seeds(store: Store, study: str) -> dict[str, int]:
    """Read with how many seeds a command tested finalists, if it has: what promises are of."""
    finals = search_results.read_finals(store, study)
    counts = Counter(r.network for r in finals if r.test_score is not None).values()
    return {"finalists.seeds": max(counts)} if counts else {}


def _of_study(about: saved.Description) -> dict[str, Any]:
    """Say how the network of a study is split, by the keys of `ssr search`."""
    return {
        "segment.kind": about.segment.kind,
        "segment.patterns": list(about.segment.patterns),
        "segment.depth": about.segment.depth,
        "segment.at_most": about.segment.at_most,
    }


def _of_command(
    name: str,
    root: Path,
    fields: Mapping[str, Any],
    about: saved.Description,
    options: Mapping[str, Any],
) -> tuple[OpenedStudy, SearchConfig]:
    """Open a study that a command began.

    Raises:
        SsrError: if it has no record yet, or its networks start from trained weights.
    """
    store, compared = Store(root), studies.compared(fields)
    records = store.records(name)
    if not records:
        raise SsrError(f"{root / name} holds no record yet: let the command train a network first.")
    if "init" in compared:
        raise SsrError(
            f"the networks of {name} start from a checkpoint: go on with the command that began it."
        )
    training = compared.get("training", {})
    given = {
        "modifiers.kind": "sentinel_all",
        "dataset.name": records[0].dataset,
        "trainer.max_epochs": training.get("epochs", records[0].epochs),
        "trainer.precision": training.get("precision", "32-true"),
        **_tested_seeds(store, name),
        **options,
    }
    conf = settings(given, about.model.conf())
    frozen = about.segment.model_copy(update={"frozen": tuple(conf.segment.frozen)})
    seed, plan = saved.seed_network(about.model_copy(update={"segment": frozen}))
    data = loop_study.data(records[0].dataset, plan, about, fields.get(studies.READING))
    opened = OpenedStudy(
        name,
        compared,
        data,
        seed,
        plan,
        score=records[0].scored_by,
        changed={k: v for k, v in fields.items() if k in studies.DESCRIPTIVE},
        scored=about.weights_of,
    )
    return opened, conf


def say_if_edited(opened: OpenedStudy, conf: SearchConfig, store: Store) -> None:
    """Warn where the code that makes the network is not what the study was begun with."""
    folder = store.study_folder(opened.name)
    if not (folder / saved.NETWORK).exists():
        return
    before, now = saved.read(folder), answer_folder.describe(opened, conf)
    if before.model.code != now.model.code:
        log.warning(
            "the code of %s was edited since the study %s was begun: if its networks compute "
            "something else now, their scores cannot be compared; give the study another name",
            now.model.name,
            opened.name,
        )
