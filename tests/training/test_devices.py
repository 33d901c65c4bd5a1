"""One network on several devices: the same as on one, whatever becomes of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssr_exp.config import Config
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, network_weights
from ssr_exp.training import run
from ssr_exp.training.run import RunFailed

Compose = Callable[..., Config]
ONE_BY_ONE = """
import os
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU())
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
WORDS = (
    "model=module",
    "trainer.max_epochs=3",
    "trainer.test=true",
    "recipe.batch_size=96",
    "recipe.ema_decay=0.9",
    "dataset.crop_padding=1",
    "dataset.flip=true",
    "dataset.cutout=2",
    "dataset.mixup=0.2",
)
TWO = ("trainer.devices=2",)


@pytest.fixture
def words(own: Callable[[str], str]) -> tuple[str, ...]:
    return (*WORDS, f"model.target={own(ONE_BY_ONE)}.Net")


def weights(conf: Config) -> dict[str, Tensor]:
    (folder,) = Path(conf.paths.runs).glob("*/*/seed0")
    return network_weights(folder / LAST_CHECKPOINT)


def ranks(parent: int) -> dict[str, int]:
    """List the processes that one has started to train, by their ranks."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "ssr_exp.training.worker" in command and str(parent) in command:
            found[command[command.index(str(parent)) + 1]] = int(folder.name)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_two_devices_train_as_one_does(
    conf: Compose, tmp_path: Path, words: tuple[str, ...]
) -> None:
    two, one = (
        conf(*words, *more, f"paths.runs={tmp_path}/{len(more)}") for more in (TWO, ())
    )
    ours, theirs = run.train(two), run.train(one)
    assert ours.study == theirs.study
    print(ours, theirs)
    assert ours.scores == pytest.approx(theirs.scores, abs=0.4)
    assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-3, abs=1e-4)
    for name, value in weights(one).items():
        assert torch.allclose(weights(two)[name], value, rtol=1e-3, atol=1e-5), name
