"""What a study has to know of a DataModule of the user's own, before anything is trained."""

from __future__ import annotations

from numbers import Integral

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from ssr_exp import user_code
from ssr_exp.config import Config, TaskKind
from ssr_exp.datasets import data_fingerprint, user_data
from ssr_exp.datasets.reading import Reading
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import Score
from ssr_exp.training import own_module, preflight, trainers
from ssr_exp.training.preflight import Tried


def describe(conf: Config, score: Score) -> tuple[UserData, Tried | None]:
    """Learn what a study has to know of a user's DataModule, and of the module that reads it.

    Returns:
        What is known of the data, and what was seen of the user's own module, if there is one.

    Raises:
        SsrError: if either fails on two batches.
    """
    data = user_data.make(conf.dataset)
    has_test, num_classes, tried = user_data.has_test(data), None, None
    if conf.task.name is TaskKind.module:
        made = own_module.make(conf.task, {})
        has_test = has_test and own_module.has_test(made)
        tried = preflight.try_module(conf, made, data, score)
        shape = tried.inputs.shape
    else:
        num_classes, shape = _classes_and_inputs(conf)
    is_one = tried is None or tried.inputs.is_one_image
    text = " x ".join(map(str, shape)) if is_one or tried is None else tried.inputs.text()
    with isolate_rng(), trainers.quiet():
        content = data_fingerprint.fingerprint(conf.dataset)
    classes = tuple(map(str, range(num_classes or 0)))
    found = UserData(
        conf.dataset.name,
        content.fingerprint,
        shape,
        num_classes,
        has_test,
        Reading(
            name=conf.dataset.name,
            parts={part: {} for part, size in content.sizes.items() if size},
            sources={},
            sizes=content.sizes,
            targets=f"data of {conf.dataset.target}",
            pixels=f"inputs of {text}",
        ),
        classes,
        mean=(0.0,) * (shape[0] if num_classes else 0),
        std=(1.0,) * (shape[0] if num_classes else 0),
        before=content.before,
    )
    return found, tried


def _classes_and_inputs(conf: Config) -> tuple[int, tuple[int, ...]]:
    """Return how many classes a DataModule has, and the shape of one input of its val."""
    with isolate_rng():
        data = user_data.ready(conf.dataset)
        name = type(data).__name__
        classes = _classes(data)
        with user_code.explained(f"{name} gives no val batch"):
            batch = next(iter(data.val_dataloader()))
        _check_length(data)
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not is_pair or not all(isinstance(part, Tensor) for part in batch) or batch[0].ndim < 2:
        raise SsrError(
            f"a batch of {name} is {user_code.article(batch)}, and our tasks read a pair of two "
            "tensors, inputs and targets: type task=module with a LightningModule of yours."
        )
    return classes, tuple(batch[0].shape[1:])


def _check_length(data: LightningDataModule) -> None:
    """Refuse training data of unknown length, by which no learning rate could fall.

    Raises:
        SsrError: then.
    """
    name, is_known = type(data).__name__, True
    with user_code.explained(f"{name} gives no training data"):
        loader = data.train_dataloader()
        try:
            len(loader)
        except (TypeError, NotImplementedError):
            is_known = False
    if not is_known:
        raise SsrError(
            f"{name}.train_dataloader does not say how long it is, and the learning rate of our "
            "recipes falls by that: give its IterableDataset a __len__, or type task=module with "
            "a LightningModule of yours."
        )


def _classes(data: LightningDataModule) -> int:
    """Ask a DataModule that was set up how many classes there are."""
    for name in ("num_classes", "n_classes"):
        with user_code.explained(f"{type(data).__name__}.{name} fails"):
            value = getattr(data, name, None)
        if isinstance(value, Integral) and int(value) > 0:
            return int(value)
    raise SsrError(
        f"{type(data).__name__} does not say how many classes there are: give it an attribute "
        "num_classes, or type task=module with a LightningModule of yours."
    )
