"""Puts a network in the place of another one, wherever a LightningModule holds that."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from lightning.pytorch import LightningModule
from torch import nn

from ssr_exp.config import TaskConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import replacing, user_modules


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
    replacing.put(module, conf.network, [(old, rescaled)], name)


def stand_in(module: LightningModule, conf: TaskConf, where: str, value: nn.Module) -> None:
    """Let something else compute wherever a module holds what lies at an attribute."""
    old, name = module.get_submodule(where), type(module).__name__
    replacing.stand_in(module, conf.network, old, value, name)


def replace(module: nn.Module, path: str, value: nn.Module) -> None:
    """Put another module where a path leads."""
    holder, _, name = path.rpartition(".")
    setattr(module.get_submodule(holder), name, value)


def _copies(
    module: LightningModule, old: nn.Module, conf: TaskConf
) -> Iterator[tuple[str, nn.Module]]:
    """List the copies of the network that are to be made anew, and refuse others.

    Raises:
        SsrError: if a module holds the network's weights a second time and nobody said what that
            is, or a name that was said is none.
    """
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
    for path in replacing.copies(module, old):
        if not any(path == one or path.startswith(f"{one}.") for one in said):
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
