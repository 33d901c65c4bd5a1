"""Two batches before anything is trained: what a user's own module takes, logs and cannot do."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ssr_exp import user_code
from ssr_exp.config import Config, TaskKind
from ssr_exp.datasets import user_data
from ssr_exp.datasets.reading import Reading
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError, cause
from ssr_exp.runs import provenance
from ssr_exp.runs.score import Score
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.training import own_module, scoring, trainers

log = logging.getLogger(__name__)

BATCHES = 2
Call = tuple[tuple[Any, ...], Mapping[str, Any]]


class Watch(Callback):
    """Notes how the network is called in validation, and whether the score is logged there.

    Args:
        network: whose calls count.
        score: that has to be logged.
    """

    def __init__(self, network: nn.Module, score: Score) -> None:
        self._network, self._score = network, score
        self.calls: list[Call] = []
        self._hook: Any = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def note(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            self.calls.append((args, kwargs))

        self._hook = self._network.register_forward_pre_hook(note, with_kwargs=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hook.remove()
        try:
            scoring.read(self._score, trainer.callback_metrics)
        except Diverged:
            log.warning(
                "%s is not finite after %d batches: where that is no fault, networks of which it "
                "stays so count as diverged",
                self._score.key,
                BATCHES,
            )


def module_inputs(
    conf: Config,
    module: LightningModule,
    data: LightningDataModule,
    score: Score,
) -> tuple[int, ...]:
    """Train a module on two batches and validate it on two.

    Args:
        conf: its configuration.
        module: as it was made; it is trained on, so make another one afterwards.
        data: likewise.
        score: that it has to log on val.

    Returns:
        The shape of one input of its network, without the batch.

    Raises:
        SsrError: if its code fails, logs no such score, or calls its network otherwise.
    """
    network = own_module.network(module, conf.task)
    watch = Watch(network, score)
    expected = own_module.NetworkWatch(conf.task, network)
    arguments = {
        "accelerator": conf.trainer.accelerator,
        "devices": 1,
        "precision": conf.trainer.precision,
        "gradient_clip_val": conf.recipe.grad_clip,
    }
    user = {k: v for k, v in conf.task.trainer.items() if not k.startswith("limit_")}
    with isolate_rng(), trainers.quiet():
        torch.manual_seed(0)
        try:
            trainers.two_batches(BATCHES, [watch, expected], arguments | user).fit(module, data)
        except SsrError:
            raise
        except Exception as error:  # of anyone's code
            log.debug("the first batches failed", exc_info=True)
            raise SsrError(
                f"{conf.task.target} does not train: {_where(error)}{cause(error)}."
            ) from error
    if conf.task.example_inputs is not None:
        inputs = user_code.call(conf.task.example_inputs, {}, "task.example_inputs", {})
        watch.calls = [((inputs,), {})]
    elif not watch.calls and isinstance(module.example_input_array, Tensor):
        watch.calls = [((module.example_input_array,), {})]
    return own_module.forward_inputs(watch.calls, f"{type(module).__name__}.{conf.task.network}")


def own_data(conf: Config, score: Score) -> UserData:
    """Learn what a study has to know of a user's DataModule, and of the module that reads it.

    Raises:
        SsrError: if either fails on two batches.
    """
    data = user_data.make(conf.dataset)
    has_test, num_classes = user_data.has_test(data), None
    if conf.task.name is TaskKind.module:
        module = own_module.make(conf.task, {})
        has_test = has_test and own_module.has_test(module)
        shape = module_inputs(conf, module, data, score)
    else:
        num_classes, shape = _classes(data), _inputs(data)
    with isolate_rng(), trainers.quiet():
        fingerprint, sizes = user_data.content(data, conf.dataset.version)
    classes = tuple(map(str, range(num_classes or 0)))
    return UserData(
        conf.dataset.name,
        fingerprint,
        shape,
        num_classes,
        has_test,
        Reading(
            name=conf.dataset.name,
            parts={part: {} for part, size in sizes.items() if size},
            sources={},
            sizes=sizes,
            targets=f"data of {conf.dataset.target}",
            pixels=f"inputs of {' x '.join(map(str, shape))}",
        ),
        classes,
        mean=(0.0,) * (shape[0] if num_classes else 0),
        std=(1.0,) * (shape[0] if num_classes else 0),
    )


def _inputs(data: LightningDataModule) -> tuple[int, ...]:
    """Set a DataModule up, and return the shape of one input of its first val batch."""
    name = type(data).__name__
    try:
        data.prepare_data()
        data.setup("fit")
        batch = next(iter(data.val_dataloader()))
    except Exception as error:  # of anyone's code
        raise SsrError(f"{name} gives no val batch: {_where(error)}{cause(error)}.") from error
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not is_pair or not all(isinstance(part, Tensor) for part in batch) or batch[0].ndim < 2:
        raise SsrError(
            f"a batch of {name} is {user_code.article(batch)}, and our tasks read a pair of two "
            "tensors, inputs and targets: type task=module with a LightningModule of yours."
        )
    return tuple(batch[0].shape[1:])


def _classes(data: LightningDataModule) -> int:
    """Ask a DataModule how many classes there are."""
    for name in ("num_classes", "n_classes"):
        if isinstance(value := getattr(data, name, None), int) and value > 0:
            return value
    raise SsrError(
        f"{type(data).__name__} does not say how many classes there are: give it an attribute "
        "num_classes, or type task=module with a LightningModule of yours."
    )


def _where(error: Exception) -> str:
    """Say where someone's code failed: the innermost line that is not a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if user_code.is_own_file(f.filename)]
    ours = Path(__file__).parents[1]
    own = [frame for frame in own if not Path(frame.filename).is_relative_to(ours)]
    if provenance.is_out_of_memory(error):
        return "out of memory, "
    return f"in {Path(own[-1].filename).name}, line {own[-1].lineno}, " if own else ""
