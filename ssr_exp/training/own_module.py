"""A LightningModule of the user's own, unchanged: each training puts a rescaled network into it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ssr_exp import files, user_code
from ssr_exp.config import TaskConf
from ssr_exp.datasets.user_data import is_other_lightning
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import input_examples, inputs, rescale, transfer, user_modules
from ssr_exp.rescaling.inputs import Inputs, Signature
from ssr_exp.rescaling.transfer import Constructed
from ssr_exp.runs import trained
from ssr_exp.runs.score import Direction, Score
from ssr_exp.runs.store import LAST_CHECKPOINT, module_weights
from ssr_exp.training import relinking, resume

log = logging.getLogger(__name__)

TRAINER = (
    "max_epochs accelerator devices precision deterministic benchmark gradient_clip_val logger "
    "plugins default_root_dir enable_progress_bar enable_model_summary num_sanity_val_steps "
    "use_distributed_sampler strategy sync_batchnorm num_nodes fast_dev_run max_time max_steps "
    "barebones enable_checkpointing"
).split()  # arguments of Lightning's that other keys, or nobody, decides


def score(conf: TaskConf) -> Score:
    """Say how a module's networks are judged."""
    asked = conf.score
    assert asked.key is not None and asked.direction is not None
    low, high = asked.bounds
    if low is not None and high is not None and low >= high:
        raise SsrError(
            f"task.score.bounds are {low:g} and {high:g}: type the least first, as [0,1]."
        )
    return Score(
        key=asked.key,
        direction=Direction(asked.direction),
        unit=asked.unit,
        bounds=(low, high),
    )


def check_trainer(conf: TaskConf) -> None:
    """Refuse arguments of Lightning's Trainer that are not the user's to give here.

    Raises:
        SsrError: says which keys decide them.
    """
    for name in conf.trainer:
        if name in TRAINER:
            raise SsrError(
                f"task.trainer.{name} is decided elsewhere: by trainer.* and recipe.grad_clip, or "
                "because each network is trained alike by one process. Leave it out."
            )


def check(conf: TaskConf) -> None:
    """Refuse arguments of a module that no file can hold.

    Raises:
        SsrError: says what to give instead.
    """
    try:
        json.dumps(conf.arguments)
    except (TypeError, ValueError) as error:
        raise SsrError(
            f"task.arguments hold more than texts, numbers, lists and dictionaries ({error}): give "
            "{_target_: my_package.MyClass, ...} for what has to be made."
        ) from None


def make(conf: TaskConf, offered: Mapping[str, Any]) -> LightningModule:
    """Make the module that a configuration names, as its own code does.

    Args:
        conf: names it.
        offered: arguments that it is told if its signature names them.

    Raises:
        SsrError: if there is none, or it cannot be made.
    """
    target = str(conf.target)
    made: object = user_code.call(target, conf.arguments, "task.target", offered)
    if not isinstance(made, LightningModule):
        raise SsrError(
            f"{target} returns {user_code.article(made)}{is_other_lightning(made)}, not a "
            "LightningModule: task.target must name its class, or a function that makes one."
        )
    for step in ("training_step", "validation_step"):
        if not is_overridden(step, made, LightningModule):
            raise SsrError(
                f"{target} has no {step}: networks are trained by training_step and compared by "
                "what validation_step logs."
            )
    return made


def has_test(module: LightningModule) -> bool:
    """Say whether a module can be tested."""
    return is_overridden("test_step", module, LightningModule)


def network(module: LightningModule, conf: TaskConf) -> nn.Module:
    """Look up the network in a module.

    Raises:
        SsrError: if nothing is there, or no network is.
    """
    return user_modules.part(module, conf.network, type(module).__name__)


def constructed(conf: TaskConf, offered: Mapping[str, Any]) -> Constructed:
    """Say which weights a module's constructor gives its network, whatever it draws."""
    made = list[nn.Module]()
    with isolate_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            made.append(network(make(conf, offered), conf))
    one, again = made
    return transfer.constructed(one, again)


def load(folder: str | Path, *, trust: bool = False) -> LightningModule:
    """Make the module of a finished run, with its rescaled network and all that it learnt.

    Of a folder like `best/`, which holds the network alone, only that is loaded.

    Args:
        folder: of the run, with its `last.ckpt`; or one like `best/`.
        trust: call the function that makes the module, if a function does.

    Raises:
        SsrError: if there is none, or it is of no module of the user's own.
    """
    folder = Path(folder)
    remedy = "if you trust where it comes from, type own_module.load(folder, trust=True)"
    found = trained.read(folder, remedy, trust=trust)
    model, said = found.about.model, found.study.get("task", {})
    if not model.part:
        raise SsrError(f"{folder} is of task={said.get('name', 'classification')}: use saved.load.")
    conf = TaskConf(
        target=model.name.partition(user_modules.PART)[0],
        arguments=dict(model.arguments),
        network=model.part,
        copies=list(said.get("copies", ())),
        keep=list(said.get("keep", ())),
    )
    shape = found.about.input_shape
    module = make(conf, user_modules.offered(found.about.num_classes, shape[0]))
    relinking.put(module, conf, found.network)
    if (folder / LAST_CHECKPOINT).exists():
        restore(module, folder / LAST_CHECKPOINT)
    return module.eval()


