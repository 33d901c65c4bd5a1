from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from ssr_exp import files
from ssr_exp.config import Config
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.runs import store
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import BEST_CHECKPOINT, LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.supervised import Tally
from ssr_exp.training import opened_study, run
from ssr_exp.training.run import RunFailed

Compose = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("repeatable")

SMALLER = ("modifiers=explicit", "modifiers.network=d1-1-1_w4-16-16")


def folder(conf: Config) -> Path:
    (job,) = run.plan(conf)
    return run.folder(store.Store(conf.paths.runs), job)


def stored(conf: Config) -> Record | None:
    return store.Store(conf.paths.runs).read(folder(conf))


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def step(*_: object) -> NoReturn:
        raise error

    return step


def weights(conf: Config, name: str = LAST_CHECKPOINT) -> dict[str, Tensor]:
    return network_weights(folder(conf) / name)


def measure(conf: Config, state: dict[str, Tensor], part: str = "val") -> float:
    """Build the network that the record names, load it strictly, and measure a part in percent."""
    (job,) = run.plan(conf)
    one = stored(conf)
    assert one is not None
    opened = job.study
    architecture = codes.parse(opened.plan, one.network)
    modifiers = Modifiers(one.modifiers.depth, one.modifiers.width)
    assert opened.plan.effective(modifiers) == architecture
    network = rescale.build(opened.seed_network, opened.plan, architecture)
    rescale.load(network, state, source="a checkpoint")
    module = TensorDataModule(opened.splits, batch_size=64)
    batches = module.val_dataloader() if part == "val" else module.test_dataloader()
    correct = sum(int((network.eval()(x).argmax(1) == y).sum()) for x, y in batches)
    return 100 * correct / len(getattr(opened.splits, part))


# A finished run


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Hold the runs that `trained` copies, once the first test has trained them."""
    return []


@pytest.fixture
def trained(
    conf: Compose, trained_once: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Config:
    """Say what was asked of a small run, below this test's own folder, that is trained by now."""
    asked = conf()
    if not trained_once:
        run.train(asked)
        trained_once.append(
            shutil.copytree(asked.paths.runs, tmp_path_factory.mktemp("trained") / "runs")
        )
    else:
        shutil.copytree(trained_once[0], asked.paths.runs)
    return asked


@torch.no_grad()
def test_a_finished_run_leaves_a_record_and_checkpoints_that_give_its_numbers(
    conf: Compose,
) -> None:
    asked = conf(*SMALLER, "trainer.max_epochs=2", "trainer.test=true", "recipe.lr=0.05")
    one = run.train(asked)
    assert one == stored(asked)
    assert one.status is Status.finished and one.error is None
    numbers = [one.val_acc, one.val_loss, one.best_val_acc, one.test_acc, one.test_loss, one.wall_s]
    assert all(number is not None and math.isfinite(number) for number in numbers)
    assert (one.network, one.blocks, one.widths) == ("d1-1-1_w4-16-16", (1, 1, 1), (4, 16, 16))
    assert (one.model, one.dataset, one.seed, one.epochs) == ("resnet8", "digits", 0, 2)
    assert one.params < one.baseline_params and one.macs < one.baseline_macs
    assert one.params == sum(t.numel() for t in trainable(weights(asked)))
    assert measure(asked, weights(asked)) == pytest.approx(one.val_acc)
    assert measure(asked, weights(asked, BEST_CHECKPOINT)) == pytest.approx(one.best_val_acc)


def trainable(state: dict[str, Tensor]) -> list[Tensor]:
    return [t for name, t in state.items() if "running" not in name and "num_batches" not in name]


def test_a_run_leaves_its_configuration_and_its_studys_beside_the_record(trained: Config) -> None:
    where = folder(trained)
    assert json.loads((where / "config.json").read_text())["model"]["name"] == "resnet8"
    assert json.loads((where.parents[1] / "study.json").read_text())["recipe"]["lr"] == 0.1
    names = {path.name for path in where.iterdir()}
    assert names == {"record.json", "config.json", "last.ckpt", "best.ckpt", ".lock"}
    assert not list(Path(trained.paths.runs).rglob("wandb"))


REASONS = {
    "modifiers=explicit modifiers.network=d1-1-1_w4-16-16": ("explicit", "other"),
    "modifiers=explicit modifiers.network=d1-1-1_w4-4-4 origin=round3": ("round3", "proposed"),
    "modifiers=baseline origin=finalist": ("finalist", "finalist"),
    "modifiers=baseline seed=1": ("baseline", "baseline"),
    "modifiers=baseline seed=2 origin=sentinel_all": ("sentinel_all", "baseline"),
}


