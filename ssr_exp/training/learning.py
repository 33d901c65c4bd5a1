"""The task that a configuration names: a network goes in, a LightningModule comes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssr_exp.config import Balance, Config, TaskConf, TaskKind
from ssr_exp.datasets.images import IGNORED, Images, Splits, Target
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import Score
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.multilabel import Multilabel
from ssr_exp.tasks.regression import Regression
from ssr_exp.tasks.segmentation import SemanticSegmentation
from ssr_exp.tasks.supervised import Supervised

LONGEST_UNIT = 40
TASKS: dict[TaskKind, type[Supervised]] = {
    TaskKind.classification: Classification,
    TaskKind.multilabel: Multilabel,
    TaskKind.regression: Regression,
    TaskKind.segmentation: SemanticSegmentation,
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
            "task.balance=none (weights are for classes and labels, sampling for classes alone)."
        )
    if conf.name is not TaskKind.segmentation:
        for key in ("dice", "ignore_index"):
            if (value := getattr(conf, key)) != getattr(TaskConf(), key):
                said = "null" if value is None else value
                raise SsrError(f"task.{key}={said} is for task=segmentation: leave it out.")
    if conf.unit and not is_number:
        raise SsrError(f"task.unit={conf.unit} is for task=regression: leave it out.")
    if len(conf.unit) > LONGEST_UNIT:
        raise SsrError(f"task.unit has {len(conf.unit)} letters: type {LONGEST_UNIT} or fewer.")


def check_output(
    conf: TaskConf, name: str, shape: Sequence[int] | None, size: Sequence[int]
) -> None:
    """Refuse a network that names a class for each pixel where a task wants one for each image.

    Or the other way round.

    Args:
        conf: the task.
        name: of the network.
        shape: of its output for one image; None: it is not known.
        size: height and width of the images.

    Raises:
        SsrError: says what it puts out.
    """
    is_dense = conf.name is TaskKind.segmentation
    if shape is None or (tuple(shape[1:]) == tuple(size) if is_dense else len(shape) < 3):
        return
    puts = f"{name} puts out {'x'.join(map(str, shape))} for an image of {'x'.join(map(str, size))}"
    if is_dense:
        raise SsrError(
            f"{puts}, and task=segmentation needs a class for each pixel: type model=unet, "
            "model=torchvision model.name=fcn_resnet50, or a network of yours that puts out "
            "classes x height x width."
        )
    raise SsrError(
        f"{puts}, a class for each pixel, and task={conf.name.value} learns from the whole image: "
        "type task=segmentation, or another model."
    )


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
    weights = balanced(images) if conf.task.balance is Balance.weights else None
    if conf.task.name is TaskKind.segmentation:
        return SemanticSegmentation(
            network,
            conf.recipe,
            splits.num_classes,
            channels_last,
            teacher,
            weights,
            conf.task.dice,
            IGNORED,
        )
    kind = Multilabel if conf.task.name is TaskKind.multilabel else Classification
    return kind(network, conf.recipe, splits.num_classes, channels_last, teacher, weights)


def balanced(images: Images) -> Tensor:
    """Return weights that make all classes, or all labels and their absence, count alike.

    Of masks they are classes of pixels.
    """
    labels, count = images.labels, len(images.classes)
    if images.target is Target.masks:
        sizes = sum(torch.bincount(mask.flatten(), minlength=256)[:count] for mask in labels)
        assert isinstance(sizes, Tensor)
        return sizes.sum() / (count * sizes.clamp_min(1).float())
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
