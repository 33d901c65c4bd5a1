"""First values that a constructor chose, not drew, or drew otherwise than its modules do.

Chosen are patterns, tables, priors and constants; a table of tokens with a spread of 0.02 is drawn
otherwise.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ssr_exp.rescaling import copying

SHORTEST = 8  # entries that may show a pattern; fewer rise or fall by chance
SMOOTH = 64  # entries that may show that neighbours are alike
LONGEST = 4096  # entries that are looked at
SMALLEST_OWN = 16  # elements that say how far one module's spread is from another one
SIGMAS = 5  # how far a sample's mean or standard deviation may stray from what is expected
DRY_RUNS = 10  # batches that a constructor may run to learn a size
FEW_PRIORS = 8  # of the heads of one network
STATISTICS = ("running_mean", "num_batches_tracked")
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)  # those that most networks are made of
DIRECTIONS = (
    "weight",
    "weight_v",
    "weight_orig",
    *(f"parametrizations.weight.original{number}" for number in ("1", "", "0")),
)
"""What a weight is, or is computed from, and has its shape: its name in the module."""


@dataclass(frozen=True)
class FirstValues:
    """What the constructor of a network did beside its modules' own draws.

    Args:
        chosen: parameters, by their names, that every rescaled network takes from it.
        drawn: parameters that it drew otherwise than their module draws them.
    """

    chosen: frozenset[str]
    drawn: frozenset[str]


def read(network: nn.Module, names: Collection[str] | None = None) -> FirstValues:
    """Tell what a constructor chose, and what it drew for itself.

    Of weights that were trained nothing is known, but patterns of few values.

    Args:
        network: with the weights that its constructor gave it.
        names: of the parameters that are asked for; None: all.
    """
    parameters = {n: p.detach() for n, p in network.named_parameters(remove_duplicate=False)}
    owners = dict(list_owners(network))
    asked = {n: owner for n, owner in owners.items() if names is None or n in names}
    priors = {name for name, owner in owners.items() if _is_prior(name, owner, parameters)}
    biases = [n for n, owner in owners.items() if n.endswith("bias") and isinstance(owner, LAYERS)]
    if is_trained(network) or len(priors) > max(FEW_PRIORS, len(biases) // 2):
        priors, drawn = set(), set()
    else:
        drawn = {*_drawn_otherwise(parameters, asked)}
    kept = {
        name
        for name, owner in asked.items()
        if _is_set(parameters[name], owner)
        or (name in drawn and is_patterned(parameters[name], by_itself=False))
    }
    return FirstValues(frozenset(priors & {*asked} | kept), frozenset(drawn))


def list_owners(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name the module of each parameter; of a parametrized one, whose weight it is."""
    for path, module in network.named_modules():
        if isinstance(module, ParametrizationList):
            holder = network.get_submodule(path.rpartition(".parametrizations.")[0])
            yield from ((name, holder) for name, _ in module.named_parameters(path, recurse=False))
            continue
        for name, _ in module.named_parameters(prefix=path, recurse=False):
            yield name, module


def draws(owner: nn.Module) -> bool:
    """Say whether a module draws its own weights, when it is asked to and told nothing."""
    reset = getattr(owner, "reset_parameters", None)
    if not callable(reset):
        return False
    return all(p.default is not p.empty for p in inspect.signature(reset).parameters.values())


def is_trained(network: nn.Module) -> bool:
    """Say whether statistics of norms show that weights were loaded, more than a dry run does."""
    for module in network.modules():
        buffers = dict(module.named_buffers(recurse=False))
        mean, batches = (buffers.get(name) for name in STATISTICS)
        if not isinstance(mean, Tensor) or mean.is_meta or not bool(mean.any()):
            continue
        if not isinstance(batches, Tensor) or not 0 < int(batches) <= DRY_RUNS:
            return True  # old files count no batches
    return False


def is_patterned(original: Tensor, *, by_itself: bool) -> bool:
    """Say whether a parameter's first values were set and not drawn: a kernel, a table, edges.

    Few values that repeat (a bilinear kernel, an identity), a sequence that only rises or falls,
    or, if not drawn `by_itself` by its module, values of which each is near the next (sines).
    """
    if original.is_meta or original.numel() < SHORTEST or not original.is_floating_point():
        return False
    if is_constant(original):
        return False
    if _repeats(original.flatten()) or is_ordered(original):
        return True
    return not by_itself and any(_is_smooth(original, dim) for dim in range(original.ndim))


def is_ordered(original: Tensor) -> bool:
    """Say whether values only rise or fall: edges of bands, rates, positions."""
    steps = original.flatten()[:LONGEST].double().diff()
    return len(steps) >= SHORTEST - 1 and bool((steps > 0).all() or (steps < 0).all())