def test_a_record_says_why_its_network_was_trained(conf: Compose, instant: Any) -> None:
    for words, (origin, kind) in REASONS.items():
        asked = conf(*words.split())
        one = run.train(asked)
        assert one == stored(asked)
        assert (one.origin, one.kind.value) == (origin, kind)
    asked.origin = "later"
    assert run.train(asked) == one


def test_what_a_run_froze_is_no_part_of_its_studys_network(conf: Compose, instant: Any) -> None:
    """Else codes of the study's other networks could not be read."""
    run.train(conf(*SMALLER))
    frozen = conf("segment.frozen=[stage1]")
    run.train(frozen)
    about = json.loads((folder(frozen).parents[1] / "network.json").read_text())
    assert about["segment"]["frozen"] == []
    assert folder(frozen).parents[1] == folder(conf(*SMALLER)).parents[1]


def test_a_repeated_run_is_skipped(trained: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> dict[str, int]:
        paths = folder(trained).iterdir()
        return {path.name: os.stat(path).st_mtime_ns for path in paths if path.name != ".lock"}

    one, before = stored(trained), written()
    monkeypatch.setattr(run.fit, "train", raising(AssertionError("it trained again")))
    assert run.train(trained) == one
    assert written() == before


def test_the_same_seed_repeats_a_run_bit_for_bit_and_another_does_not(
    conf: Compose, tmp_path: Path
) -> None:
    augmented = ("dataset.crop_padding=1", "dataset.cutout=2")
    first, again = (conf(*augmented, f"paths.runs={tmp_path / name}") for name in "ab")
    other = conf(*augmented, "seed=1")
    records = []
    for asked in (first, again, other):
        torch.rand(len(records) + 1)  # the generator's state before a run changes nothing
        records.append(run.train(asked))
    assert records[0].val_acc == records[1].val_acc
    assert records[0].val_loss == records[1].val_loss != records[2].val_loss
    assert records[0].study == records[2].study
    same, other_weights = weights(again), weights(other)
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, same[name])
    assert not torch.equal(weights(first)["fc.weight"], other_weights["fc.weight"])


# The test set


def test_the_test_set_is_not_touched_unless_asked_for(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorDataModule, "test_dataloader", raising(AssertionError("peeked")))
    one = run.train(conf())
    assert one.test_acc is None and one.test_loss is None
    with pytest.raises(RunFailed, match="peeked"):
        run.train(conf("seed=1", "trainer.test=true"))


