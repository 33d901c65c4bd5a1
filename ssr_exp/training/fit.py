"""Run Lightning on one job: train its network, or test the weights that it left."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from ssr_exp.config import Balance
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.rescaling import inherit, rescale
from ssr_exp.runs.store import LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.supervised import Supervised
from ssr_exp.training import learning, resume, scoring, trainers
from ssr_exp.training.scoring import Fields, ScoreWatch
from ssr_exp.training.study import Job


def train(job: Job, folder: Path, wandb_run: Any, last: resume.LastCheckpoint | None) -> Fields:
    """Train a freshly drawn or an inherited network; test it too if the job asks for that.

    Returns what was measured; without val images nothing of val.

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
    watch = ScoreWatch(job.study.score, () if last is None else last.fields.get("scores", ()))
    callbacks = [watch, resume.ResumeState(watch, spent_s)]
    trainer = trainers.build(job.conf, folder, job.study.score, wandb_run, callbacks)
    if last is not None and last.epochs >= job.conf.trainer.max_epochs:
        fields = last.fields
        _load(task, last.path)
    else:
        trainer.fit(task, images, ckpt_path=path, weights_only=True)
        fields = watch.fields(trainer)
    scoring.check_losses(fields.get("metrics", {}))
    if job.conf.trainer.test:
        fields |= _tested(trainer, job, task, images, fields)
    return fields


def test(job: Job, folder: Path, done: Fields) -> Fields:
    """Test the last weights of a job that was trained before.

    Args:
        job: what was trained.
        folder: where its checkpoints are.
        done: the fields of its record, whose metrics stay.

    Raises:
        SsrError: if its checkpoint is missing or of another network.
    """
    task = _task(job)
    _load(task, folder / LAST_CHECKPOINT)
    trainer = trainers.build(job.conf, folder, job.study.score)
    return _tested(trainer, job, task, _images(job), done)


def _load(task: Supervised, checkpoint: Path) -> None:
    rescale.load(task.network, network_weights(checkpoint), source=str(checkpoint))


def _task(job: Job) -> Supervised:
    seed, plan, architecture = job.study.seed_network, job.study.plan, job.architecture
    state = job.study.pretrained.state
    network = rescale.build(seed, plan, architecture, inherits=state is not None)
    if state is not None:
        names = rescale.names(seed, plan, architecture)
        inherit.fill(network, state, plan, architecture, names, by=job.conf.init.channels)
    teacher = copy.deepcopy(job.study.pretrained.teacher)  # training moves it
    return learning.task(job.conf, job.study.splits, network, teacher)


def _images(job: Job) -> TensorDataModule:
    return TensorDataModule(
        job.study.splits,
        batch_size=job.conf.recipe.batch_size,
        augmentation=Augmentation.from_conf(job.conf.dataset),
        seed=job.conf.seed,
        channels_last=job.conf.trainer.channels_last,
        is_balanced=job.conf.task.balance is Balance.sampling,
        workers=job.conf.trainer.workers,
    )


def _tested(
    trainer: Trainer, job: Job, task: Supervised, images: TensorDataModule, before: Fields
) -> Fields:
    trainer.test(task, images, verbose=False)
    score = job.study.score.test
    metrics = before.get("metrics", {}) | scoring.others(trainer, score.key)
    scoring.check_losses(metrics)
    return {"test_score": scoring.read(score, trainer.callback_metrics), "metrics": metrics}
