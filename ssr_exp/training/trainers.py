"""Lightning's trainer, set up for many short runs: quiet, repeatable, on one device."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from ssr_exp.config import Config
from ssr_exp.training import callbacks, resume
from ssr_exp.training.curves import Curves

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # hardware, tips

KNOWN = (
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    ".*isinstance.treespec, LeafSpec.",
    "The `srun` command is available on your system",
)


def build(
    conf: Config, folder: Path, wandb_run: Any = None, extra: Sequence[Callback] = ()
) -> Trainer:
    """Set up the trainer of one run, whose curves go to an open W&B run if there is one."""
    logger: Logger | bool = False if wandb_run is None else Curves(wandb_run)
    has_val = not conf.dataset.train_on_val
    trainer = Trainer(
        max_epochs=conf.trainer.max_epochs,
        accelerator=conf.trainer.accelerator,
        devices=conf.trainer.devices,
        precision=conf.trainer.precision,  # type: ignore[arg-type]
        deterministic="warn" if conf.trainer.deterministic else False,
        benchmark=not conf.trainer.deterministic,
        gradient_clip_val=conf.recipe.grad_clip,
        logger=logger,
        callbacks=[*extra, *callbacks.build(conf.recipe, conf.trainer, folder, has_val=has_val)],
        # One process on one device, whatever cluster it runs in: launchers requeue, not Lightning.
        plugins=[resume.WholeFiles(), LightningEnvironment()],
        default_root_dir=folder,
        enable_progress_bar=callbacks.shows_bar(conf.trainer),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=None if has_val else 0,
        use_distributed_sampler=False,
    )
    # Deterministic mode also fills new tensors, which costs time and changes no result of ours.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return trainer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what Lightning tells every user in every run."""
    with warnings.catch_warnings():
        for message in KNOWN:
            warnings.filterwarnings("ignore", message)
        yield
