"""A study whose networks are exported: two seeds of one, and an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssr_exp.rescaling import saved
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store
from tests.support.descriptions import description

CODE = "d1-1-1_w16-32-64"
FULL = "d3-3-3_w16-32-64"
STUDY = "resnet8-digits-0a1b2c3d"
ABOUT = description(classes=("a", "<b>|`c`"), std=(0.25,))
FIELDS = {"recipe": {"optimizer": "sgd", "lr": 0.1}, "dataset": {"name": "digits"}}


@pytest.fixture
def network() -> CifarResNet:
    torch.manual_seed(0)
    return CifarResNet(8, num_classes=2, in_channels=1)


@pytest.fixture
def runs(tmp_path: Path, make_record: Callable[..., Record], network: CifarResNet) -> Path:
    """A study with two seeds of a network, of which the first failed, and an answer."""
    store = Store(tmp_path / "runs")
    folder = store.study_folder(STUDY)
    store.write_text(folder / saved.NETWORK, ABOUT.model_dump_json())
    store.write_text(folder / "study.json", json.dumps(FIELDS))
    for seed, status in enumerate((Status.failed, Status.finished)):
        where = store.folder(STUDY, CODE, seed)
        fields = {"study": STUDY, "network": CODE, "seed": seed, "status": status}
        store.write(where, make_record(**fields, test_acc=None))
        state = {f"network.{name}": value for name, value in network.state_dict().items()}
        torch.save({"state_dict": state}, where / LAST_CHECKPOINT)
    saved.write(folder / "best", ABOUT, network.state_dict())
    store.write_text(
        folder / "best" / RECORD_FILE, make_record(study=f"{STUDY}f", network=CODE).to_json()
    )
    store.write_text(
        folder / "best" / "study.json", json.dumps({"dataset": {"train_on_val": True}})
    )
    row = {"role": "answer", "model": "resnet8", "network": CODE, "test_score_mean": 97.0}
    row |= {"test_score_std": 0.5, "seeds": [0, 1], "params": 9, "params_share": 0.5}
    told = {"measured_on": "test", "drop": 0.5, "results": [row]}
    store.write_text(folder / "best" / "metrics.json", json.dumps(told))
    return tmp_path / "runs"
