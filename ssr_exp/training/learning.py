"""Makes the task that a configuration names: a network goes in, a LightningModule comes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssr_exp.config import Balance, Config, TaskConf, TaskKind
from ssr_exp.datasets.images import Images, Splits
from ssr_exp.runs.score import Score
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.multilabel import Multilabel
from ssr_exp.tasks.regression import Regression
from ssr_exp.tasks.supervised import Supervised

TASKS: dict[TaskKind, type[Supervised]] = {
    TaskKind.classification: Classification,
    TaskKind.multilabel: Multilabel,
    TaskKind.regression: Regression,
}


def score(conf: TaskConf) -> Score:
    """Say how a task judges networks."""
    unit = {"unit": conf.unit} if conf.name is TaskKind.regression else {}
    return TASKS[conf.name].score.model_copy(update=unit)


def make(
    conf: Config, splits: Splits, network: nn.Module, teacher: nn.Module | None = None
) -> Supervised:
    """Make the task that trains a network, and learns from a teacher if there is one."""
    channels_last, images = conf.trainer.channels_last, splits.train
    if conf.task.name is TaskKind.regression:
        mean, std = moments(images.labels)
        return Regression(network, conf.recipe, mean, std, channels_last, teacher)
    kind = Multilabel if conf.task.name is TaskKind.multilabel else Classification
    weights = balanced(images) if conf.task.balance is Balance.weights else None
    return kind(network, conf.recipe, splits.num_classes, channels_last, teacher, weights)


def balanced(images: Images) -> Tensor:
    """Return weights that make all classes, or all labels and their absence, count alike."""
    labels, count = images.labels, len(images.classes)
    if labels.ndim == 1:
        sizes = torch.bincount(labels, minlength=count).clamp_min(1)
        return len(labels) / (count * sizes.float())
    held = labels.sum(0).clamp_min(1)
    return (len(labels) - held).clamp_min(1) / held


def moments(targets: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each target, `n x T`; 1 for one that never changes."""
    mean, std = targets.double().mean(0), targets.double().std(0, correction=0)
    return mean.tolist(), torch.where(std < 1e-12, 1.0, std).tolist()
