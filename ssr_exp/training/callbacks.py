"""What accompanies a training: checkpoints, averaged weights, and progress that reads well."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ssr_exp.config import RecipeConf, TrainerConf
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import BEST_CHECKPOINT, EPOCHS_FILE, LAST_CHECKPOINT
from ssr_exp.tasks import processes
from ssr_exp.tasks.supervised import TRAIN, VAL, Supervised

log = logging.getLogger(__name__)

_REFRESH_STEPS = 20  # the bar waits for the device each time


def build(
    recipe: RecipeConf,
    trainer: TrainerConf,
    folder: Path,
    score: Score,
    *,
    has_val: bool = True,
    is_own: bool = False,
) -> list[Callback]:
    """Return the callbacks of one training.

    Checkpoints are kept in `folder`, the best one by `score`; without val nothing is best. Give
    the trainer `enable_progress_bar=shows_bar(trainer)`. The last one of a module of the user's
    own, `is_own`, is to be written once the training has ended, when its hooks have run.
    """
    # The best one first: what it knows after an epoch is part of the last one's file.
    built: list[Callback] = [Checkpoint(folder / BEST_CHECKPOINT, score)] if has_val else []
    last = Checkpoint(folder / LAST_CHECKPOINT, below=trainer.max_epochs if is_own else None)
    built += [last, EpochsFile(folder / EPOCHS_FILE)]
    if recipe.ema_decay is not None:
        built.append(Ema(recipe.ema_decay))
    if shows_bar(trainer):
        built.append(TQDMProgressBar(refresh_rate=_REFRESH_STEPS))
    elif trainer.progress:
        built.append(EpochLines(score))
    return built


def shows_bar(trainer: TrainerConf) -> bool:
    """Tell whether progress is a bar: on a terminal or in a notebook, unless it is unwanted."""
    console = Console()
    if processes.count() > 1 or _is_hushed():  # the first of several has no terminal
        return False
    return trainer.progress and (console.is_terminal or console.is_jupyter)


def _is_hushed() -> bool:
    """Tell whether the command says itself how far its trainings are: see `app.sweeping`."""
    return any(
        isinstance(h, logging.StreamHandler)
        and not isinstance(h, logging.FileHandler)
        and h.level > logging.INFO
        for h in logging.getLogger().handlers
    )


class Checkpoint(ModelCheckpoint):
    """Lightning's, silent about a folder that is not empty: a run's record lies there, too.

    Args:
        path: of the file.
        score: what the epoch that is kept is best at; None: the last one is kept.
        below: only after fewer epochs is it written; None: after each.
    """

    def __init__(self, path: Path, score: Score | None = None, *, below: int | None = None) -> None:
        super().__init__(
            dirpath=path.parent,
            filename=path.stem,
            monitor=None if score is None else score.key,
            mode="min" if score is None else score.direction.value,  # part of its name there
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._below = below

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._below is None or trainer.current_epoch + 1 < self._below:
            super().on_train_epoch_end(trainer, pl_module)

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
    once the training has ended. It differs from Lightning's `EMAWeightAveraging` in four ways:
    whole numbers are the network's own (an average of indices would be rounded down in each step),
    the average lives on the training device from the start (Lightning makes it where the network
    is before the move, on the CPU), all tensors are updated at once, and the average is let go when
    the training ends, because Lightning's would otherwise replace the weights of a checkpoint that
    the same trainer tests later.

    Args:
        decay: share of the average that a step keeps, at least 0 and below 1.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_average(decay))

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


def _average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """Return what moves averages, all of one type, towards tensors; whole numbers are copied."""
    move = get_ema_multi_avg_fn(decay)

    def update(averages: list[Tensor], tensors: list[Tensor], steps: Tensor | int) -> None:
        if averages[0].is_floating_point() or averages[0].is_complex():
            move(averages, tensors, steps)
        else:
            torch._foreach_copy_(averages, tensors)

    return update


class EpochsFile(Callback):
    """Keep in a file how many epochs are done, for those who look on; it goes when that is over.

    Args:
        path: of the file; where it cannot be written nobody looks on.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, 0

    def _write(self, trainer: Trainer, done: int) -> None:
        if trainer.is_global_zero:
            with suppress(OSError):
                self._path.write_text(f"{done}/{trainer.max_epochs}/{self._begun}")

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = trainer.current_epoch
        self._write(trainer, self._begun)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._remove()


class EpochLines(Callback):
    """Log one line for each epoch: what a person reads in a file.

    Args:
        score: what val measures.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read a task's own means from it, because it logs them only after this hook.

        Each of several processes reads them, because all have to; the first one alone is heard.
        """
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if isinstance(pl_module, Supervised):
            tally = pl_module.tally(TRAIN)
            logged |= {f"{TRAIN}/{n}": v for n, v in tally.values().items()}
            logged[f"{TRAIN}/loss"] = tally.loss()
        epochs = str(trainer.max_epochs)
        log.info(
            "epoch %*d/%s%s%s  lr %.2g  %.1f s",
            len(epochs),
            trainer.current_epoch + 1,
            epochs,
            self._part(TRAIN, logged),
            self._part(VAL, logged),
            trainer.optimizers[0].param_groups[0]["lr"],
            time.monotonic() - self._started,
        )

    def _part(self, part: str, logged: Mapping[str, float]) -> str:
        """Write loss and score of a part, as far as they were logged."""
        loss, name = logged.get(f"{part}/loss"), self._score.key.removeprefix(f"{VAL}/")
        key = self._score.key if part == VAL else f"{part}/{name}"
        words = [] if loss is None else [f"loss {loss:.4f}"]
        words += [f"{name} {self._score.number(logged[key])}"] if key in logged else []
        return f"  {part} {' '.join(words)}" if words else ""
