"""Two batches before anything is trained: what a user's own module takes, logs and cannot do."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ssr_exp import user_code
from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import input_examples
from ssr_exp.rescaling.inputs import Inputs, Signature
from ssr_exp.runs.score import Score
from ssr_exp.tasks.supervised import TEST, VAL, Diverged
from ssr_exp.training import own_module, relinking, scoring, trainers
from ssr_exp.training.weight_watch import WeightWatch

log = logging.getLogger(__name__)

BATCHES = 2
TRUE_PRECISIONS = {"bf16-true": "bfloat16", "16-true": "float16", "64-true": "float64"}


@dataclass(frozen=True)
class Tried:
    """What two batches showed of a module of the user's own.

    Attributes:
        inputs: what its network is called with in validation.
        scored: the attribute that validation calls: the network, or a copy such as an average.
    """

    inputs: Signature
    scored: str


class Watch(Callback):
    """Notes how the network, or a copy of it, is called, and what is logged in validation.

    Args:
        networks: whose calls count, by the attribute; the network first.
        score: that has to be logged.
    """

    def __init__(self, networks: Mapping[str, nn.Module], score: Score) -> None:
        self.networks, self._score = networks, score
        self.calls: dict[str, Inputs] = {}  # the first one of each in validation
        self.training: dict[str, Inputs] = {}  # likewise in training
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._watch(self.training)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unwatch()
        self._watch(self.calls)

    def _watch(self, calls: dict[str, Inputs]) -> None:
        for name, network in self.networks.items():
            note = partial(self._note, calls, name)
            self._hooks.append(network.register_forward_pre_hook(note, with_kwargs=True))

    @staticmethod
    def _note(
        calls: dict[str, Inputs],
        name: str,
        _: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        calls.setdefault(name, Inputs(args, kwargs))

    def _unwatch(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unwatch()
        try:
            value = scoring.read(self._score, trainer.callback_metrics)
        except Diverged:
            log.warning(
                "%s is not finite after %d batches: networks of which it is so after an epoch "
                "count as diverged",
                self._score.key,
                BATCHES,
            )
            return
        if self._score.bounds[1] == 100 and 0 < value <= 1:
            log.warning(
                "%s is %.3g after %d batches, and its bounds are %s: if it is a share, type "
                "'task.score.bounds=[0,1]'",
                self._score.key,
                value,
                BATCHES,
                self._score.between(),
            )


def try_module(
    conf: Config,
    module: LightningModule,
    data: LightningDataModule,
    score: Score,
) -> Tried:
    """Train a module on two batches and validate it on two.

    Args:
        conf: its configuration.
        module: as it was made; it is trained on, so make another one afterwards.
        data: likewise.
        score: that it has to log on val.

    Raises:
        SsrError: if its code fails, logs no such score, calls its network otherwise, or would go on
            with weights of the whole network where a rescaled one is put in.
    """
    whole = own_module.network(module, conf.task)
    network = copy.deepcopy(whole)
    relinking.put(module, conf.task, network)
    copies = {path: module.get_submodule(path) for path in conf.task.copies}
    networks = {conf.task.network: network} | copies
    watch, weights = Watch(networks, score), WeightWatch(networks)
    expected = own_module.NetworkWatch(conf.task, network)
    name = f"{type(module).__name__}.{conf.task.network}"
    with (
        _two_batches(conf, watch, weights, expected) as trainer,
        user_code.explained(f"{conf.task.target} does not train"),
        _none_runs(whole, name),
    ):
        trainer.fit(module, data)
    weights.check(type(module).__name__)
    if len(called := [name for name in watch.networks if name in watch.calls]) > 1:
        log.warning(
            "validation calls %s: the weights of %s are those that are handed on",
            " and ".join(called),
            called[0],
        )
    scored = called[0] if called else conf.task.network
    if conf.task.example_inputs is not None:
        made = user_code.call(conf.task.example_inputs, {}, "task.example_inputs", {})
        example: Any = made if input_examples.is_shape(made) else input_examples.as_inputs(made)
    else:
        example = watch.calls.get(scored)
        array: Any = module.example_input_array
        if example is None and isinstance(array, dict):  # as Lightning reads it
            example = Inputs(kwargs=array)
        elif example is None and isinstance(array, Tensor | tuple):
            example = input_examples.as_inputs(array)
    given = own_module.forward_inputs(watch.networks[scored], example, name)
    taken = _as_it_is_made(given, conf.trainer.precision)
    _say_what_differs(watch, given, name)
    return Tried(taken, scored)


def try_smaller(
    conf: Config,
    module: LightningModule,
    data: LightningDataModule,
    network: nn.Module,
    code: str,
) -> None:
    """Train a module with a smaller network on two batches, after its whole one was tried.

    Args:
        conf: its configuration.
        module: as it was made; it is trained on.
        data: likewise.
        network: that is put into it.
        code: of that, for the error.

    Raises:
        SsrError: if its code needs something that only the whole network has.
    """
    relinking.put(module, conf.task, network)
    whole = f"{type(module).__name__}.{conf.task.network}"
    expected = own_module.NetworkWatch(conf.task, network)
    try:
        with (
            _two_batches(conf, expected) as trainer,
            user_code.explained(f"{conf.task.target} does not train"),
        ):
            trainer.fit(module, data)
    except Diverged:
        return
    except SsrError as error:
        raise SsrError(
            f"{str(error).rstrip('.')}, with a smaller network ({code}), where the whole one does. "
            f"What reads channels inside of {whole}, or keeps tensors of its size, has to take "
            "them from the network that is there; or leave that segment as it is, with "
            "'segment.frozen=[NAME]'."
        ) from None


@contextmanager
def _none_runs(whole: nn.Module, name: str) -> Iterator[None]:
    """Refuse that layers run of the network in whose place another was put.

    Args:
        whole: that network.
        name: where the module has its own, for the error.

    Raises:
        SsrError: names the first one.
    """
    layers = {layer: path for path, layer in whole.named_modules()}

    def refuse(layer: nn.Module, _: Any) -> None:
        if layer in layers:
            raise SsrError(
                f"{'.'.join(filter(None, (name, layers[layer])))} is called as it was made, where "
                "a smaller one was put in its place, so all networks would score the same: "
                "something outside the module holds it. Let that look it up in the module."
            )

    handle = register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


def try_test(
    conf: Config,
    module: LightningModule,
    data: LightningDataModule,
    score: Score,
    *,
    has_val: bool,
) -> None:
    """Train a module on two batches and test it on two, as its finalists will be.

    Args:
        conf: its configuration.
        module: as it was made; it is trained on.
        data: likewise, with test data.
        score: that it has to log on test.
        has_val: whether it is validated, too; else val is learnt from.

    Raises:
        SsrError: if it has no test_step, or that fails or logs no such score; or if it waits for
            what is logged on val where there is none.
    """
    target = conf.task.target
    if not own_module.has_test(module):
        raise SsrError(
            f"{target} has no test_step, and networks are tested by what that logs: add "
            f"def test_step(self, batch, batch_idx) that logs {score.key}, or type "
            "trainer.test=false (of a search: finalists.seeds=0)."
        )
    with _two_batches(conf) as trainer:
        if not has_val:
            trainer.limit_val_batches = 0
        without = "" if has_val else " without val"
        with user_code.explained(f"{target} does not train{without}"):
            try:
                trainer.fit(module, data)
            finally:
                _check_monitors(trainer, conf)
        with user_code.explained(f"{target} does not test"):
            trainer.test(module, data, verbose=False)
    with suppress(Diverged):
        scoring.read(score, trainer.callback_metrics, TEST)


def check_stops_without_val(conf: Config) -> None:
    """Refuse early stopping by val for one of our tasks, where val is learnt from.

    Raises:
        SsrError: says what it may monitor.
    """
    made = user_code.made(conf.task.trainer.get("callbacks", []))
    for one in made if isinstance(made, list) else [made]:
        watches_val = isinstance(one, EarlyStopping) and one.monitor.startswith(f"{VAL}/")
        if watches_val and one.strict and _checks_after_train(one, conf):
            raise SsrError(
                f"{type(one).__name__} of task.trainer.callbacks monitors {one.monitor}, which "
                "nothing logs where val is learnt from, as by finalists: let it monitor "
                "train/loss, or type dataset.train_on_val=false (of a search: finalists.seeds=0)."
            )


def _checks_after_train(one: EarlyStopping, conf: Config) -> bool:
    """Say whether it looks after each epoch of training, as Lightning decides; else after val."""
    usual = {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
    own = one._check_on_train_epoch_end
    return all(conf.task.trainer.get(k, v) == v for k, v in usual.items()) if own is None else own


def _check_monitors(trainer: Trainer, conf: Config) -> None:
    """Refuse schedules and callbacks that wait for what was logged nowhere.

    Raises:
        SsrError: says for what they do.
    """
    waiting = [(c.scheduler, c.monitor, c.strict) for c in trainer.lr_scheduler_configs]
    stopping = [(c, c.monitor, c.strict) for c in trainer.early_stopping_callbacks]
    for one, monitor, is_strict in [*waiting, *stopping]:
        if is_strict and monitor is not None and monitor not in trainer.callback_metrics:
            raise SsrError(
                f"{type(one).__name__} of {conf.task.target} monitors {monitor}, which nothing "
                "logs where val is learnt from, as by finalists: let it monitor what training_step "
                "logs, or serve val by a LightningDataModule of yours (dataset=module), or type "
                "finalists.seeds=0."
            )


@contextmanager
def _two_batches(conf: Config, *watching: Callback) -> Iterator[Trainer]:
    """Set up a trainer of two batches as the configuration has it; no random number is used up."""
    arguments = {
        "accelerator": conf.trainer.accelerator,
        # The one of this process, where several train a network together.
        "devices": [torch.cuda.current_device()] if _is_on_gpu(conf) else 1,
        "precision": conf.trainer.precision,
        "gradient_clip_val": conf.recipe.grad_clip,
    }
    user = {k: v for k, v in conf.task.trainer.items() if not k.startswith("limit_")}
    with isolate_rng(), trainers.quiet():
        torch.manual_seed(0)
        with user_code.explained(f"{conf.task.target} does not train"):
            epochs = conf.trainer.max_epochs
            trainer = trainers.two_batches(BATCHES, watching, arguments | user, epochs=epochs)
        yield trainer


def _is_on_gpu(conf: Config) -> bool:
    return conf.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _as_it_is_made(taken: Signature, precision: str) -> Signature:
    """Say in float32 what a training was given in its own precision: networks are made so."""
    dtype = TRUE_PRECISIONS.get(precision)
    tensors = tuple(
        tensor.model_copy(update={"dtype": "float32"}) if tensor.dtype == dtype else tensor
        for tensor in taken.tensors
    )
    return taken.model_copy(update={"tensors": tensors})


def _say_what_differs(watch: Watch, taken: Signature, name: str) -> None:
    """Warn where training calls the network with something else than validation does."""
    called = next((each for each in watch.networks if each in watch.training), None)
    if called is None or not watch.calls:
        return
    try:
        given = input_examples.difference(watch.networks[called], watch.training[called], taken)
    except SsrError as error:  # its training takes what no signature holds
        given = str(error).rstrip(".")
    if given:
        log.warning(
            "training_step calls %s otherwise than validation_step (%s): costs, latencies and "
            "exports are of what validation_step gives",
            name,
            given,
        )
