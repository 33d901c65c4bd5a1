"""A training that is killed ends as one that nothing happened to, bit for bit on a CPU."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import SGD, Optimizer, lr_scheduler

from ssr_exp import files
from ssr_exp.config import Config
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.classification import Classification
from ssr_exp.training import learning, resume, run
from tests.datasets.pictures import fill

Compose = Callable[..., Config]
WORDS = (
    "trainer.max_epochs=3",
    "recipe.ema_decay=0.9",
    "dataset.crop_padding=1",
    "dataset.flip=true",
)
RICH = (  # torchvision draws from the generator that dropout draws from
    "dataset.crop_scale=[0.5,1]",
    "dataset.crop_padding=0",
    "dataset.vertical_flip=true",
    "dataset.rotation=15",
    "dataset.color_jitter=[0.3,0.3]",
    "dataset.auto_augment=trivial_augment_wide",
    "dataset.mixup=0.2",
    "dataset.cutmix=1",
)
DROPPING = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.drop(self.body(x).mean((2, 3))))
"""


class Killed(BaseException):
    """What no training catches."""


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the training die before a step, counted from 0 in all of it; -1: never again."""
    left = [-1]
    step = Classification.training_step

    def counted(self: Classification, batch: tuple[Tensor, Tensor], at: int) -> Tensor:
        if left[0] == 0:
            left[0] = -1
            raise Killed
        left[0] -= left[0] > 0
        return step(self, batch, at)

    monkeypatch.setattr(Classification, "training_step", counted)

    def set_(at: int) -> None:
        left[0] = at

    return set_


def weights(conf: Config) -> dict[str, Tensor]:
    (folder,) = Path(conf.paths.runs).glob("*/*/seed0")
    return network_weights(folder / LAST_CHECKPOINT)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def measured(record: Record) -> tuple[Any, ...]:
    return record.val_acc, record.val_loss, record.best_val_acc


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("augmented", [(), pytest.param(RICH, marks=pytest.mark.slow)])
def test_a_training_killed_at_any_step_ends_as_an_undisturbed_one(
    conf: Compose,
    tmp_path: Path,
    dies: Callable[[int], None],
    own: Callable[[str], str],
    augmented: tuple[str, ...],
) -> None:
    words = (*WORDS, *augmented, "model=module", f"model.target={own(DROPPING)}.Net")
    whole = conf(*words, f"paths.runs={tmp_path}/whole")
    undisturbed = run.train(whole)
    (job,) = run.plan(whole)
    steps = len(learning.data(whole, job.study.splits).train_dataloader())
    for at in (0, steps, steps + steps // 2, 3 * steps - 1):
        broken = conf(*words, f"paths.runs={tmp_path}/killed{at}")
        dies(at)
        with pytest.raises(Killed):
            run.train(broken)
        record = run.train(broken)
        assert measured(record) == measured(undisturbed), at
        assert same(weights(broken), weights(whole)), at


def test_a_training_that_goes_on_has_the_wandb_run_of_its_earlier_process(
    conf: Compose, tmp_path: Path, dies: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str | None] = []

    def start(_: object, *, folder: Path, run_id: str | None, **__: object) -> None:
        ids.append(run_id)
        name = f"offline-run-20260101_00000{len(ids)}-{run_id or f'id{len(ids)}'}"
        (folder / "wandb" / name).mkdir(parents=True)

    monkeypatch.setattr(run.training_run, "start", start)
    broken = conf(*WORDS, f"paths.runs={tmp_path}/killed")
    (job,) = run.plan(broken)
    steps = len(learning.data(broken, job.study.splits).train_dataloader())
    for at in (0, steps, steps):  # before the first checkpoint, after it, and again
        dies(at)
        with pytest.raises(Killed):
            run.train(broken)
    run.train(broken)
    assert ids == [None, None, "id2", "id2"]


STREAMED = (
    "dataset=image_folder",
    "dataset.resize=[10,12]",
    "dataset.stream=true",
    "dataset.crop_scale=[0.3,1]",
    "dataset.crop_from=file",
    "dataset.crop_padding=0",
    "dataset.auto_augment=trivial_augment_wide",
    "dataset.erasing=0.3",
    "dataset.mixup=0.2",
    "recipe.batch_size=4",
    "recipe.ema_decay=0.9",
    "trainer.max_epochs=3",
    "trainer.workers=2",
)


@pytest.fixture
def streamed(tmp_path: Path) -> tuple[str, ...]:
    """Name a folder of images that are read for each batch."""
    fill(tmp_path / "set", count=24)
    return (*STREAMED, f"dataset.root={tmp_path / 'set'}")


@pytest.mark.usefixtures("repeatable")
def test_a_streamed_training_killed_in_an_epoch_ends_as_an_undisturbed_one(
    conf: Compose, tmp_path: Path, dies: Callable[[int], None], streamed: tuple[str, ...]
) -> None:
    whole = conf(*streamed, f"paths.runs={tmp_path}/whole")
    broken = conf(*streamed, f"paths.runs={tmp_path}/killed", "trainer.workers=1")
    undisturbed = run.train(whole)
    dies(20)
    with pytest.raises(Killed):
        run.train(broken)
    assert measured(run.train(broken)) == measured(undisturbed)
    assert same(weights(broken), weights(whole))


@pytest.mark.usefixtures("repeatable")
def test_a_training_whose_disk_goes_away_fails_with_a_record_and_goes_on_when_it_is_back(
    conf: Compose,
    tmp_path: Path,
    dies: Callable[[int], None],
    streamed: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = conf(*streamed, f"paths.runs={tmp_path}/whole")
    broken = conf(*streamed, f"paths.runs={tmp_path}/broken")
    undisturbed = run.train(whole)
    step, left = Classification.training_step, [18]

    def unmounts(self: Classification, batch: tuple[Tensor, Tensor], at: int) -> Tensor:
        left[0] -= 1
        if left[0] == 0:
            (tmp_path / "set").rename(tmp_path / "gone")
        return step(self, batch, at)

    monkeypatch.setattr(Classification, "training_step", unmounts)
    with pytest.raises(run.RunFailed, match=r"png cannot be read any more .*No such file"):
        run.train(broken)
    (path,) = tmp_path.glob("broken/*/*/seed0/record.json")
    assert '"status": "failed"' in path.read_text()
    (tmp_path / "gone").rename(tmp_path / "set")
    with caplog.at_level(logging.INFO):
        assert measured(run.train(broken)) == measured(undisturbed)
    assert "going on after epoch 1" in caplog.text
    assert same(weights(broken), weights(whole))


@pytest.mark.usefixtures("repeatable")
def test_a_training_is_the_same_whether_memory_holds_its_images_or_not(
    conf: Compose, tmp_path: Path, streamed: tuple[str, ...]
) -> None:
    words = [word for word in streamed if not word.startswith(("dataset.stream", "dataset.crop_f"))]
    both = [
        conf(*words, f"dataset.stream={stream}", f"paths.runs={tmp_path}/{stream}")
        for stream in ("true", "false")
    ]
    one, other = map(run.train, both)
    assert (one.study, *measured(one)) == (other.study, *measured(other))
    assert same(*map(weights, both))


@pytest.mark.usefixtures("repeatable")
def test_a_training_killed_before_its_record_repeats_no_step(
    conf: Compose,
    tmp_path: Path,
    dies: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = conf(*WORDS, "trainer.max_epochs=2", "trainer.test=true")
    undisturbed = run.train(asked)
    (path,) = tmp_path.glob("runs/*/*/seed0/record.json")
    path.unlink()
    dies(0)  # at the first step, if there is one
    with caplog.at_level(logging.INFO):
        again = run.train(asked)
    assert measured(again) == measured(undisturbed)
    assert again.test_acc == undisturbed.test_acc
    assert "going on after epoch 2" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
def test_killed_twice_the_time_of_all_tries_counts(
    conf: Compose, dies: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = conf(*WORDS)
    validated = Classification.on_validation_epoch_end

    def slow(self: Classification) -> None:
        time.sleep(0.3)
        validated(self)

    monkeypatch.setattr(Classification, "on_validation_epoch_end", slow)
    for at in (12, 12):
        dies(at)
        with pytest.raises(Killed):
            run.train(asked)
    assert run.train(asked).wall_s > 0.9


@pytest.mark.slow
def test_what_cannot_be_gone_on_with_is_begun_anew(
    conf: Compose, tmp_path: Path, dies: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    asked = conf("trainer.max_epochs=2")
    dies(12)
    with pytest.raises(Killed):
        run.train(asked)
    (path,) = tmp_path.glob("runs/*/*/seed0/last.ckpt")
    content, middle = path.read_bytes(), path.stat().st_size // 2
    foreign, newer = (torch.load(path, weights_only=True) for _ in range(2))
    del foreign[resume.KEY]
    newer[resume.KEY]["schema"] = 99
    for damaged in (content[:middle], b"", content[:40] + b"?" * 99, foreign, newer):
        if isinstance(damaged, bytes):
            path.write_bytes(damaged)
        else:
            torch.save(damaged, path)
        caplog.clear()
        assert resume.last_checkpoint(path.parent) is None
        assert "cannot be used (" in caplog.text
    assert run.train(asked).status == "finished"


@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.slow), True])
def test_of_a_checkpoint_the_best_score_is_taken_over_and_no_path(
    conf: Compose, tmp_path: Path, dies: Callable[[int], None], moved: bool
) -> None:
    """Lightning would delete what a checkpoint of others names, and forget the score elsewhere."""
    dies(12)
    with pytest.raises(Killed):
        run.train(conf("trainer.max_epochs=2"))
    (path,) = tmp_path.glob("runs/*/*/seed0/last.ckpt")
    victim = tmp_path / "victim"
    victim.mkdir()
    held = torch.load(path, weights_only=True)
    (name,) = [name for name in held["callbacks"] if "'monitor': 'val/acc'" in name]
    named = f"{path.parent}/../../../../victim"
    held["callbacks"][name] |= {
        "best_model_score": torch.tensor(100.0),
        "best_model_path": named,
        "kth_best_model_path": named,
        "kth_value": torch.tensor(0.0),
        "best_k_models": {named: torch.tensor(0.0)},
    }
    torch.save(held, path)
    runs = tmp_path / ("elsewhere" if moved else "runs")
    (tmp_path / "runs").rename(runs)
    record = run.train(conf("trainer.max_epochs=2", f"paths.runs={runs}"))
    assert record.best_val_acc == 100.0
    assert victim.is_dir()


def test_a_checkpoint_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "last.ckpt"
    writer = resume.WholeFiles()
    writer.save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        writer.save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


CHAINED = (
    lambda o: lr_scheduler.LinearLR(o, total_iters=2),
    lambda o: lr_scheduler.MultiStepLR(o, [3, 5, 5]),
)
SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 5, 5]),
    "ConstantLR": lr_scheduler.ConstantLR,
    "LinearLR": lr_scheduler.LinearLR,
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(o, [s(o) for s in CHAINED], [2]),
    "PolynomialLR": lr_scheduler.PolynomialLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler([s(o) for s in CHAINED]),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
}


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("name", sorted({*lr_scheduler.__all__} - {"LRScheduler"}))
def test_a_checkpoint_keeps_the_state_of_every_schedule_of_torch(tmp_path: Path, name: str) -> None:
    def begun() -> tuple[Optimizer, Any]:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05, momentum=0.9)
        return optimizer, SCHEDULERS[name](optimizer)

    def stepped(optimizer: Optimizer, schedule: Any) -> float:
        optimizer.step()
        schedule.step(*((1.0,) if name == "ReduceLROnPlateau" else ()))
        return float(optimizer.param_groups[0]["lr"])

    whole, again = begun(), begun()
    for _ in range(4):
        stepped(*whole)
    optimizer, schedule = whole
    content = {
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "ssr_exp": {},
    }
    resume.WholeFiles().save_checkpoint(content, path := tmp_path / LAST_CHECKPOINT)
    kept = files.read_checkpoint(path)
    assert "lost" not in kept["ssr_exp"]
    assert str(kept["schedule"]) == str(content["schedule"])  # types, too
    again[0].load_state_dict(kept["optimizer"])
    again[1].load_state_dict(kept["schedule"])
    assert [stepped(*whole) for _ in range(4)] == [stepped(*again) for _ in range(4)]


def test_what_val_measured_is_kept_as_fields_of_a_record_and_no_others() -> None:
    assert resume._measured({"fields": {}}) == {}  # of a training on val, too
    early = {"val_acc": 90.0, "val_loss": 0.5, "best_val_acc": 91.0}
    fields = {"score": 90.0, "best_score": 91.0, "scores": (90.0,), "metrics": {"val/loss": 0.5}}
    assert resume._measured({"metrics": early}) == fields
    assert resume._measured({"fields": fields | {"scores": [90.0], "study": "other"}}) == fields


def test_the_generator_of_an_apple_gpu_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    state, put = torch.arange(8, dtype=torch.uint8), list[Tensor]()
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.mps, "set_rng_state", put.append)
    resume._restore(resume._generators(trainer), trainer)
    assert not put
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    kept = resume._generators(trainer)
    resume._restore(kept, trainer)
    resume._restore({name: part for name, part in kept.items() if name != "mps"}, trainer)
    assert len(put) == 1 and torch.equal(put[0], state)
