"""A search's last comparison, and the studies that its finalists were trained in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from ssr_exp.runs.record import Record
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, RECORD_FILE, Store

log = logging.getLogger(__name__)


class AnswerRow(BaseModel):
    """A row of the last comparison, as `best/metrics.json` holds it; accuracies in percent."""

    model_config = ConfigDict(allow_inf_nan=False)

    role: str
    model: str
    network: str
    params: int
    params_share: float
    test_acc_mean: float
    test_acc_std: float | None
    seeds: list[int]


class Answer(BaseModel):
    """The last comparison; `drop` is in points, `accuracy` says on which images."""

    model_config = ConfigDict(allow_inf_nan=False)

    accuracy: str
    drop: float
    results: list[AnswerRow] = []


def answer(store: Store, study: str) -> Answer | None:
    """Read the last comparison of a study's search, as data; None if none can be used."""
    path = store.study_folder(study) / BEST_FOLDER / METRICS_FILE
    try:
        return Answer.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("skipped %s: %s", path, str(error).partition("\n")[0])
        return None


def studies(store: Store, records: Mapping[str, Sequence[Record]]) -> dict[str, tuple[str, ...]]:
    """Name for each study with an answer the others that its finalists were trained in.

    Finalists have learned from val, so their studies hold no accuracy on it. One is the answer's
    own, others are of seed networks that it was compared with.

    Args:
        store: of the records.
        records: of each study.
    """
    finals = [name for name, own in records.items() if _is_final(own)]
    return {
        name: tuple(final for final in finals if _belongs(store, name, own, records[final]))
        for name, own in records.items()
        if finals and name not in finals
    }


def _is_final(records: Sequence[Record]) -> bool:
    tested = any(record.test_acc is not None for record in records)
    return tested and all(record.val_acc is None for record in records)


def _belongs(store: Store, study: str, own: Sequence[Record], final: Sequence[Record]) -> bool:
    """Say whether finalists of a study are what its answer was compared with."""
    folder = store.study_folder(study) / BEST_FOLDER
    best = store.read(folder) if (folder / RECORD_FILE).exists() else None
    if best is None:
        return False
    if best.study == final[0].study:
        return True
    compared = {(r.model, r.network) for r in getattr(answer(store, study), "results", [])}
    is_another = final[0].model != own[0].model and final[0].dataset == own[0].dataset
    return is_another and any((r.model, r.network) in compared for r in final)
