"""One network on several devices: the same as on one, whatever becomes of a process."""

from __future__ import annotations

import errno
import json
import logging
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SubsetRandomSampler

from ssr_exp.config import Config
from ssr_exp.datasets import user_data
from ssr_exp.errors import SsrError
from ssr_exp.runs import provenance
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, network_weights
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.training import devices, run, worker
from ssr_exp.training.devices import RankExit, RankFailed
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
            nn.Conv2d(in_channels, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU())
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(32, num_classes)

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
        return x
"""
LIT = """
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))

    def training_step(self, batch, index):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train/loss", loss)
        self.logger.experiment.add_scalar("loss", loss, index)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val/share", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
"""
DATA = """
import json, os
from pathlib import Path
import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

class Numbered(Dataset):
    def __init__(self, seen=None):
        self.seen = seen

    def __len__(self):
        return 47

    def __getitem__(self, n):
        if self.seen is not None:
            self.seen.append(n)
        return torch.full((1, 8, 8), n / 47), n % 3

class Data(L.LightningDataModule):
    num_classes = 3

    def __init__(self, folder):
        super().__init__()
        self.folder, self.seen = folder, []

    def train_dataloader(self):
        return DataLoader(Numbered(self.seen), 8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(Numbered(), 8)

    def teardown(self, stage):
        if stage == "fit" and "LOCAL_RANK" in os.environ:
            Path(self.folder, os.environ["LOCAL_RANK"] + ".json").write_text(json.dumps(self.seen))
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


def workers(own: Path) -> list[int]:
    """List the processes that train a network together with others, with modules of a folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_one = b"ssr_exp.training.worker" in (folder / "cmdline").read_bytes()
            if is_one and str(own).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def written(folder: Path) -> list[int]:
    """Say when checkpoints were written."""
    return [path.stat().st_mtime_ns for path in folder.rglob(LAST_CHECKPOINT)]


def wait_for(holds: Callable[[], object], seconds: float = 240) -> None:
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
        "+model.arguments.fault=memory,kill",
    )
    records = [Store(tmp_path / "runs").read(p.parent) for p in tmp_path.rglob("record.json")]
    said = {str(record and (record.error or record.status.value)) for record in records}
    assert said == {
        "rank 1 of 2: out of memory: CUDA out of memory. Tried to allocate 2 GiB.; try smaller "
        "batches (recipe.batch_size, or your DataModule's).",
        "rank 1 of 2 was killed (SIGKILL, as by a machine that is out of memory)",
    }
    assert ended.code != 0
    assert not workers(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.more)],
)
@pytest.mark.usefixtures("repeatable")
def test_a_training_that_is_stopped_or_killed_leaves_no_process_and_goes_on(
    number: signal.Signals,
    code: int,
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
    process = started(*words)
    wait_for(lambda: written(tmp_path))
    assert len(workers(tmp_path)) == 2
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    wait_for(lambda: not workers(tmp_path), 20)
    monkeypatch.delenv("SLOW")
    broken, whole = conf(*words), conf(*words, f"paths.runs={tmp_path}/whole")
    ended, undisturbed = run.train(broken), run.train(whole)
    assert len(ended.scores) == 3
    assert (ended.scores, ended.val_loss) == (undisturbed.scores, undisturbed.val_loss)
    assert is_equal(weights(broken), weights(whole))


@pytest.mark.slow
@pytest.mark.more
@pytest.mark.usefixtures("repeatable")
def test_a_search_on_two_devices_goes_on_with_networks_of_one(
    command: Command, own: Callable[[str], str], tmp_path: Path
) -> None:
    words = (*WORDS, f"model.target={own(NET)}.Net", "trainer.max_epochs=1")
    first = command(*words, "modifiers=sentinel_all")
    ended = command(*words, TWO, "rounds=1", "batch=1", "finalists.seeds=0", script="search.py")
    records = Store(tmp_path / "runs").records()
    assert (first.code, ended.code) == (0, 0), ended.text
    assert {record.status for record in records} == {Status.finished}
    assert sorted(record.device.startswith("2 x ") for record in records) == [False] * 4 + [True]


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_a_module_of_the_users_own_sees_all_of_val_on_each_device(
    conf: Compose, own: Callable[[str], str]
) -> None:
    """Its own mean of batches stays what it is on one device."""
    words = ("task=module", f"task.target={own(LIT)}.Lit", "task.network=net", "recipe.lr=1")
    words += ("task.score.key=val/share", "task.score.direction=max", "recipe.batch_size=96")
    two, one = run.train(conf(*words, TWO)), run.train(conf(*words))
    assert two.score == pytest.approx(one.score, abs=0.01)
    assert two.study != one.study  # its loss may be of a batch as a whole


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_data_of_the_users_own_is_shared_out_for_training_alone(
    conf: Compose, own: Callable[[str], str], tmp_path: Path
) -> None:
    """What each process has seen, in an epoch of a loader whose length is no multiple of two."""
    words = ("dataset=module", f"dataset.target={own(DATA)}.Data", "task.balance=none")
    record = run.train(conf(*words, f"dataset.arguments={{folder:{tmp_path}}}", TWO))
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(part) for part in seen] == [24, 24]
    assert set(seen[0] + seen[1]) == set(range(47))  # one is repeated
    assert sum(map(sum, record.tables["confusion"])) == 47


# Without any process


class Numbers(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_loaders_that_cannot_be_shared_out_are_refused() -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> DataLoader[int]:
            return DataLoader(Numbers())

        def val_dataloader(self) -> list[DataLoader[int]]:
            return [DataLoader(Numbers(), batch_size=2)]

    data = Data()
    user_data.share_out(data)
    (whole,) = CombinedLoader(data.val_dataloader(), "sequential").flattened
    combined = CombinedLoader({"a": DataLoader(Numbers())}, "sequential")
    assert isinstance(user_data._whole(combined).flattened[0], user_data.Whole)
    assert not isinstance(whole, DataLoader)  # so Lightning leaves it as it is
    assert ([b.tolist() for b in whole], whole.batch_size) == ([[0, 1], [2]], 2)
    with pytest.raises(SsrError, match=r"train_dataloader of Data gives a .*DataLoader"):
        data.train_dataloader()


def test_a_sampler_that_devices_may_draw_from_differently_is_refused() -> None:
    drawn = SubsetRandomSampler(range(8))
    for loader in (
        DataLoader(range(8), sampler=drawn),  # type: ignore[arg-type]
        DataLoader(range(8), batch_sampler=BatchSampler(drawn, 2, False)),  # type: ignore[arg-type]
    ):
        with pytest.raises(SsrError, match="SubsetRandomSampler, which need not draw the same"):
            user_data._shareable("Data", loader)
    for shared in (DataLoader(range(8), shuffle=True), DataLoader(range(8))):  # type: ignore[arg-type]
        assert user_data._shareable("Data", {"a": shared}) == {"a": shared}


def test_keys_that_are_no_text_are_refused() -> None:
    devices._check_keys({"a": [{"b": 1}]})
    with pytest.raises(SsrError, match=r"the key 0 of a mapping in task\.arguments"):
        devices._check_keys({"task": {"arguments": {"weights": {0: 1.0}}}})


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.devices=3", "type recipe.batch_size=126 or 129, or fewer devices"),
        ("trainer.devices=9999", "type fewer devices"),
        ("task.name=loop", "your function trains the networks"),
    ],
)
def test_what_several_devices_cannot_do_is_refused(conf: Compose, word: str, said: str) -> None:
    with pytest.raises(SsrError, match=said):
        run.plan(conf(TWO, word))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trainer.devices=4",), r"may use 3 cores: type trainer\.devices=3"),
        (("trainer.accelerator=mps",), "mps is one device"),
        (("trainer.sync_batch_norm=true",), r"for GPUs.*type trainer\.sync_batch_norm=false"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    conf: Compose, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(devices, "_cores", lambda: 3)
    devices.check(conf("trainer.devices=3"))
    with pytest.raises(SsrError, match=said):
        devices.check(conf(*({TWO} - set(words)), *words))


def test_gpus_that_are_missing_or_not_alike_are_refused(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n=0: "A" if n < 2 else "B")
    asked = "trainer.accelerator=gpu"
    devices.check(conf(asked, TWO))
    assert provenance.device("gpu", 2) == "2 x A"
    with pytest.raises(SsrError, match=r"sees 4 GPUs: type trainer\.devices=4"):
        devices.check(conf(asked, "trainer.devices=8"))
    with pytest.raises(SsrError, match=r"not alike \(A, B\)"):
        devices.check(conf(asked, "trainer.devices=3"))


def test_tasks_of_a_slurm_step_are_refused(conf: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    devices.check(conf())
    with pytest.raises(SsrError, match=r"one of 4 tasks of a Slurm step.*type --ntasks=1"):
        devices.check(conf(TWO))


def test_processes_hear_nothing_of_other_ranks() -> None:
    foreign = "RANK WORLD_SIZE MASTER_PORT SLURM_PROCID TORCHELASTIC_RUN_ID PL_GLOBAL_SEED"
    given = dict.fromkeys(foreign.split(), "1") | {"CUDA_VISIBLE_DEVICES": "2,3", "HOME": "/"}
    clean = devices.clean_environment(given, 2)
    assert not set(foreign.split()) & set(clean)
    assert (clean["CUDA_VISIBLE_DEVICES"], clean["HOME"]) == ("2,3", "/")


def test_the_cause_is_who_was_killed_and_else_who_failed_first() -> None:
    first, second, aborted = (
        RankExit(0, 1, {"at": 2.0}),
        RankExit(1, 1, {"at": 1.0}),
        RankExit(2, -signal.SIGABRT, {}),
    )
    killed = RankExit(3, -signal.SIGKILL, {})
    assert min([first, second, aborted], key=lambda s: s.order) == second
    assert min([first, killed, aborted], key=lambda s: s.order) == killed


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Diverged("it diverged"), Diverged, "it diverged"),
        (SsrError("type x=1."), SsrError, "type x=1."),
        (ValueError("no\nlines"), RankFailed, "rank 1 of 2: ValueError: no"),
        (OSError(errno.ENOSPC, "full"), OSError, "[Errno 28] full"),
        (OSError(errno.ENOSPC, "full", "/tmp/x"), OSError, "[Errno 28] full: '/tmp/x'"),
        (RuntimeError("set find_unused_parameters=True"), SsrError, "type trainer.strategy=ddp_"),
        (KeyboardInterrupt(), RankFailed, "rank 1 of 2: KeyboardInterrupt"),
        (SystemExit("no labels"), RankFailed, "ended the process (SystemExit: no labels)"),
        (None, RankFailed, "rank 1 of 2 ended with exit code 3 (ImportError: torch)"),
    ],
)
def test_the_error_of_a_process_is_that_of_its_training(
    tmp_path: Path, error: BaseException | None, kind: type[Exception], said: str
) -> None:
    (tmp_path / "output-1.txt").write_text("Traceback\nImportError: torch\n")
    if error is not None:
        devices.failure(tmp_path, 1).write_bytes(worker._failure(error))
    with pytest.raises(kind, match=re.escape(said)) as caught:
        devices._raise(tmp_path, [0, 3])
    assert caught.type is kind


def test_a_full_disk_of_a_process_keeps_its_traceback(tmp_path: Path) -> None:
    def fills() -> None:
        raise OSError(errno.ENOSPC, "full", "/elsewhere/x")

    try:
        fills()
    except OSError as error:
        devices.failure(tmp_path, 0).write_bytes(worker._failure(error))
    with pytest.raises(OSError, match="full") as caught:
        devices._raise(tmp_path, [1, None])
    assert "in fills" in str(caught.value.__cause__)


def test_whole_messages_are_passed_on_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn: list[Any] = []

    class Curves:
        def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
            drawn.append((metrics, step))

    inbox = Inbox([tmp_path / "messages", tmp_path / "other"], Curves())
    inbox.pass_on()
    outbox = Outbox(tmp_path / "messages")
    outbox.emit(logging.LogRecord("ssr_exp.x", logging.INFO, "", 0, "100%% of %s", ("it",), None))
    SentCurves(outbox).log_metrics({"val/acc": 2.0}, 3)
    other = Outbox(tmp_path / "other")
    for box in (other, outbox, outbox):
        box.emit(logging.LogRecord("ssr_exp.x", logging.WARNING, "", 0, "beware", (), None))
        box.flush()
    other.close()
    outbox.close()
    with (tmp_path / "messages").open("a") as cut:
        cut.write('{"log": ["ssr_exp.x", 20, "cut')
    with caplog.at_level(logging.INFO, "ssr_exp"):
        inbox.pass_on()
        inbox.pass_on()
    assert caplog.messages == ["100% of it", "beware", "beware"]  # the other's is known
    assert drawn == [({"val/acc": 2.0}, 3)]


def test_devices_join_a_study_where_they_decide_its_results(conf: Compose) -> None:
    """And older studies, of one device, keep their names."""
    batch = "recipe.batch_size=64"

    def name(*words: str) -> str:
        return run.plan(conf(batch, *words))[0].study.name

    assert name(TWO, "trainer.sync_batch_norm=true") == name() == name("trainer.devices=1")
    assert len({name(), name(TWO), name("trainer.devices=4")}) == 3
    assert name(TWO, "task.balance=weights") != name("task.balance=weights")
    both = ("task.balance=weights", "trainer.sync_batch_norm=true")
    assert len({name(*both), name(TWO, *both), name(TWO, both[0])}) == 3