@pytest.mark.parametrize("error", [SystemExit(0), ValueError("no test data")])
def test_a_finished_run_whose_test_fails_says_so_and_stays(
    conf: Compose, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    one = run.train(conf(*SMALLER))
    monkeypatch.setattr(TensorDataModule, "test_dataloader", raising(error))
    with pytest.raises(RunFailed, match="was not tested: "):
        run.train(asked := conf(*SMALLER, "trainer.test=true"))
    assert stored(asked) == one
    (job,) = run.plan(asked)
    told = (run.folder(store.Store(asked.paths.runs), job) / run.TRACEBACK).read_text()
    assert type(error).__name__ in told


def test_a_finished_run_that_is_tested_as_a_finalist_is_one(conf: Compose) -> None:
    one = run.train(conf(*SMALLER, "origin=round1"))
    words = (*SMALLER, "trainer.test=true")
    assert run.train(conf(*words, "origin=finalist")).origin == "finalist"
    assert run.train(conf(*words)).score == one.score  # the same run
    two = run.train(conf(*SMALLER, "origin=round1", "seed=1"))
    assert run.train(conf(*words, "seed=1")).origin == two.origin == "round1"


# Learning from val, too

FINAL = ("dataset.train_on_val=true", "trainer.test=true")


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Keep the batches that trainings learn from."""
    batches: list[Tensor] = []
    step = Classification.training_step

    def keep(self: Classification, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        batches.append(batch[0])
        return step(self, batch, index)

    monkeypatch.setattr(Classification, "training_step", keep)
    return batches


def pixels(x: Tensor, splits: Splits) -> list[bytes]:
    """Undo the normalisation of a batch of one channel."""
    x = (x * splits.std[0] + splits.mean[0]) * 255
    return sorted(image.numpy().tobytes() for image in x.round().to(torch.uint8))


def test_train_on_val_learns_from_exactly_the_train_and_val_images(
    conf: Compose, learnt: list[Tensor]
) -> None:
    asked = conf(*SMALLER, *FINAL, "recipe.batch_size=5000")  # an epoch is one batch
    run.train(asked)
    usual = opened_study.open(conf()).splits
    (x,) = learnt
    expected = [i.numpy().tobytes() for part in (usual.train, usual.val) for i in part.pixels]
    assert pixels(x, opened_study.open(asked).splits) == sorted(expected)


@torch.no_grad()
def test_train_on_val_measures_the_test_set_and_nothing_on_val(
    conf: Compose,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Classification, "validation_step", raising(AssertionError("peeked")))
    asked = conf(
        *SMALLER, *FINAL, "recipe.ema_decay=0.5", "trainer.max_epochs=2", "trainer.progress=true"
    )
    one = run.train(asked)
    assert one == stored(asked)
    assert one.status is Status.finished
    assert (one.val_acc, one.val_loss, one.best_val_acc) == (None, None, None)
    assert one.test_acc is not None and one.test_loss is not None
    assert measure(asked, weights(asked), part="test") == pytest.approx(one.test_acc)
    names = {path.name for path in folder(asked).iterdir()}
    assert names == {"record.json", "config.json", "last.ckpt", ".lock"}
    assert f"seed 0: test {one.test_acc:.2f} % in " in caplog.text
    assert "val" not in caplog.text
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert len(lines) == 2 and all("train loss" in line for line in lines)


def test_a_usual_run_says_what_val_measured_and_test_if_it_was_looked_at(
    conf: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = run.train(conf(*SMALLER, "trainer.progress=true"))
    two = run.train(conf(*SMALLER, "trainer.test=true", "seed=1"))
    assert f"seed 0: val {one.val_acc:.2f} % in " in caplog.text
    assert f"seed 1: val {two.val_acc:.2f} %, test {two.test_acc:.2f} % in " in caplog.text
    assert f"  val loss {one.val_loss:.4f} acc {one.val_acc:.2f}  lr" in caplog.text


# Runs that do not finish


def test_a_diverged_run_is_recorded_as_such_and_not_repeated(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = conf("recipe.lr=1e6", "trainer.max_epochs=3")
    one = run.train(asked)
    assert one == stored(asked)
    assert one.status is Status.diverged
    assert one.val_acc is None
    assert one.error is not None and "diverged" in one.error
    monkeypatch.setattr(run.fit, "train", raising(AssertionError("it trained again")))
    assert run.train(asked) == one


def test_a_mean_that_is_not_finite_is_a_divergence(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, value in enumerate((math.nan, math.inf)):
        monkeypatch.setattr(Tally, "loss", lambda _, held=value: held)
        asked = conf(f"seed={seed}")
        assert run.train(asked).status is Status.diverged
        assert stored(asked) is not None


def test_an_error_is_recorded_raised_and_tried_again(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = conf()
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "training_step", raising(ValueError("a bad\nday")))
        with pytest.raises(RunFailed, match=r"^resnet8 \S+ seed 0: ValueError: a bad$"):
            run.train(asked)
    failed = stored(asked)
    assert failed is not None
    assert (failed.status, failed.error) == (Status.failed, "ValueError: a bad")
    assert failed.val_acc is None
    assert "training_step" in (folder(asked) / "traceback.txt").read_text()
    assert run.train(asked).status is Status.finished
    assert stored(asked) != failed


MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    MemoryError(),
]


def test_a_lack_of_memory_is_named_and_a_remedy_with_it(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in MEMORY:
        monkeypatch.setattr(run.fit, "train", raising(error))
        asked = conf()
        with pytest.raises(RunFailed, match=r"out of memory.*recipe\.batch_size"):
            run.train(asked)
        one = stored(asked)
        assert one is not None and one.error is not None
        assert one.status is Status.failed
        assert one.error.startswith(f"out of memory: {str(error) or 'MemoryError'}; ")
        assert "recipe.batch_size" in one.error


def test_an_interrupt_leaves_no_record_and_no_claim(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = conf()
    handler = signal.getsignal(signal.SIGINT)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Classification, "training_step", raising(KeyboardInterrupt()))
            with pytest.raises((KeyboardInterrupt, SystemExit)):
                run.train(asked)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stored(asked) is None
    assert run.train(asked).status is Status.finished


def test_a_record_that_cannot_be_written_ends_in_a_sentence(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: store.Store, where: Path, record: Record) -> NoReturn:
        raise SsrError("the disk is full")

    asked = conf()
    monkeypatch.setattr(run.fit, "train", lambda *_: {"val_acc": 10.0})
    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "write", write)
        with pytest.raises(SsrError, match="the disk is full"):
            run.train(asked)
    assert stored(asked) is None
    assert run.train(asked).status is Status.finished


@pytest.mark.parametrize(
    ("place", "free", "stops"),
    [
        (None, 0, True),
        (None, 2**30, False),
        ("x", 0, True),
        ("../x", 0, True),
        ("/other/x", 0, False),
    ],
)
def test_a_full_disk_is_the_stores_unless_it_is_another_one(
    conf: Compose, monkeypatch: pytest.MonkeyPatch, place: str | None, free: int, stops: bool
) -> None:
    asked = conf()
    named = None if place is None else str(Path(asked.paths.runs) / place)
    other = Path("/other")
    monkeypatch.setattr(files, "disk_of", lambda path: int(path.is_relative_to(other)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), named)
    monkeypatch.setattr(run.fit, "train", raising(full))
    if stops:
        with pytest.raises(SsrError, match=r"cannot write to .*seed0: the disk is full"):
            run.train(asked)
        assert stored(asked) is None
        return
    said = f"No space left on device: '{named}'" if named else "No space left on device"
    with pytest.raises(RunFailed, match=re.escape(said)):
        run.train(asked)
    one = stored(asked)
    assert one is not None and one.status is Status.failed


@pytest.mark.parametrize("code", [0, None, -1, 1, "no labels in data: run prepare.py first"])
def test_code_that_ends_the_process_is_a_failure(
    conf: Compose, monkeypatch: pytest.MonkeyPatch, code: int | str | None
) -> None:
    asked = conf()
    monkeypatch.setattr(run.fit, "train", raising(SystemExit(code)))
    with pytest.raises(RunFailed):
        run.train(asked)
    one = stored(asked)
    assert one is not None and one.status is Status.failed
    assert f"code that it calls ended the process (SystemExit: {code}): let it" in str(one.error)
    assert f"SystemExit: {code}" in (folder(asked) / "traceback.txt").read_text()


class Handlers:
    """Exit as handlers of Slurm's and Ray's jobs do: the one of a time limit, after queueing."""

    def of_time_limit(self, *_: Any) -> None:
        self._exit(-1)

    def of_end(self, *_: Any) -> None:
        self._exit(1)

    @staticmethod
    def _exit(code: int) -> NoReturn:
        raise SystemExit(code)


@pytest.mark.parametrize("handler", [Handlers().of_time_limit, Handlers().of_end])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_an_exit_of_a_launchers_handler_is_no_failure(
    conf: Compose, monkeypatch: pytest.MonkeyPatch, handler: Any, number: signal.Signals
) -> None:
    asked = conf()

    def interrupted(*_: Any) -> NoReturn:
        signal.raise_signal(number)
        raise AssertionError("the signal came")

    monkeypatch.setattr(Classification, "training_step", interrupted)
    before = signal.signal(number, handler)
    try:
        with pytest.raises(SystemExit):
            run.train(asked)
    finally:
        signal.signal(number, before)
    assert stored(asked) is None


def test_a_damaged_record_is_trained_again(trained: Config) -> None:
    one = stored(trained)
    assert one is not None
    (folder(trained) / store.RECORD_FILE).write_text(one.to_json()[:-9])
    again = run.train(trained)
    assert again.val_loss == one.val_loss
    assert stored(trained) == again


def test_a_run_that_is_claimed_is_not_trained(
    conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = conf()
    monkeypatch.setattr(run.fit, "train", raising(AssertionError("it trained")))
    with store.Store(asked.paths.runs).claim(folder(asked), wait=False), pytest.raises(store.Busy):
        run.train(asked)
    assert stored(asked) is None


def test_several_networks_are_not_one_run(conf: Compose) -> None:
    with pytest.raises(SsrError, match="modifiers=sentinel_all stands for 8 networks"):
        run.train(conf("modifiers=sentinel_all"))


def test_a_plan_trains_nothing_and_writes_nothing(
    conf: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run.fit, "train", raising(AssertionError("it trained")))
    jobs = run.plan(conf("modifiers=sentinel_all"))
    assert len({job.network for job in jobs}) == len(jobs) == 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "trainer.channels_last=true trainer.threads=1 recipe.ema_decay=0.9",
        "trainer.precision=bf16-mixed trainer.deterministic=false recipe=adamw recipe.grad_clip=1",
    ],
    ids=["ema", "bf16"],
)
def test_each_way_to_train_ends_in_a_finished_run(conf: Compose, words: str) -> None:
    asked = conf(*SMALLER, *words.split())
    one = run.train(asked)
    assert one.status is Status.finished
    assert one.precision == asked.trainer.precision
    assert measure(asked, weights(asked)) == pytest.approx(one.val_acc, abs=2)
