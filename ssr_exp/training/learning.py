"""The task that a configuration names: a network goes in, a LightningModule comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from ssr_exp.config import Balance, Config, RecipeConf, TaskConf, TaskKind
from ssr_exp.datasets import user_data
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.images import IGNORED, Images, Splits, Target
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.datasets.sources import MASKS
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import user_modules
from ssr_exp.runs.score import Score
from ssr_exp.tasks import processes
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.multilabel import Multilabel
from ssr_exp.tasks.regression import Regression
from ssr_exp.tasks.segmentation import SemanticSegmentation
from ssr_exp.tasks.supervised import Supervised
from ssr_exp.training import own_module, relinking

LONGEST_UNIT = 40
STEADY = 1e-9  # a deviation, as a share of the mean, that rounding of equal numbers may give
HALVES = ("bf16-true", "16-true")  # precisions in which all numbers are of 16 bits
NONE_IGNORED = -100  # no class, as torch has it
# Keys of a task that only a module of the user's own reads.
OF_MODULES = ("arguments", "network", "copies", "keep", "example_inputs", "version", "study")
log = logging.getLogger(__name__)

TASKS: dict[TaskKind, type[Supervised]] = {
    TaskKind.classification: Classification,
    TaskKind.multilabel: Multilabel,
    TaskKind.regression: Regression,
    TaskKind.segmentation: SemanticSegmentation,
}
TargetMoments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each number that is learnt, in its unit."""


def check(whole: Config) -> None:
    """Refuse settings that a task would ignore.

    Raises:
        SsrError: says for which task they are.
    """
    conf = whole.task
    own_module.check_trainer(conf)
    if conf.name is TaskKind.module:
        own_module.check(conf)
    else:
        _check_no_module(conf)
    if whole.dataset.target is not None:
        _check_own_data(whole)
    is_class, is_number = (conf.name is k for k in (TaskKind.classification, TaskKind.regression))
    if (conf.balance is Balance.sampling and not is_class) or (
        conf.balance is Balance.weights and (is_number or conf.name is TaskKind.module)
    ):
        raise SsrError(
            f"task.balance={conf.balance.value} is not for task={conf.name.value}: type "
            "task.balance=none (weights are for classes and labels, sampling for classes alone)."
        )
    if conf.name is not TaskKind.segmentation:
        # Masks are read for a module of the user's own, too.
        has_masks = conf.name is TaskKind.module and whole.dataset.name == MASKS
        for key in ("dice",) if has_masks else ("dice", "ignore_index"):
            if (value := getattr(conf, key)) != getattr(TaskConf(), key):
                said = "null" if value is None else value
                raise SsrError(f"task.{key}={said} is for task=segmentation: leave it out.")
    if is_number and whole.trainer.precision in HALVES:
        raise SsrError(
            f"trainer.precision={whole.trainer.precision} rounds the numbers that are to be "
            "learnt, and the errors that are measured: type trainer.precision=bf16-mixed, or "
            "32-true."
        )
    if whole.recipe.ema_decay and whole.trainer.precision in HALVES:
        raise SsrError(
            f"trainer.precision={whole.trainer.precision} rounds away what a step changes of an "
            "average: type trainer.precision=bf16-mixed or 32-true, or recipe.ema_decay=null."
        )
    if is_number and whole.recipe.label_smoothing:
        log.warning(
            "recipe.label_smoothing=%g smooths classes, and task=regression has none: it changes "
            "nothing but the study's name.",
            whole.recipe.label_smoothing,
        )
    if conf.unit and not is_number:
        raise SsrError(f"task.unit={conf.unit} is for task=regression: leave it out.")
    if len(conf.unit) > LONGEST_UNIT:
        raise SsrError(f"task.unit has {len(conf.unit)} letters: type {LONGEST_UNIT} or fewer.")


def _check_no_module(conf: TaskConf) -> None:
    """Refuse what only a module of the user's own reads: nothing would change but the study."""
    if conf.target is not None:
        raise SsrError(f"task.target={conf.target} goes with task=module: type that, too.")
    asked, usual = asdict(conf), asdict(TaskConf())
    keys = [key for key in OF_MODULES if asked[key] != usual[key]]
    keys += [f"score.{k}" for k, v in asked["score"].items() if v != usual["score"][k]]
    if keys:
        raise SsrError(
            f"task.{keys[0]} is for task=module, a LightningModule of yours, and "
            f"task={conf.name.value} does not read it: leave it out."
        )


