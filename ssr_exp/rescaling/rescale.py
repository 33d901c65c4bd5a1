"""Build a rescaled network: fewer blocks, fewer channels, dense, with fresh weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import draw
from ssr_exp.rescaling.groups import Form, Sizes
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan


def build(network: nn.Module, plan: Plan, modifiers: Modifiers | Architecture) -> nn.Module:
    """Make the rescaled network of a seed network.

    The result is an ordinary module of the seed's classes, freshly initialised from torch's global
    generator, on the CPU. Its state dict loads with `strict=True` into any other build of the same
    modifiers. The seed network is not changed.

    Args:
        network: the seed network, as its constructor left it.
        plan: what `segments.find` made of it.
        modifiers: one depth and width for each segment, or an effective architecture.

    Raises:
        SsrError: if the modifiers cannot be met.

    Warns:
        UserWarning: if modifiers other than 1 round to the seed network itself.
    """
    if isinstance(modifiers, Modifiers):
        architecture = plan.effective(modifiers)
        if architecture == plan.baseline and modifiers != Modifiers.full(len(modifiers)):
            warnings.warn(unchanged(modifiers), stacklevel=2)
    else:
        architecture = modifiers
    rescaled, names = _assembled(network, plan, architecture, device="cpu")
    draw.fresh(rescaled, network, names)
    return rescaled


def skeleton(network: nn.Module, plan: Plan, architecture: Architecture) -> nn.Module:
    """Make a rescaled network without data: on the meta device, for its shapes alone."""
    return _assembled(network, plan, architecture, device="meta")[0]


def names(network: nn.Module, plan: Plan, architecture: Architecture) -> dict[str, str]:
    """Map the names of a rescaled network's parameters and buffers to the seed network's."""
    return _assembled(network, plan, architecture, device="meta")[1]


def _assembled(
    network: nn.Module, plan: Plan, architecture: Architecture, *, device: str
) -> tuple[nn.Module, dict[str, str]]:
    rescaled = _resized(network, plan, architecture, device)
    kept = {name: name for name in plan.leaves}
    for holder, children in _by_holder(_removed(plan, architecture)).items():
        kept = _remove(rescaled, holder, children, kept)
    return rescaled, kept


def unchanged(modifiers: Modifiers) -> str:
    """Say that modifiers round to the seed network itself."""
    return (
        f"these modifiers change nothing (depth {list(modifiers.depth)}, width "
        f"{list(modifiers.width)}): after rounding to whole blocks and channels it is the baseline."
    )


def load(network: nn.Module, state: Mapping[str, Any], *, source: str) -> None:
    """Load a state dict strictly.

    Raises:
        SsrError: if it is of another network; names `source` and the first difference.
    """
    mine, theirs = network.state_dict(), dict(state)
    for name in [*mine, *theirs]:
        here, there = (_shape(tensors.get(name)) for tensors in (mine, theirs))
        if here != there:
            raise SsrError(
                f"the checkpoint {source} does not fit this network: {name} is {there} there and "
                f"{here} here; give the modifiers that it was trained with."
            )
    network.load_state_dict(theirs, strict=True)


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


def _removed(plan: Plan, architecture: Architecture) -> list[str]:
    pairs = zip(plan.segments, architecture.blocks, strict=True)
    return [path for segment, kept in pairs for block in segment.blocks[kept:] for path in block]


def _by_holder(paths: list[str]) -> dict[str, list[str]]:
    holders: dict[str, list[str]] = {}
    for path in paths:
        holder, _, child = path.rpartition(".")
        holders.setdefault(holder, []).append(child)
    return holders


def _resized(network: nn.Module, plan: Plan, architecture: Architecture, device: str) -> nn.Module:
    """Copy the modules around tensors of the new shapes; no weight is copied."""
    sizes = plan.sizes(architecture)
    memo: dict[int, Any] = {}
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        shape = [int(form(sizes)) for form in plan.leaves[name].shape]
        if isinstance(tensor, nn.Parameter):
            empty = torch.empty(shape, dtype=tensor.dtype, device=device)
            memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        elif list(tensor.shape) == shape:
            memo[id(tensor)] = tensor.detach().to(device, copy=True)
        else:
            memo[id(tensor)] = _leading(tensor, shape).to(device, copy=True)
    rescaled = copy.deepcopy(network, memo)
    for (path, attribute), form in plan.attributes.items():
        _set(rescaled.get_submodule(path), attribute, form, sizes)
    return rescaled


def _leading(buffer: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Take the first entries of a buffer: statistics and kernels are alike for all channels."""
    return buffer.detach()[tuple(slice(size) for size in shape)]


def _set(module: nn.Module, attribute: str, form: Form | tuple[Form, ...], sizes: Sizes) -> None:
    """Store a width, or a list of widths as what it was: a list, a tuple, a `Size`."""
    if isinstance(form, Form):
        setattr(module, attribute, int(form(sizes)))
    else:
        kind = type(vars(module)[attribute])
        setattr(module, attribute, kind(int(part(sizes)) for part in form))


def _remove(
    network: nn.Module, holder: str, children: list[str], names: dict[str, str]
) -> dict[str, str]:
    """Take blocks out of their holder; number the rest anew where the holder is a sequence.

    Returns the names of all parameters that are left, with the seed's names for them.
    """
    module = network.get_submodule(holder)
    prefix = f"{holder}." if holder else ""
    old = [name for name, _ in module.named_children()]
    kept = [name for name in old if name not in children]
    if not _is_sequence(module):
        for child in children:
            setattr(module, child, nn.Identity())
        return {new: seed for new, seed in names.items() if not _below(new, prefix, children)}
    modules = [module.get_submodule(name) for name in kept]
    numbered = all(name.isdigit() for name in old)
    for name in old:
        delattr(module, name)
    renamed = [str(n) for n in range(len(kept))] if numbered else kept
    for name, child_module in zip(renamed, modules, strict=True):
        module.add_module(name, child_module)
    moves = {prefix + old_name: prefix + new for old_name, new in zip(kept, renamed, strict=True)}
    names = {new: seed for new, seed in names.items() if not _below(new, prefix, children)}
    return {_moved(new, moves): seed for new, seed in names.items()}


def _is_sequence(module: nn.Module) -> bool:
    """Say whether a module runs whatever children it has, in order."""
    return isinstance(module, nn.ModuleList) or (
        isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    )


def _below(name: str, prefix: str, children: list[str]) -> bool:
    return any(name.startswith(f"{prefix}{child}.") for child in children)


def _moved(name: str, moves: Mapping[str, str]) -> str:
    for old, new in moves.items():
        if name.startswith(f"{old}."):
            return new + name[len(old) :]
    return name
