"""Run Lightning on one job: train its network, or test the weights that it left."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything

from ssr_exp.datasets.batches import Augmentation
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.rescaling import inherit, rescale
from ssr_exp.runs.store import LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.classification import TEST_ACC, TEST_LOSS, Classification, Diverged
from ssr_exp.training import resume, trainers
from ssr_exp.training.study import Job

Metrics = dict[str, float | None]
"""Fields of the record: accuracies in percent, losses in nats."""


def train(job: Job, folder: Path, wandb_run: Any, last: resume.LastCheckpoint | None) -> Metrics:
    """Train a freshly drawn or an inherited network; test it too if the job asks for that.

    Without val images there are no metrics of val.

    Args:
        job: what to train.
        folder: where its checkpoints go.
        wandb_run: an open W&B run that the curves go to, or None.
        last: what a training that was killed left, to go on after its last whole epoch.

    Raises:
        Diverged: if the loss or the outputs are no longer finite.
    """
    seed_everything(job.conf.seed, verbose=False)
    task, images = _task(job), _images(job)
    if job.conf.trainer.compile:
        torch._dynamo.reset()  # else all networks of a process share one limit on compilations
        task.network.compile()
    spent_s, path = (0.0, None) if last is None else (last.spent_s, last.path)
    trainer = trainers.build(job.conf, folder, wandb_run, [resume.ResumeState(spent_s)])
    if last is not None and last.epochs >= job.conf.trainer.max_epochs:
        metrics = last.metrics
        _load(task, last.path)
    else:
        trainer.fit(task, images, ckpt_path=path, weights_only=True)
        metrics = resume.val_metrics(trainer)
    if job.conf.trainer.test:
        metrics |= _tested(trainer, task, images)
    return metrics


def test(job: Job, folder: Path) -> Metrics:
    """Test the last weights of a job that was trained before.

    Raises:
        SsrError: if its checkpoint is missing or of another network.
    """
    task = _task(job)
    _load(task, folder / LAST_CHECKPOINT)
    return _tested(trainers.build(job.conf, folder), task, _images(job))


def _load(task: Classification, checkpoint: Path) -> None:
    rescale.load(task.network, network_weights(checkpoint), source=str(checkpoint))


def _task(job: Job) -> Classification:
    seed, plan, architecture = job.study.seed_network, job.study.plan, job.architecture
    state = job.study.pretrained.state
    network = rescale.build(seed, plan, architecture, inherits=state is not None)
    if state is not None:
        names = rescale.names(seed, plan, architecture)
        inherit.fill(network, state, plan, architecture, names, by=job.conf.init.channels)
    return Classification(
        network,
        job.conf.recipe,
        num_classes=job.study.splits.num_classes,
        channels_last=job.conf.trainer.channels_last,
        teacher=copy.deepcopy(job.study.pretrained.teacher),  # training moves it
    )


def _images(job: Job) -> TensorDataModule:
    return TensorDataModule(
        job.study.splits,
        batch_size=job.conf.recipe.batch_size,
        augmentation=Augmentation.from_conf(job.conf.dataset),
        seed=job.conf.seed,
        channels_last=job.conf.trainer.channels_last,
    )


def _tested(trainer: Any, task: Classification, images: TensorDataModule) -> Metrics:
    trainer.test(task, images, verbose=False)
    metrics = trainer.callback_metrics
    return {"test_acc": float(metrics[TEST_ACC]), "test_loss": float(metrics[TEST_LOSS])}


def check_finite(metrics: Mapping[str, float | None]) -> None:
    """Refuse what no record can hold: a mean may overflow where no batch's loss did.

    Raises:
        Diverged: if a metric is not finite.
    """
    for name, value in metrics.items():
        if value is not None and not math.isfinite(value):
            raise Diverged(f"the training diverged: {name} is {value}")
