"""First values that a constructor chose, not drew, or drew otherwise than its modules do.

Chosen are patterns, tables, priors and constants; a table of tokens with a spread of 0.02 is drawn
otherwise.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    owners, redrawn = dict(list_owners(network)), functools.cache(_redrawn)
    knows_draws = not is_trained(network)
    priors = _priors(parameters, owners) if knows_draws else set[str]()
    chosen, drawn = set(), set()
    asked = {*owners} if names is None else {*owners} & {*names}
    for name, owner in owners.items():
        tensor, end = parameters[name], name.rpartition(".")[2]
        if name not in asked or not _can_be_told(tensor):
            continue
        by_itself = draws(owner)
        if by_itself and not isinstance(owner, LAYERS) and end in owner._parameters:
            sample = redrawn(owner)[end]
            by_itself = not bool(sample.isnan().any())  # what its reset leaves alone it is told
            if by_itself and knows_draws and _is_drawn_otherwise(tensor, sample):
                drawn.add(name)
        if _is_set(tensor, by_itself=by_itself and name not in drawn):
            chosen.add(name)
    if len(priors) <= max(FEW_PRIORS, sum(map(_is_bias, owners, owners.values())) // 2):
        chosen |= priors & asked
    elif _are_of_one_draw([parameters[name] for name in priors]):
        drawn |= priors
    return FirstValues(frozenset(chosen), frozenset(drawn))


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
        learns = any(True for _ in module.parameters(recurse=False))  # else it may be told them
        if not learns or mean is None or mean.is_meta or not bool(mean.any()):
            continue
        if batches is None or not 0 < int(batches) <= DRY_RUNS:
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
    if weight.is_meta or weight.ndim < 2 or weight.numel() < SMALLEST_OWN:
        return False
    if not weight.is_floating_point():
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
    if not len(values):
        return False
    return all(bool((part == values[0]).all()) for part in (values[:LONGEST], values))


def _can_be_told(tensor: Tensor) -> bool:
    """Say whether a parameter holds numbers that are more than one constant."""
    is_there = tensor.is_floating_point() and not tensor.is_meta and tensor.numel() > 0
    return is_there and not is_constant(tensor)


def _is_set(original: Tensor, *, by_itself: bool) -> bool:
    """Say whether first values show a pattern, or are few and repeat, or no module draws them."""
    if repeats_rows(original):
        return False
    if is_patterned(original, by_itself=by_itself):
        return True
    count = original.numel()
    return count < SHORTEST and (not by_itself or len(original.unique()) < count)


def _is_bias(name: str, owner: nn.Module) -> bool:
    return name.rpartition(".")[2] == "bias" and isinstance(owner, LAYERS)


def _priors(parameters: Mapping[str, Tensor], owners: Mapping[str, nn.Module]) -> set[str]:
    """Name the biases that PyTorch's own draw cannot give, such as priors of classes."""
    priors = set()
    for name, owner in owners.items():
        original, path = parameters[name], name.rpartition(".")[0]
        if not _is_bias(name, owner) or not _can_be_told(original):
            continue
        weights = (parameters.get(f"{path}.{direction}".lstrip(".")) for direction in DIRECTIONS)
        weight = next((one for one in weights if one is not None), None)
        if weight is None or weight.is_meta:
            continue
        if float(original.abs().max()) > 1.001 / math.sqrt(weight[0].numel()):
            priors.add(name)
    return priors


def _are_of_one_draw(tensors: Sequence[Tensor]) -> bool:
    """Say whether tensors have one mean and spread, as those that were trained have not."""
    largest = max(tensors, key=Tensor.numel).double()
    return not any(_strays(tensor.double(), largest) for tensor in tensors)


def _redrawn(owner: nn.Module) -> Mapping[str, Tensor]:
    """Let a copy of a module draw its weights, NaN where it does not; torch's generator stays."""
    copy: Any = copying.copied(owner, {})
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.is_floating_point():
                parameter.fill_(math.nan)
    with torch.random.fork_rng(devices=[]):
        copy.reset_parameters()
    return {name: p.detach() for name, p in copy.named_parameters(recurse=False)}


def _is_drawn_otherwise(tensor: Tensor, sample: Tensor) -> bool:
    """Say whether a constructor drew otherwise than a module does, as 0.02 of an embedding."""
    if tensor.numel() < SMALLEST_OWN:
        return False
    return _strays(tensor.double(), sample.double()) or is_orthogonal(tensor)


def _strays(tensor: Tensor, other: Tensor) -> bool:
    """Say whether two samples have another mean or spread; a constant has none."""
    spread, error = float(tensor.std(correction=0)), SIGMAS / math.sqrt(tensor.numel())
    expected = float(other.std(correction=0))
    if abs(spread - expected) > error * min(spread, expected):
        return True
    return abs(float(tensor.mean() - other.mean())) > error * max(spread, expected)


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