def _check_own_data(conf: Config) -> None:
    """Refuse or name what is of our data, where a DataModule of the user's own serves them."""
    if conf.dataset.train_on_val:
        raise SsrError(
            "dataset.train_on_val=true is for images that ssr_exp splits; dataset=module decides "
            "itself what is learnt from: leave it out."
        )
    if conf.trainer.workers:
        raise SsrError(
            "trainer.workers are for data sets of ours: type dataset.arguments.NAME=VALUE for the "
            "workers of your own."
        )
    if conf.task.name is not TaskKind.module and conf.recipe.batch_size != RecipeConf().batch_size:
        log.warning(
            "recipe.batch_size=%d is for data sets of ours: with dataset=module it changes nothing "
            "but the study's name; type dataset.arguments.NAME=VALUE for the batches of your own.",
            conf.recipe.batch_size,
        )
    if conf.task.name is TaskKind.regression or conf.task.balance is not Balance.none:
        asked = "task=regression" if conf.task.name is TaskKind.regression else "task.balance"
        raise SsrError(
            f"{asked} has to know all targets, which dataset=module does not show: type "
            "task=module with a LightningModule of yours, or dataset=csv."
        )


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
    """Say how a task judges networks.

    Raises:
        SsrError: if it is said wrongly for a module of the user's own.
    """
    if conf.name is TaskKind.module:
        return own_module.score(conf)
    unit = {"unit": conf.unit} if conf.name is TaskKind.regression else {}
    return TASKS[conf.name].score.model_copy(update=unit)


def test_score(conf: TaskConf) -> Score:
    """Say what a task logs on test."""
    on_val, key = score(conf), conf.score.test_key
    return on_val.test if key is None else on_val.model_copy(update={"key": key})


def offered(splits: Splits | UserData) -> dict[str, Any]:
    """List what a module of the user's own is told if its signature names it."""
    return user_modules.offered(splits.num_classes, splits.image_shape[0])


def data(conf: Config, splits: Splits | UserData) -> LightningDataModule:
    """Return what serves the data of a training."""
    if isinstance(splits, UserData):
        own = user_data.make(conf.dataset)
        if processes.count() > 1:
            user_data.share_out(own)
        return own
    return TensorDataModule(
        splits,
        batch_size=conf.recipe.batch_size,
        augmentation=Augmentation.from_conf(conf.dataset),
        seed=conf.seed,
        channels_last=bool(conf.trainer.channels_last),
        is_balanced=conf.task.balance is Balance.sampling,
        workers=conf.trainer.workers,
        # A module of the user's own may measure in any way: each process shows it all of val.
        shares_val=conf.task.name is not TaskKind.module,
    )


def task(
    conf: Config,
    splits: Splits | UserData,
    network: nn.Module,
    teacher: nn.Module | None = None,
    stands_in: tuple[str, nn.Module] | None = None,
    teacher_moments: TargetMoments | None = None,
) -> LightningModule:
    """Return the task that trains a network.

    Args:
        conf: the configuration.
        splits: what is learnt from.
        network: the network.
        teacher: that it learns from; None: there is none.
        stands_in: computes in the place of an attribute, for validation alone; None: nothing does.
        teacher_moments: of the numbers that the teacher's outputs stand for; None: not known.

    Raises:
        SsrError: if a module of the user's own cannot take the network.
    """
    channels_last = bool(conf.trainer.channels_last)
    if conf.task.name is TaskKind.module:
        module = own_module.make(conf.task, offered(splits))
        relinking.put(module, conf.task, network)
        if stands_in is not None:
            relinking.stand_in(module, conf.task, *stands_in)
        return module.to(memory_format=torch.channels_last) if channels_last else module
    network = network if stands_in is None else stands_in[1]
    if isinstance(splits, Splits) and conf.task.name is TaskKind.regression:
        moments = target_moments(splits.train)
        assert moments is not None
        return Regression(network, conf.recipe, *moments, channels_last, teacher, teacher_moments)
    assert splits.num_classes is not None
    common = network, conf.recipe, splits.num_classes, channels_last, teacher
    weights, ignored = None, IGNORED
    if isinstance(splits, UserData):
        ignored = NONE_IGNORED if conf.task.ignore_index is None else conf.task.ignore_index
    elif conf.task.balance is Balance.weights:
        weights = balanced(splits.train)
    if conf.task.name is TaskKind.segmentation:
        return SemanticSegmentation(*common, weights, conf.task.dice, ignored)
    kind = Multilabel if conf.task.name is TaskKind.multilabel else Classification
    return kind(*common, weights)


def balanced(images: Images) -> Tensor:
    """Return weights that make all classes, or all labels and their absence, count alike.

    Of masks they are classes of pixels. What there is nothing of weighs 1.
    """
    labels, count = images.labels, len(images.classes)
    if images.target is Target.masks:
        sizes = sum(torch.bincount(mask.flatten(), minlength=256)[:count] for mask in labels)
        assert isinstance(sizes, Tensor)
        return torch.where(sizes > 0, sizes.sum() / (count * sizes.clamp_min(1).float()), 1.0)
    if labels.ndim == 1:
        sizes = torch.bincount(labels, minlength=count)
        return torch.where(sizes > 0, len(labels) / (count * sizes.clamp_min(1).float()), 1.0)
    positives = labels.sum(0)
    weights = (len(labels) - positives).clamp_min(1) / positives.clamp_min(1)
    return torch.where(positives > 0, weights, 1.0)


def target_moments(images: Images) -> TargetMoments | None:
    """Return mean and standard deviation of each number that is learnt; None where it is none.

    The deviation of a number that never changes is 1.
    """
    if images.target is not Target.numbers:
        return None
    numbers = images.labels.double()
    mean, std = numbers.mean(0), numbers.std(0, correction=0)
    changes = std > STEADY * mean.abs()
    return tuple(mean.tolist()), tuple(torch.where(changes, std, 1.0).tolist())
