from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor

from ssr_exp.config import RecipeConf, TrainerConf
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import ACCURACY
from ssr_exp.runs.store import BEST_CHECKPOINT, LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.training import callbacks, scoring
from ssr_exp.training.callbacks import EpochLines

MakeTask = Callable[..., Classification]
Fit = Callable[..., tuple[Trainer, Classification]]


@pytest.fixture
def fit(
    small_task: MakeTask,
    digits_module: Callable[..., TensorDataModule],
    quiet_trainer: Callable[..., Trainer],
    tmp_path: Path,
) -> Fit:
    def run(
        *extra: Callback, held: Tensor | None = None, **recipe: float
    ) -> tuple[Trainer, Classification]:
        made = small_task(**recipe)
        if held is not None:
            made.network.register_buffer("held", held)
        built = callbacks.build(made.recipe, TrainerConf(progress=False), tmp_path, ACCURACY)
        trainer = quiet_trainer(2, [*built, *extra])
        trainer.fit(made, digits_module())
        return trainer, made

    return run


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Scores(Callback):
    """Keep what val measured and the weights that it measured, for each epoch."""

    def __init__(self) -> None:
        self.accuracies: list[float] = []
        self.measured: list[dict[str, Tensor]] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Classification, *_: object
    ) -> None:
        self._weights = {k: v.clone() for k, v in pl_module.network.state_dict().items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.accuracies.append(float(trainer.callback_metrics[ACCURACY.key]))
        self.measured.append(self._weights)


@pytest.mark.parametrize("recipe", [{}, {"ema_decay": 0.9}], ids=["plain", "ema"])
def test_checkpoints_hold_what_val_measured_last_and_at_its_best(
    fit: Fit, tmp_path: Path, recipe: dict[str, float]
) -> None:
    scores = Scores()
    trainer, made = fit(scores, **recipe)
    best = scores.accuracies.index(max(scores.accuracies))
    assert same(network_weights(tmp_path / LAST_CHECKPOINT), scores.measured[-1])
    assert same(network_weights(tmp_path / LAST_CHECKPOINT), made.network.state_dict())
    assert same(network_weights(tmp_path / BEST_CHECKPOINT), scores.measured[best])
    assert scoring.best(trainer, ACCURACY) == pytest.approx(max(scores.accuracies))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        BEST_CHECKPOINT,
        LAST_CHECKPOINT,
    ]


def test_average_follows_its_formula(fit: Fit) -> None:
    steps: list[dict[str, Tensor]] = []

    class Steps(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Classification, *_: object
        ) -> None:
            state = pl_module.network.state_dict()
            steps.append({k: v.clone().double() for k, v in state.items()})

    _, made = fit(Steps(), ema_decay=0.95)
    average = steps[0]
    for step in steps[1:]:
        average = {k: 0.95 * v + 0.05 * step[k] for k, v in average.items()}
    for name, value in made.network.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), average[name], atol=1e-5), name


def test_an_average_of_whole_numbers_is_what_they_are(fit: Fit) -> None:
    """Indices that never change stay the same, which 0.9 x + 0.1 x rounded down does not."""
    _, made = fit(held=torch.arange(50), ema_decay=0.9)
    assert torch.equal(made.network.held, torch.arange(50))


def test_testing_a_checkpoint_tests_the_average_in_it(
    fit: Fit, tmp_path: Path, digits_module: Callable[..., TensorDataModule]
) -> None:
    trainer, made = fit(ema_decay=0.9)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    trainer.test(
        made,
        digits_module(),
        ckpt_path=tmp_path / BEST_CHECKPOINT,
        verbose=False,
        weights_only=True,
    )
    assert same(network_weights(tmp_path / BEST_CHECKPOINT), made.network.state_dict())


def test_no_checkpoint_of_a_diverged_epoch(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        fit(lr=1e30)
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"], ids=repr)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / LAST_CHECKPOINT
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SsrError, match=r"last\.ckpt is not a readable checkpoint") as caught:
        network_weights(path)
    assert "\n" not in str(caught.value)


def test_progress_is_one_plain_line_for_each_epoch(
    fit: Fit, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger=callbacks.__name__)
    fit(EpochLines(ACCURACY))
    lines = [r.getMessage() for r in caplog.records if r.name == callbacks.__name__]
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(line.isprintable() for line in lines)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("terminal", "progress", "expected"),
    [(True, True, TQDMProgressBar), (False, True, EpochLines), (True, False, None)],
)
def test_progress_is_a_bar_on_a_terminal_only(
    terminal: bool,
    progress: bool,
    expected: type[Callback] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    conf = TrainerConf(progress=progress)
    built = callbacks.build(RecipeConf(), conf, tmp_path, ACCURACY)
    shown = [type(c) for c in built if isinstance(c, TQDMProgressBar | EpochLines)]
    assert shown == ([] if expected is None else [expected])
    assert callbacks.shows_bar(conf) == (expected is TQDMProgressBar)
