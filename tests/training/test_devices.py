"""One network on several devices: the same as on one, whatever becomes of a process."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import torch
from torch import Tensor

from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.runs import provenance
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, network_weights
from ssr_exp.training import devices, run
from ssr_exp.training.devices import Story
from ssr_exp.training.rank_messages import Inbox, Outbox, SentCurves
from tests.conftest import Command

Compose = Callable[..., Config]
Start = Callable[..., Popen[str]]
NET = """
import os, signal, time
import torch
import torch.distributed as dist
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, in_channels=3, dropout=0.0, fault=""):
        super().__init__()
        self.fault = fault
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU())
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        if self.training and dist.is_initialized():
            time.sleep(float(os.environ.get("SLOW", 0)))
            if dist.get_rank() == 1:
                x = self.fail(x)
        return self.fc(self.drop(self.body(x).mean((2, 3))))

    def fail(self, x):
        if self.fault == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return x * float("nan") if self.fault == "diverge" else x
"""
WORDS = (
    "model=module",
    "trainer.max_epochs=3",
    "recipe.batch_size=96",
    "recipe.lr=0.3",
    "recipe.ema_decay=0.9",
    "dataset.crop_padding=1",
    "dataset.flip=true",
    "dataset.cutout=2",
    "dataset.mixup=0.2",
)
TWO = "trainer.devices=2"


@pytest.fixture
def words(own: Callable[[str], str]) -> tuple[str, ...]:
    """Name a network without batch norm, which fails in one of several processes if it is told."""
    return (*WORDS, f"model.target={own(NET)}.Net")


def weights(conf: Config) -> dict[str, Tensor]:
    (folder,) = Path(conf.paths.runs).glob("*/*/seed0")
    return network_weights(folder / LAST_CHECKPOINT)


def is_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def workers() -> list[int]:
    """List the processes that train a network together with others."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ssr_exp.training.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def wait_for(holds: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_two_devices_train_as_one_does(
    conf: Compose, tmp_path: Path, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """An odd number of val images, and of test images, is shared unevenly."""
    more = ("trainer.test=true", "trainer.progress=true")
    two = conf(*words, *more, TWO, f"paths.runs={tmp_path}/two")
    one = conf(*words, *more, f"paths.runs={tmp_path}/one")
    with caplog.at_level(logging.INFO, "ssr_exp"):
        ours = run.train(two)
    assert [m.partition("  ")[0] for m in caplog.messages if m.startswith("epoch")] == [
        "epoch 1/3",
        "epoch 2/3",
        "epoch 3/3",
    ]
    theirs = run.train(one)
    assert ours.study == theirs.study
    assert ours.device.startswith("2 x ")
    assert ours.scores == pytest.approx(theirs.scores, abs=0.4)  # one image
    assert ours.test_score == pytest.approx(theirs.test_score, abs=0.4)
    assert ours.metrics == pytest.approx(theirs.metrics, rel=0.01)
    assert ours.val_loss == pytest.approx(theirs.val_loss, rel=1e-4)
    assert sum(map(sum, ours.tables["confusion"])) == 287
    for name, value in weights(one).items():
        assert torch.allclose(weights(two)[name], value, rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_a_process_that_fails_ends_its_run_and_no_other(
    command: Command, own: Callable[[str], str], tmp_path: Path
) -> None:
    target = own(NET)
    ended = command(
        *(*WORDS, f"model.target={target}.Net", TWO, "trainer.max_epochs=1"),
        "+model.arguments.fault=memory,kill,diverge,none",
    )
    records = [Store(tmp_path / "runs").read(p.parent) for p in tmp_path.rglob("record.json")]
    said = {str(record and (record.error or record.status.value)) for record in records}
    assert said == {
        "rank 1 of 2: out of memory: CUDA out of memory. Tried to allocate 2 GiB.; try a smaller "
        "recipe.batch_size.",
        "rank 1 of 2 was killed (SIGKILL, as by a machine that is out of memory)",
        "the training diverged: loss or outputs are not finite in epoch 1, by step 11",
        "finished",
    }
    assert ended.code != 0
    assert not workers()


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_a_training_that_is_stopped_or_killed_leaves_no_process_and_goes_on(
    conf: Compose,
    tmp_path: Path,
    words: tuple[str, ...],
    started: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each process goes on with its own numbers for dropout: the result is the same bit for bit."""
    words = (*words, TWO, "+model.arguments.dropout=0.5")
    monkeypatch.setenv("SLOW", "0.08")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/own:{Path(run.__file__).parents[2]}")
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = started(*words)
        written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob(LAST_CHECKPOINT)}
        wait_for(
            lambda: any(
                p.stat().st_mtime_ns != written.get(p) for p in tmp_path.rglob(LAST_CHECKPOINT)
            )
        )
        process.send_signal(number)
        assert process.wait(timeout=20) == code
        wait_for(lambda: not workers(), 5)
    monkeypatch.delenv("SLOW")
    broken, whole = conf(*words), conf(*words, f"paths.runs={tmp_path}/whole")
    ended, undisturbed = run.train(broken), run.train(whole)
    assert len(ended.scores) == 3
    assert (ended.scores, ended.val_loss) == (undisturbed.scores, undisturbed.val_loss)
    assert is_equal(weights(broken), weights(whole))