def restore(module: LightningModule, checkpoint: Path) -> None:
    """Give a module all that it learnt, what it keeps by hooks of its own among it.

    Raises:
        SsrError: if the checkpoint cannot be read or is of another network, or the hook fails.
    """
    weights = module_weights(checkpoint)  # which says what is wrong with the file
    if is_overridden("on_load_checkpoint", module, LightningModule):
        name, content = type(module).__name__, files.read_checkpoint(checkpoint)
        kept_out = content.get(resume.KEY, {}).get("lost", ())
        if lost := [where for where in kept_out if not resume.is_of_lightning(where)]:
            said = "%s keeps no %s, so %s.on_load_checkpoint is not called"
            log.warning(said, checkpoint, " and ".join(lost), name)
        else:
            with user_code.explained(f"{name}.on_load_checkpoint fails"):
                module.on_load_checkpoint(content)
    rescale.load(module, weights, source=str(checkpoint))


class NetworkWatch(Callback):
    """Sees to it that the rescaled network is the one that is trained.

    Args:
        conf: says where it is in the module that is trained.
        expected: the rescaled network.
    """

    def __init__(self, conf: TaskConf, expected: nn.Module) -> None:
        self._conf, self._where, self._expected = conf, conf.network, expected
        self._scored: dict[str, Tensor] = {}
        self._left: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, after setup and configure_model, whether it still is there.

        Raises:
            SsrError: if the module made another one.
        """
        found = network(pl_module, self._conf)
        if getattr(found, "_orig_mod", None) is self._expected:
            raise SsrError(
                f"{type(pl_module).__name__} compiles {self._where} in setup or configure_model: "
                "leave that out there (often an argument, task.arguments.compile=false), and type "
                "trainer.compile=true."
            )
        if found is not self._expected:
            raise SsrError(
                f"{type(pl_module).__name__} makes {self._where} anew in setup or configure_model, "
                "so no rescaled network can be trained: make it in __init__, and only there."
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what was scored, before averages give way to what is trained on."""
        self._scored = {n: t.detach().clone() for n, t in pl_module.state_dict().items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what the module's own hooks made of buffers, after it was scored."""
        self._left = {n: t.detach().clone() for n, t in _buffers(pl_module).items()}

    def has_changed(self, module: LightningModule) -> bool:
        """Say whether a training ended with other weights than were scored last.

        Its last hooks may change them, as averaging callbacks do.
        """
        now, left = module.state_dict(), self._left
        changed = {n for n, kept in self._scored.items() if n in now and _differ(kept, now[n])}
        return any(n not in left or _differ(left[n], now[n]) for n in changed)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look whether the optimizers have its weights, and none that are nowhere any more.

        Raises:
            SsrError: if they train something else.
        """
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        named = {id(p): n for n, p in self._expected.named_parameters() if p.requires_grad}
        name = type(pl_module).__name__
        if trained - {id(parameter) for parameter in pl_module.parameters()}:
            raise SsrError(
                f"the optimizer of {name} has weights that are not the module's: make it in "
                f"configure_optimizers from self.parameters() or self.{self._where}.parameters()."
            )
        if not trained & named.keys():
            raise SsrError(
                f"no optimizer of {name} trains {self._where}: does task.network name what is "
                "trained?"
            )
        if left := [n for i, n in named.items() if i not in trained]:
            log.info("%s: %d weights of %s are not trained", name, len(left), self._where)


def _buffers(module: LightningModule) -> dict[str, Tensor]:
    """Return what a module keeps that is no parameter: buffers, states of metrics."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {n: t for n, t in module.state_dict().items() if n not in parameters}


def _differ(kept: Tensor, now: Tensor) -> bool:
    return not torch.equal(kept.cpu(), now.cpu())


def forward_inputs(
    network: nn.Module, example: Inputs | Sequence[int] | None, name: str
) -> Signature:
    """Read what a network is called with from a call of it, or from a shape without the batch.

    Args:
        network: that is called; its precision may be that of a training.
        example: of its inputs; None: it was not called.
        name: what errors call it.

    Raises:
        SsrError: if it was not called, or with inputs that cannot be stored or have no batch.
    """
    if example is None:
        raise SsrError(
            f"{name} is not called in validation_step, so what it takes is not known: type "
            "task.network=NAME with the attribute that is called there, or "
            "task.example_inputs=my_package.function that returns a batch of its inputs."
        )
    try:
        return input_examples.read(network, example)
    except SsrError as error:
        if isinstance(example, Inputs) and not example.kwargs and len(example.args) == 1:
            (x,) = example.args
            if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1:
                return inputs.of_shape(x.shape[1:], network)  # its trace says what is wrong
        raise SsrError(
            f"{name} cannot be called as validation_step calls it: {str(error).rstrip('.')}. Type "
            "task.network=NAME with a part of it, or task.example_inputs=my_package.function that "
            "returns a batch of its inputs."
        ) from None
