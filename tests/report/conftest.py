"""A store of records that pages are made from, and predictions beside them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import predicted
import pytest

from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Fractions, Record
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, RECORD_FILE, Store

MakeRecord = Callable[..., Record]
Put = Callable[..., Record]
STUDY = "resnet20-digits-0a1b2c3d"
FULL = {
    "network": "d3-3-3_w16-32-64",
    "modifiers": Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0)),
    "blocks": (3, 3, 3),
    "params": 269_434,
    "macs": 2_500_000,
    "gemms": 20,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def put(store: Store, make_record: MakeRecord) -> Put:
    """Write a record where its run would: `put(seed=1, val_acc=90.0)`."""

    def write(**fields: object) -> Record:
        record = make_record(**fields)
        store.write(store.folder(record.study, record.network, record.seed), record)
        return record

    return write


def made(study: str = STUDY, *, points: int = 3, runs: int = 4, **fields: Any) -> Predictions:
    """Make predictions of some points of a lattice."""
    numbers = range(1, points + 1)
    columns = {
        "size": 10**6,
        "network": tuple(f"d1-1-1_w{n}-8-8" for n in numbers),
        "params": tuple(10 * n for n in numbers),
        "macs": tuple(100 * n for n in numbers),
        "gemms": tuple(numbers),
        "mean": tuple(90 - n / points for n in numbers),  # the first one is the front
        "low": tuple(89 - n / points for n in numbers),
        "high": tuple(91 - n / points for n in numbers),
    }
    modifiers = itertools.product(("stage1", "stage2", "stage3"), ("depth", "width"))
    usual: dict[str, Any] = {
        "study": study,
        "search": "",
        "rounds": (),
        "left_out": (),
        "sensitivities": [{"segment": s, "kind": kind, "effect": 1.0} for s, kind in modifiers],
        "lattice": predicted.lattice(**columns),
    }
    return predicted.predictions(predicted.look(0, runs), **(usual | fields))


@pytest.fixture
def predict(store: Store) -> Callable[..., Predictions]:
    """Write predictions of a study: `predict(points=10)`."""

    def write(study: str = STUDY, **fields: Any) -> Predictions:
        found = made(study, **fields)
        predictions.write(store, store.study_folder(study) / predictions.FOLDER, found)
        return found

    return write


@pytest.fixture
def answer(store: Store) -> Callable[..., None]:
    """Write what a search hands over: the answer's record, and the last comparison."""

    def write(record: Record, study: str = STUDY, **fields: Any) -> None:
        best = store.study_folder(study) / BEST_FOLDER
        best.mkdir(parents=True, exist_ok=True)
        (best / RECORD_FILE).write_text(record.to_json())
        row = {
            "role": "answer",
            "model": record.model,
            "network": record.network,
            "params": record.params,
            "params_share": 0.5,
            "test_score_mean": 97.0,
            "test_score_std": None,
            "seeds": [0],
        }
        told = {"accuracy": "test", "drop": 0.5, "results": [row]} | fields
        (best / METRICS_FILE).write_text(json.dumps(told))

    return write
