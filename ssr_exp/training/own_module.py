"""A LightningModule of the user's own, unchanged: each training puts a rescaled network into it."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ssr_exp import user_code
from ssr_exp.config import TaskConf
from ssr_exp.datasets.user_data import is_other_lightning
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import rescale, user_modules
from ssr_exp.runs import trained
from ssr_exp.runs.score import Direction, Score
from ssr_exp.runs.store import LAST_CHECKPOINT, module_weights

log = logging.getLogger(__name__)

DEEPEST = 6  # levels of lists, dictionaries and objects that may hold the network
LIBRARIES = ("torch", "lightning", "lightning_fabric", "torchmetrics", "builtins", "collections")
TRAINER = (
    "max_epochs accelerator devices precision deterministic benchmark gradient_clip_val logger "
    "plugins default_root_dir enable_progress_bar enable_model_summary num_sanity_val_steps "
    "use_distributed_sampler strategy num_nodes fast_dev_run max_time max_steps barebones "
    "enable_checkpointing"
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


def check(conf: TaskConf) -> None:
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


def loads_weights(conf: TaskConf, offered: Mapping[str, Any]) -> bool:
    """Say whether a module's constructor gives its network weights that were trained before.

    They are the same whatever random numbers there are.
    """
    states = []
    with isolate_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            states.append(network(make(conf, offered), conf).state_dict())
    drawn = [n for n, t in states[0].items() if _is_telling(t)]
    return bool(drawn) and all(torch.equal(states[0][n], states[1][n]) for n in drawn)


def put(module: LightningModule, conf: TaskConf, rescaled: nn.Module) -> None:
    """Put a rescaled network into a module that was just made, wherever that holds its own one.

    Args:
        module: as its constructor left it.
        conf: says where the network is, and what is a copy of it.
        rescaled: the new one.

    Raises:
        SsrError: if the module holds a part that the new one lacks, or a copy that nobody named.
    """
    old, name = network(module, conf), type(module).__name__
    for path, kept in _copies(module, old, conf):
        made = copy.deepcopy(rescaled)
        learns = {n: p.requires_grad for n, p in kept.named_parameters()}
        for n, parameter in made.named_parameters():
            parameter.requires_grad_(learns.get(n, any(learns.values())))
        replace(module, path, made.train(kept.training))
    new = {id(part): _same(path, old, rescaled) or path for path, part in old.named_modules()}
    tensors = {id(t): n for n, t in [*old.named_parameters(), *old.named_buffers()]}
    _Relinking(name, conf, new, tensors).of(module, "", DEEPEST)


def _same(path: str, old: nn.Module, rescaled: nn.Module) -> nn.Module | None:
    """Find what a module of the whole network is in a rescaled one; None if that may lack it.

    Where a sequence lost blocks, the rest of it is numbered anew.
    """
    for name in filter(None, path.split(".")):
        if [*dict(old.named_children())] != [*dict(rescaled.named_children())]:
            return None
        old, rescaled = old.get_submodule(name), rescaled.get_submodule(name)
    return rescaled


def stand_in(module: LightningModule, conf: TaskConf, where: str, value: nn.Module) -> None:
    """Let something else compute wherever a module holds what lies at an attribute."""
    replaced = {id(module.get_submodule(where)): value}
    _Relinking(type(module).__name__, conf, replaced, {}).of(module, "", DEEPEST)


class _Relinking:
    """Puts new modules in the places of old ones, in all that an object holds.

    Args:
        name: of the module, for errors.
        conf: says where the network is.
        new: by the identity of an old module the new one, or its path where there is none.
        tensors: by the identity of an old tensor its name.
    """

    def __init__(
        self,
        name: str,
        conf: TaskConf,
        new: Mapping[int, nn.Module] | Mapping[int, nn.Module | str],
        tensors: Mapping[int, str],
    ) -> None:
        self._name, self._conf, self._new, self._tensors = name, conf, new, tensors
        self._seen: set[int] = set()

    def of(self, value: Any, where: str, levels: int) -> Any:
        """Return what stands for a value: itself, changed inside where that is needed."""
        if id(value) in self._new:
            made = self._new[id(value)]
            if isinstance(made, str):
                raise SsrError(
                    f"{self._name} holds a part of its network at {where}, {made}, which a smaller "
                    f"network may lack: let it look up {self._conf.network} where it needs that."
                )
            return made
        if id(value) in self._tensors:
            raise SsrError(
                f"{self._name} holds weights of its network at {where}: they would stay those of "
                f"the whole one. Make what holds them later, in configure_optimizers or "
                "on_fit_start, or look them up where they are needed."
            )
        if isinstance(value, MethodType) and id(value.__self__) in self._new:
            return getattr(self.of(value.__self__, where, levels), value.__name__)
        if levels == 0 or id(value) in self._seen:
            return value
        self._seen.add(id(value))
        return self._inside(value, where, levels - 1)

    def _inside(self, value: Any, where: str, levels: int) -> Any:
        if isinstance(value, dict):
            for key, part in list(value.items()):
                value[key] = self.of(part, _joined(where, key), levels)
        elif isinstance(value, list):
            value[:] = [self.of(part, f"{where}[{i}]", levels) for i, part in enumerate(value)]
        elif type(value) in (tuple, set, frozenset):
            return type(value)(self.of(part, where, levels) for part in value)
        elif isinstance(value, nn.Module):
            self._module(value, where, levels)
        elif isinstance(value, torch.optim.Optimizer) or _is_foreign(value):
            self.of(vars(value), where, levels)
        return value

    def _module(self, value: nn.Module, where: str, levels: int) -> None:
        """Go through a module's parts and attributes; how deep its parts lie does not matter."""
        for key, part in list(vars(value).items()):
            if key == "_modules":
                for child, held in list(part.items()):
                    part[child] = self.of(held, _joined(where, child), DEEPEST)
            elif key == "_parameters":
                self.of(part, where, levels)
            elif not key.startswith("_forward") and not key.startswith("_backward"):
                vars(value)[key] = self.of(part, _joined(where, key), levels)


