"""The task that a configuration names: a network goes in, a LightningModule comes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssr_exp.config import Balance, Config, TaskConf, TaskKind
from ssr_exp.datasets.images import Images, Splits, Target
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import Score
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.multilabel import Multilabel
from ssr_exp.tasks.regression import Regression
from ssr_exp.tasks.supervised import Supervised

LONGEST_UNIT = 40
TASKS: dict[TaskKind, type[Supervised]] = {
    TaskKind.classification: Classification,
    TaskKind.multilabel: Multilabel,
    TaskKind.regression: Regression,
}


def check(conf: TaskConf) -> None:
    """Refuse settings that a task would ignore.

    Raises:
        SsrError: says for which task they are.
    """
    is_class, is_number = (conf.name is k for k in (TaskKind.classification, TaskKind.regression))
    if (conf.balance is Balance.sampling and not is_class) or (
        conf.balance is Balance.weights and is_number
    ):
        raise SsrError(
            f"task.balance={conf.balance.value} is not for task={conf.name.value}: type "
            "task.balance=none (weights are for classes and labels, sampling for classes)."
        )
    if conf.unit and not is_number:
        raise SsrError(f"task.unit={conf.unit} is for task=regression: leave it out.")
    if len(conf.unit) > LONGEST_UNIT:
        raise SsrError(f"task.unit has {len(conf.unit)} letters: type {LONGEST_UNIT} or fewer.")


def score(conf: TaskConf) -> Score:
    """Say how a task judges networks."""
    unit = {"unit": conf.unit} if conf.name is TaskKind.regression else {}
    return TASKS[conf.name].score.model_copy(update=unit)


def task(
    conf: Config, splits: Splits, network: nn.Module, teacher: nn.Module | None = None
) -> Supervised:
    """Return the task that trains a network, and learns from a teacher if there is one."""
    channels_last, images = conf.trainer.channels_last, splits.train
    if conf.task.name is TaskKind.regression:
        moments = target_moments(images)
        assert moments is not None
        return Regression(network, conf.recipe, *moments, channels_last, teacher)
    kind = Multilabel if conf.task.name is TaskKind.multilabel else Classification
    weights = balanced(images) if conf.task.balance is Balance.weights else None
    return kind(network, conf.recipe, splits.num_classes, channels_last, teacher, weights)


def balanced(images: Images) -> Tensor:
    """Return weights that make all classes, or all labels and their absence, count alike."""
    labels, count = images.labels, len(images.classes)
    if labels.ndim == 1:
        sizes = torch.bincount(labels, minlength=count).clamp_min(1)
        return len(labels) / (count * sizes.float())
    positives = labels.sum(0).clamp_min(1)
    return (len(labels) - positives).clamp_min(1) / positives


def target_moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and standard deviation of each number that is learnt; None where it is none.

    The deviation of a number that never changes is 1.
    """
    if images.target is not Target.numbers:
        return None
    numbers = images.labels.double()
    mean, std = numbers.mean(0), numbers.std(0, correction=0)
    return tuple(mean.tolist()), tuple(torch.where(std < 1e-12, 1.0, std).tolist())
