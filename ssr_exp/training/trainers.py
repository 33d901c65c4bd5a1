"""Lightning's trainer, set up for many short runs: quiet, repeatable."""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from ssr_exp import messages, user_code
from ssr_exp.config import Config, TaskKind
from ssr_exp.errors import cause
from ssr_exp.runs.score import Score
from ssr_exp.tasks import processes
from ssr_exp.training import callbacks, resume

log = logging.getLogger(__name__)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # hardware, tips

KNOWN = (
    ".*ModelCheckpoint.* could not find the monitored key",  # before the first validation
    "Attribute .* is an instance of `nn.Module` and is already saved",
    "Found .* module.* in eval mode at the start of training",
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    ".*isinstance.treespec, LeafSpec.",
    "The `srun` command is available on your system",
    "The ``compute`` method of metric .* was called before",  # where others have the images
    "It is recommended to use .* when logging on epoch level in distributed",  # sums are of all
)


def build(
    conf: Config,
    folder: Path,
    score: Score,
    wandb_run: Any = None,
    extra: Sequence[Callback] = (),
) -> Trainer:
    """Set up the trainer of one run, whose curves go to an open W&B run if there is one.

    It is on one device, or on that of this process and those of the others that train with it:
    then a logger stands for the W&B run.
    """
    is_own = conf.task.name is TaskKind.module
    logger: Logger | bool = DummyLogger() if is_own else False
    if isinstance(wandb_run, Logger):
        logger = wandb_run
    elif wandb_run is not None:
        logger = OwnCurves(wandb_run) if is_own else Curves(wandb_run)
    has_val, world = not conf.dataset.train_on_val, processes.count()
    further = {name: value for name, value in conf.task.trainer.items() if name != "callbacks"}
    further |= {} if has_val else {"limit_val_batches": 0}
    own = callbacks.build(conf.recipe, conf.trainer, folder, score, has_val=has_val, is_own=is_own)
    trainer = Trainer(
        max_epochs=conf.trainer.max_epochs,
        accelerator=conf.trainer.accelerator,
        devices=world,
        strategy=conf.trainer.strategy if world > 1 else "auto",
        sync_batchnorm=world > 1 and conf.trainer.sync_batch_norm,
        precision=conf.trainer.precision,  # type: ignore[arg-type]
        deterministic="warn" if conf.trainer.deterministic else False,
        benchmark=not conf.trainer.deterministic,
        gradient_clip_val=conf.recipe.grad_clip,
        logger=logger,
        callbacks=[*extra, *user_code.made(conf.task.trainer.get("callbacks", [])), *own],
        # Processes of one machine, whatever cluster it is in: launchers requeue, not Lightning.
        plugins=[resume.WholeFiles(), LightningEnvironment()],
        default_root_dir=folder,
        enable_progress_bar=callbacks.shows_bar(conf.trainer),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=conf.dataset.target is not None,  # for data of the user's own
        **further,
    )
    if world > 1:  # else each step waits for the device to ask the others of signals
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    # Deterministic mode also fills new tensors, which costs time and changes no result of ours.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return trainer


def two_batches(
    count: int, callbacks: Sequence[Callback], arguments: Mapping[str, Any], *, epochs: int
) -> Trainer:
    """Set up a trainer that trains on a few batches and validates on as many, and keeps nothing.

    It stops after the first of its `epochs`, by which schedules of a user's are made.
    """
    further = {name: value for name, value in arguments.items() if name != "callbacks"}
    trainer = Trainer(
        fast_dev_run=count,
        logger=DummyLogger(),
        callbacks=[*callbacks, *user_code.made(arguments.get("callbacks", [])), _OneEpoch()],
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[LightningEnvironment()],
        **further,
    )
    # It would count each optimizer's step: of several in a batch, all were taken before the end.
    trainer.fit_loop.epoch_loop.max_steps = -1
    trainer.fit_loop.max_epochs, trainer.fit_loop.min_epochs = epochs, None
    trainer.fit_loop.epoch_loop.min_steps = None
    return trainer


class _OneEpoch(Callback):
    """Stops after one epoch of several."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what Lightning tells every user in every run."""
    with warnings.catch_warnings():
        for message in KNOWN:
            warnings.filterwarnings("ignore", message)
        yield


class Curves(WandbLogger):
    """Lightning's logger for an open W&B run; once W&B fails, it is told nothing any more.

    Args:
        run: the open run.
    """

    def __init__(self, run: Any) -> None:
        super().__init__(experiment=run)
        self._is_lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._tell(lambda: super(Curves, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        self._tell(lambda: super(Curves, self).log_hyperparams(params))

    def _tell(self, what: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            what()
        except Exception as error:  # of W&B's own process, or of the disk
            self._is_lost = True
            log.warning("W&B takes no curves any more (%s): training goes on", cause(error))


class OwnCurves(Curves):
    """For a module of the user's own, which may have been written for another logger."""

    @property
    def experiment(self) -> Any:
        """The open run; what it does not have is told to nobody, and named once."""
        return _Tolerant(super().experiment)


class _Tolerant:
    """Stands for a W&B run in code that was written for TensorBoard, say."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._run, name):
            return getattr(self._run, name)
        said = f"W&B has no logger.experiment.{name}: such calls are left out"
        messages.say_once(log, said)
        return lambda *_, **__: None