def repeats_rows(original: Tensor) -> bool:
    """Say whether at most half of its rows differ, which were drawn: of a pixel shuffle's layer.

    So are members of an ensemble that begin alike.
    """
    if original.is_meta or original.ndim < 2 or not original.is_floating_point():
        return False
    if original.numel() < SHORTEST or is_constant(original):
        return False
    rows = original.flatten(1)
    columns = torch.linspace(0, rows.shape[1] - 1, min(SHORTEST, rows.shape[1])).long()
    distinct, group = rows[:, columns.to(rows.device)].double().unique(dim=0, return_inverse=True)
    if len(distinct) > len(rows) // 2:
        return False
    members = group.new_empty(len(distinct)).scatter_(0, group, torch.arange(len(rows)).to(group))
    once = original[members]  # a kernel, or a spectrum, that each channel has was not drawn
    are_flat = bool((distinct == distinct[:, :1]).all(1).any())
    return once.numel() >= SHORTEST and not are_flat and not is_patterned(once, by_itself=False)


def is_orthogonal(weight: Tensor) -> bool:
    """Say whether the rows of a matrix, or its columns, are orthogonal and of one length."""
    if weight.ndim < 2 or weight.numel() < SMALLEST_OWN or not weight.is_floating_point():
        return False
    flat = weight.flatten(1)
    few = (flat if len(flat) <= flat.shape[1] else flat.T)[:SHORTEST].double()
    product = few @ few.T
    length = float(product.diagonal().mean())
    unit = torch.eye(len(few), device=few.device)
    return len(few) > 1 and length > 0 and bool((product / length - unit).abs().max() < 1e-4)


def is_constant(parameter: Tensor) -> bool:
    """Say whether all values of a parameter are one."""
    if parameter.is_meta:
        return False
    values = parameter.flatten()
    return all(bool((part == values[0]).all()) for part in (values[:LONGEST], values))


def _is_set(original: Tensor, owner: nn.Module) -> bool:
    """Say whether first values show a pattern, or are few and repeat, or no module draws them."""
    if repeats_rows(original):
        return False
    if is_patterned(original, by_itself=draws(owner)):
        return True
    if original.is_meta or not original.is_floating_point() or is_constant(original):
        return False
    count = original.numel()
    return count < SHORTEST and (not draws(owner) or len(original.unique()) < count)


def _is_prior(name: str, owner: nn.Module, parameters: Mapping[str, Tensor]) -> bool:
    """Say whether a parameter is a bias that PyTorch's own draw cannot give: priors of classes."""
    path, _, end = name.rpartition(".")
    original = parameters[name]
    if end != "bias" or not isinstance(owner, LAYERS) or not original.is_floating_point():
        return False
    if original.is_meta or is_constant(original):
        return False
    weights = (parameters.get(f"{path}.{direction}".lstrip(".")) for direction in DIRECTIONS)
    weight = next((one for one in weights if one is not None), None)
    if weight is None or weight.is_meta:
        return False
    return float(original.abs().max()) > 1.001 / math.sqrt(weight[0].numel())


def _drawn_otherwise(
    parameters: Mapping[str, Tensor], owners: Mapping[str, nn.Module]
) -> Iterator[str]:
    """Name what the constructor drew otherwise than its module does, as 0.02 of an embedding.

    Of the usual layers the spread is looked at anyway.
    """
    redrawn = dict[nn.Module, Mapping[str, Tensor]]()
    for name, owner in owners.items():
        tensor, end = parameters[name], name.rpartition(".")[2]
        if isinstance(owner, LAYERS) or end not in owner._parameters or not draws(owner):
            continue
        if tensor.numel() < SMALLEST_OWN or not tensor.is_floating_point() or tensor.is_meta:
            continue
        if is_constant(tensor):
            continue
        if owner not in redrawn:
            redrawn[owner] = _redrawn(owner)
        if _strays(tensor.double(), redrawn[owner][end].double()) or is_orthogonal(tensor):
            yield name


def _redrawn(owner: nn.Module) -> Mapping[str, Tensor]:
    """Let a copy of a module draw its weights, and leave torch's generator as it was."""
    copy: Any = copying.copied(owner, {})
    with torch.random.fork_rng(devices=[]):
        copy.reset_parameters()
    return {name: p.detach() for name, p in copy.named_parameters(recurse=False)}


def _strays(tensor: Tensor, other: Tensor) -> bool:
    """Say whether two samples have another mean or spread; a constant has none."""
    spread, error = tensor.std(), SIGMAS / math.sqrt(tensor.numel())
    if float((spread / other.std() - 1).abs()) > error:
        return True
    return float((tensor.mean() - other.mean()).abs()) > error * float(spread)


def _repeats(values: Tensor) -> bool:
    """Say whether few of the values differ: at most two thirds of few, and else a quarter."""
    values = values[:: len(values) // LONGEST | 1][:LONGEST]  # an odd step meets all columns
    few = 2 * len(values) // 3 if len(values) < SMOOTH else len(values) // 4
    if values.dtype.itemsize < 4:
        few = min(16, len(values) // 4)
    return len(values) >= SHORTEST and len(values.double().unique()) <= few


def _is_smooth(original: Tensor, dim: int) -> bool:
    """Say whether entries are near their neighbours along a dimension; random ones are not."""
    centred = original.double() - original.double().mean(dim, keepdim=True)
    if original.shape[dim] < SHORTEST or original.numel() < SMOOTH:
        return False
    rest = original.shape[dim] - 1
    products = centred.narrow(dim, 1, rest) * centred.narrow(dim, 0, rest)
    return bool(products.mean() > 0.7 * centred.square().mean())
