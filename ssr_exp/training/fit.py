"""Run Lightning on one job: train its network, or test the weights that it left."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    seed_everything,
)
from torch import nn

from ssr_exp.config import TaskKind
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import inherit, rescale, validation
from ssr_exp.runs.store import LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.supervised import TEST, Diverged, Supervised
from ssr_exp.training import batch_norm, learning, own_module, resume, scoring, trainers
from ssr_exp.training.opened_study import Job
from ssr_exp.training.scoring import Fields, ScoreWatch

DOUBLE = "64-true"  # precision


def train(job: Job, folder: Path, wandb_run: Any, last: resume.LastCheckpoint | None) -> Fields:
    """Train a freshly drawn or an inherited network; test it too if the job asks for that.

    Returns what was measured, without val images nothing of val; and the epochs that were trained,
    which are fewer where a callback of the user's own ends it.

    Args:
        job: what to train.
        folder: where its checkpoints go.
        wandb_run: an open W&B run that the curves go to, or None.
        last: what a training that was killed left, to go on after its last whole epoch.

    Raises:
        Diverged: if the loss or the outputs are no longer finite.
    """
    seed_everything(job.conf.seed, verbose=False)
    network = first_network(job)
    task, data = _task(job, network), learning.data(job.conf, job.study.splits)
    batch_norm.check(job.conf, task)
    if isinstance(task, Supervised) and job.conf.dataset.target is not None:
        task.measure_alone()
    if job.conf.trainer.compile:
        torch._dynamo.reset()  # else all networks of a process share one limit on compilations
        network.compile()
    spent_s, path = (0.0, None) if last is None else (last.spent_s, last.path)
    watch = ScoreWatch(job.study.score, () if last is None else last.fields.get("scores", ()))
    callbacks: list[Callback] = [watch, resume.ResumeState(watch, spent_s)]
    is_own = job.conf.task.name is TaskKind.module
    held = own_module.NetworkWatch(job.conf.task, network)
    callbacks += [held] if is_own else []
    trainer = trainers.build(job.conf, folder, job.study.score, wandb_run, callbacks)
    if last is not None and last.is_last(job.conf.trainer.max_epochs):
        kept = scoring.within(job.study.score, last.fields.get("best_score"))
        fields, epochs = last.fields | {"best_score": kept}, last.epochs
        _load(task, last.path)
        if last.is_late and not job.conf.dataset.train_on_val:
            _validate(trainer, task, data, watch)
            fields = watch.fields(trainer)
            late = scoring.better(job.study.score, kept, fields.get("best_score"))
            fields |= {"best_score": late}
    else:
        trainer.fit(task, data, ckpt_path=path, weights_only=True)
        is_late = watch.is_late(trainer) or (is_own and held.has_changed(task))
        if is_late and not job.conf.dataset.train_on_val:
            _validate(trainer, task, data, watch)
        if is_own:  # hooks of a user's code may change weights at the very end
            with _in_epoch(trainer, trainer.current_epoch - 1):
                trainer.save_checkpoint(folder / LAST_CHECKPOINT)
        fields, epochs = watch.fields(trainer), trainer.current_epoch
    scoring.check_losses(fields.get("metrics", {}))
    if job.conf.trainer.test:
        fields |= _tested(trainer, job, task, data, fields)
    return fields | {"epochs": epochs}


def test(job: Job, folder: Path, done: Fields) -> Fields:
    """Test the last weights of a job that was trained before.

    Args:
        job: what was trained.
        folder: where its checkpoints are.
        done: the fields of its record, whose metrics stay.

    Raises:
        SsrError: if its checkpoint is missing or of another network.
    """
    task = _task(job, first_network(job))
    _load(task, folder / LAST_CHECKPOINT)
    trainer = trainers.build(job.conf, folder, job.study.score)
    return _tested(trainer, job, task, learning.data(job.conf, job.study.splits), done)


def _validate(
    trainer: Trainer, task: LightningModule, data: LightningDataModule, watch: ScoreWatch
) -> None:
    """Score the last weights as in the last epoch that was scored: a module may log by epochs."""
    with _in_epoch(trainer, trainer.current_epoch if watch.epoch is None else watch.epoch):
        trainer.validate(task, data, verbose=False)


@contextmanager
def _in_epoch(trainer: Trainer, epoch: int) -> Iterator[None]:
    """Let a trainer be in an epoch, counted from 0, that it has left."""
    current = trainer.fit_loop.epoch_progress.current
    now, current.completed = current.completed, epoch
    try:
        yield
    finally:
        current.completed = now


def _load(task: LightningModule, checkpoint: Path) -> None:
    """Load what a training left; of a module of the user's own, all that it holds."""
    if isinstance(task, Supervised):
        rescale.load(task.network, network_weights(checkpoint), source=str(checkpoint))
    else:
        own_module.restore(task, checkpoint)


def first_network(job: Job) -> nn.Module:
    """Make the network of a job, with the weights that its training starts from.

    Raises:
        SsrError: if it does not run, or has not the cost that is counted.
    """
    seed, plan, architecture = job.study.seed_network, job.study.plan, job.architecture
    validation.check(seed, plan, architecture)
    state = job.study.pretrained.state
    network = rescale.build(seed, plan, architecture, inherits=state is not None)
    if state is not None:
        if drawn := {name for name, _ in seed.named_parameters()} - set(state):
            rescale.redraw(network, seed, plan, architecture, drawn, draw_seed=job.conf.seed)
        names = rescale.names(seed, plan, architecture)
        inherit.fill(network, state, plan, architecture, names, by=job.conf.init.channels)
    return network


def _task(job: Job, network: nn.Module) -> LightningModule:
    taken = job.study.pretrained
    task = learning.task(
        job.conf,
        job.study.splits,
        network,
        copy.deepcopy(taken.teacher),  # training moves it
        teacher_moments=taken.teacher_moments,
    )
    # Lightning does so after averages are made, and after a checkpoint is read.
    return task.double() if job.conf.trainer.precision == DOUBLE else task


def _tested(
    trainer: Trainer,
    job: Job,
    task: LightningModule,
    data: LightningDataModule,
    before: Fields,
) -> Fields:
    trainer.test(task, data, verbose=False)
    score = learning.test_score(job.conf.task)
    metrics = before.get("metrics", {}) | scoring.others(trainer, score.key)
    scoring.check_losses(metrics)
    try:
        value = scoring.read(score, trainer.callback_metrics, TEST)
    except Diverged:
        if not all(bool(p.isfinite().all()) for p in task.parameters()):
            raise
        raise SsrError(
            f"{score.key} on test is no number, though the training is in order: mend the test "
            "data, or what logs it, and repeat the command, which tests again"
        ) from None
    return {"test_score": value, "metrics": metrics}