def _joined(where: str, key: object) -> str:
    return f"{where}.{key}".lstrip(".") if where else str(key)


def _is_foreign(value: Any) -> bool:
    """Say whether a value is an object of a class that may hold a network, as no library's is."""
    kind = type(value).__module__.partition(".")[0]
    return hasattr(value, "__dict__") and not isinstance(value, type) and kind not in LIBRARIES


def _copies(
    module: LightningModule, old: nn.Module, conf: TaskConf
) -> Iterator[tuple[str, nn.Module]]:
    """List the copies of the network that are to be made anew, and refuse others.

    Raises:
        SsrError: if a module holds the network's weights a second time and nobody said what that
            is, or a name that was said is none.
    """
    own = {id(part) for part in old.modules()}
    theirs: dict[tuple[int, ...], list[Tensor]] = {}
    for tensor in [*old.parameters(), *old.buffers()]:
        if _is_telling(tensor):
            theirs.setdefault(tuple(tensor.shape), []).append(tensor)
    for path in (*conf.copies, *conf.keep):
        user_modules.part(module, path, type(module).__name__)
    for path in conf.copies:
        kept = module.get_submodule(path)
        here, there = ({n: t.shape for n, t in m.state_dict().items()} for m in (kept, old))
        if here != there:
            raise SsrError(
                f"task.copies names {path}, which is not like {conf.network}: leave it out."
            )
        yield path, kept
    said = (*conf.copies, *conf.keep)
    for path, part in module.named_modules():
        if id(part) in own or any(path == one or path.startswith(f"{one}.") for one in said):
            continue
        held = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        for tensor in held:
            if any(torch.equal(tensor, other) for other in theirs.get(tuple(tensor.shape), ())):
                top = _whole(path, module, old)
                raise SsrError(
                    f"{type(module).__name__} holds a copy of {conf.network} at {top}: type "
                    f"task.copies=[{top}] to have it copied from each rescaled network (as for an "
                    f"average of its weights), or task.keep=[{top}] to leave it as it is (as for a "
                    "teacher)."
                )


def _whole(path: str, module: nn.Module, old: nn.Module) -> str:
    """Name what holds a copied tensor: the module that is like the network, or else the first."""
    shapes = {name: tensor.shape for name, tensor in old.state_dict().items()}
    parts = path.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        state = module.get_submodule(name).state_dict()
        if {n: t.shape for n, t in state.items()} == shapes:
            return name
    return parts[0]


def _is_telling(tensor: Tensor) -> bool:
    """Say whether no other tensor holds the same by chance."""
    return (
        tensor.is_floating_point()
        and tensor.numel() > 8
        and bool((tensor != tensor.flatten()[0]).any())
    )


def replace(module: nn.Module, path: str, value: nn.Module) -> None:
    """Put another module where a path leads."""
    holder, _, name = path.rpartition(".")
    setattr(module.get_submodule(holder), name, value)


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
    put(module, conf, found.network)
    if (folder / LAST_CHECKPOINT).exists():
        path = folder / LAST_CHECKPOINT
        rescale.load(module, module_weights(path), source=str(path))
    return module.eval()


class NetworkWatch(Callback):
    """Sees to it that the rescaled network is the one that is trained.

    Args:
        conf: says where it is in the module that is trained.
        expected: the rescaled network.
    """

    def __init__(self, conf: TaskConf, expected: nn.Module) -> None:
        self._conf, self._where, self._expected = conf, conf.network, expected

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, after setup and configure_model, whether it still is there.

        Raises:
            SsrError: if the module made another one.
        """
        if network(pl_module, self._conf) is not self._expected:
            raise SsrError(
                f"{type(pl_module).__name__} makes {self._where} anew in setup or configure_model, "
                "so no rescaled network can be trained: make it in __init__, and only there."
            )

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


def forward_inputs(
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]], name: str
) -> tuple[int, ...]:
    """Return the shape of one input, without the batch, of the calls of a network.

    Raises:
        SsrError: if it was not called, or with anything but one tensor.
    """
    if not calls:
        raise SsrError(
            f"{name} is not called in validation_step, so what it takes is not known: type "
            "task.network=NAME with the attribute that is called there, or "
            "task.example_inputs=my_package.function that returns a batch of its inputs."
        )
    args, kwargs = calls[0]
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor) or args[0].ndim < 2:
        words = [user_code.article(a) for a in args] + [f"{key}=..." for key in kwargs]
        raise SsrError(
            f"{name} is called with {', '.join(words) or 'nothing'}, and what is rescaled takes "
            "one tensor, a batch: type task.network=NAME with the part of it that does."
        )
    return tuple(args[0].shape[1:])
