"""Puts a network in the place of another one, wherever a LightningModule holds that."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ssr_exp.config import TaskConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import user_modules

DEEPEST = 6  # levels of lists, dictionaries and objects that may hold the network
LIBRARIES = ("torch", "lightning", "lightning_fabric", "torchmetrics", "builtins", "collections")


def put(module: LightningModule, conf: TaskConf, rescaled: nn.Module) -> None:
    """Put a rescaled network into a module that was just made, wherever that holds its own one.

    Args:
        module: as its constructor left it.
        conf: says where the network is, and what is a copy of it.
        rescaled: the new one.

    Raises:
        SsrError: if the module holds a part that the new one lacks, or a copy that nobody named.
    """
    name = type(module).__name__
    old = user_modules.part(module, conf.network, name)
    for path, kept in _copies(module, old, conf):
        made = copy.deepcopy(rescaled)
        learns = {n: p.requires_grad for n, p in kept.named_parameters()}
        for n, parameter in made.named_parameters():
            parameter.requires_grad_(learns.get(n, any(learns.values())))
        replace(module, path, made.train(kept.training))
    new = {id(part): _same(path, old, rescaled) or path for path, part in old.named_modules()}
    tensors = {id(t): n for n, t in [*old.named_parameters(), *old.named_buffers()]}
    _Relinking(name, conf, new, tensors).of(module, "", DEEPEST)


def stand_in(module: LightningModule, conf: TaskConf, where: str, value: nn.Module) -> None:
    """Let something else compute wherever a module holds what lies at an attribute."""
    replaced = {id(module.get_submodule(where)): value}
    _Relinking(type(module).__name__, conf, replaced, {}).of(module, "", DEEPEST)


def replace(module: nn.Module, path: str, value: nn.Module) -> None:
    """Put another module where a path leads."""
    holder, _, name = path.rpartition(".")
    setattr(module.get_submodule(holder), name, value)


def _same(path: str, old: nn.Module, rescaled: nn.Module) -> nn.Module | None:
    """Find what a module of the whole network is in a rescaled one; None if that may lack it.

    Where a sequence lost blocks, the rest of it is numbered anew.
    """
    for name in filter(None, path.split(".")):
        if [*dict(old.named_children())] != [*dict(rescaled.named_children())]:
            return None
        old, rescaled = old.get_submodule(name), rescaled.get_submodule(name)
    return rescaled


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
        if is_telling(tensor):
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


def is_telling(tensor: Tensor) -> bool:
    """Say whether no other tensor holds the same by chance."""
    return (
        tensor.is_floating_point()
        and tensor.numel() > 8
        and bool((tensor != tensor.flatten()[0]).any())
    )
