"""What accompanies a training: checkpoints, averaged weights, and progress that reads well."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ssr_exp.config import RecipeConf, TrainerConf
from ssr_exp.runs.store import BEST_CHECKPOINT, LAST_CHECKPOINT
from ssr_exp.tasks.classification import VAL_ACC, VAL_LOSS, Classification

log = logging.getLogger(__name__)

_REFRESH_STEPS = 20  # the bar waits for the device each time


def build(
    recipe: RecipeConf, trainer: TrainerConf, folder: Path, *, has_val: bool = True
) -> list[Callback]:
    """Return the callbacks of one training.

    Checkpoints are kept in `folder`; without val nothing is best. Give the trainer
    `enable_progress_bar=shows_bar(trainer)`.
    """
    # The best one first: what it knows after an epoch is part of the last one's file.
    built: list[Callback] = (
        [Checkpoint(folder / BEST_CHECKPOINT, monitor=VAL_ACC)] if has_val else []
    )
    built.append(Checkpoint(folder / LAST_CHECKPOINT))
    if recipe.ema_decay is not None:
        built.append(Ema(recipe.ema_decay))
    if shows_bar(trainer):
        built.append(TQDMProgressBar(refresh_rate=_REFRESH_STEPS))
    elif trainer.progress:
        built.append(EpochLines())
    return built


def shows_bar(trainer: TrainerConf) -> bool:
    """Tell whether progress is a bar: on a terminal or in a notebook, unless it is unwanted."""
    console = Console()
    return trainer.progress and (console.is_terminal or console.is_jupyter)


def best_score(trainer: Trainer) -> float | None:
    """Return the highest val accuracy of a training, in percent; None if none was measured."""
    for kept in trainer.checkpoint_callbacks:
        if isinstance(kept, ModelCheckpoint) and kept.monitor == VAL_ACC:
            return None if kept.best_model_score is None else float(kept.best_model_score)
    return None


class Checkpoint(ModelCheckpoint):
    """Lightning's, silent about a folder that is not empty: a run's record lies there, too.

    Args:
        path: of the file.
        monitor: what the epoch that is kept is best at; None: the last one is kept.
    """

    def __init__(self, path: Path, monitor: str | None = None) -> None:
        super().__init__(
            dirpath=path.parent,
            filename=path.stem,
            monitor=monitor,
            mode="max" if monitor else "min",  # part of its name in checkpoints
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score alone.

        Paths in a checkpoint are those of where it was written, or of anywhere, if others wrote it;
        Lightning would delete what they name.
        """
        score = state_dict.get("best_model_score")
        if self.monitor is None or score is None:
            return
        path = f"{self.dirpath}/{self.filename}{self.FILE_EXTENSION}"
        self.best_model_score = self.kth_value = torch.as_tensor(float(score))
        self.best_model_path = self.kth_best_model_path = path
        self.best_k_models = {path: self.best_model_score}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")
            super().setup(trainer, pl_module, stage)


class Ema(WeightAveraging):
    """Exponential moving average of weights and batch-norm statistics, updated in each step.

    Validation measures the average, checkpoints hold it as `state_dict`, and it is the network
    once the training has ended. It differs from Lightning's `EMAWeightAveraging` in three ways:
    the average lives on the training device from the start (Lightning makes it where the network
    is before the move, on the CPU), all tensors are updated at once, and the average is let go when
    the training ends, because Lightning's would otherwise replace the weights of a checkpoint that
    the same trainer tests later.

    Args:
        decay: share of the average that a step keeps, at least 0 and below 1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # Torch asks this counter in each step whether it is 0: on the CPU nobody waits.
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._average_model = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class EpochLines(Callback):
    """Log one line for each epoch: what a person reads in a file."""

    def __init__(self) -> None:
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the training's means from the module, which logs them only after this hook."""
        loss, accuracy = cast(Classification, pl_module).train_tally.means()
        epochs = str(trainer.max_epochs)
        log.info(
            "epoch %*d/%s  train loss %.4f acc %.2f%s  lr %.2g  %.1f s",
            len(epochs),
            trainer.current_epoch + 1,
            epochs,
            loss,
            accuracy,
            _val(trainer),
            trainer.optimizers[0].param_groups[0]["lr"],
            time.monotonic() - self._started,
        )


def _val(trainer: Trainer) -> str:
    """Write what val measured in this epoch; nothing where there is no val."""
    metrics = trainer.callback_metrics
    if VAL_ACC not in metrics:
        return ""
    return f"  val loss {metrics[VAL_LOSS]:.4f} acc {metrics[VAL_ACC]:.2f}"
