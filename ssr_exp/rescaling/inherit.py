"""Inherited weights: fill a rescaled network with slices of its trained seed network's.

One set of channels is kept in each group, and every parameter and statistic is cut by it, in all
its dimensions: a convolution, its batch norm and all that reads them stay together, and so does a
residual stream. Kept channels stay in their order, and kept blocks are the first of each segment.

Channels of one product of a grouped convolution that keeps its products' width (many and narrow)
are kept or dropped together, and so are those of a group norm. Of channels that are cut into equal
parts, by a grouped convolution that keeps its products' number or by a split, as many are kept of
each part.

Exact where channels keep their partners: what is left then computes what it computed in the seed
network, less what the removed channels and blocks added. Approximate are shortcuts that pad to fit
(option A of CIFAR ResNets: once widths change, they join other channels than before), norms over
several channels (layer norm), spectral norm (its slice is divided by a norm of its own), and splits
and shuffles between which there is no weight.

The L1 norm of its filter as a channel's worth: Li et al. 2017, https://arxiv.org/abs/1608.08710.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from ssr_exp.config import ChannelChoice
from ssr_exp.rescaling import initialise
from ssr_exp.rescaling.plan import Architecture, Plan, PlannedTensor
from ssr_exp.rescaling.tracing.labels import Vector

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]
WEIGHT_NORM = (("_v", "_g"), (".original1", ".original0"))  # names of directions and of lengths


@torch.no_grad()
def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    plan: Plan,
    architecture: Architecture,
    names: Mapping[str, str],
    *,
    by: ChannelChoice,
) -> None:
    """Give a rescaled network, in place, the weights and statistics of what it keeps.

    A tensor that the kept channels do not fit takes its first ones, with a warning that names it.

    Args:
        network: what `rescale.build` made of the architecture.
        state: the trained seed network's `state_dict`.
        plan: of the seed network.
        architecture: the rescaled network's.
        names: of its tensors, to those of the seed network's; see `rescale.names`.
        by: how the channels are chosen; see `choose`.
    """
    names = {new: old for new, old in names.items() if old in state}
    kept = choose(state, plan, architecture, names=set(names.values()), by=by)
    targets = dict(network.named_parameters()) | dict(network.named_buffers())
    for new, old in names.items():
        part, fits = cut(state[old], targets[new].shape, plan.leaves[old], kept)
        targets[new].copy_(part)
        if not fits:
            log.warning("%s inherits its first channels: those that were kept do not fit.", new)
    for length, direction, dim in initialise.weight_norms(network):
        if {length, direction} <= names.keys():
            whole = torch.norm_except_dim(state[names[direction]], 2, dim)
            part, _ = cut(whole, targets[length].shape, plan.leaves[names[length]], kept)
            _shorten(targets[length], targets[direction], part, dim)


def _shorten(length: Tensor, direction: Tensor, before: Tensor, dim: int) -> None:
    """Shorten the lengths of weight norm, in place, as their directions were, from `before`.

    A weight is its length times its direction, which is divided by its own norm: that of a part.
    """
    share = torch.norm_except_dim(direction, 2, dim) / before.to(direction.device)
    length.mul_(torch.where(share.isfinite(), share, 1))


def choose(
    state: Mapping[str, Tensor],
    plan: Plan,
    architecture: Architecture,
    *,
    names: Collection[str],
    by: ChannelChoice,
) -> Mask:
    """Choose the channels to keep: for each of the network's channels, whether it is.

    `l1` keeps the channels whose filters have the largest L1 norm, summed over all weights of the
    trained seed network's `state` (among `names`) that put the channel out, or where none does,
    over those that read it; `first` keeps the first ones. Equals are kept from the first.
    """
    nothing = np.zeros(len(plan.channel_groups))
    worth = _norms(state, plan, names) if by is ChannelChoice.l1 else nothing
    units = _units(plan)
    strata = _strata(plan, units)
    kept: Mask = plan.channel_groups < 0
    for group, size in enumerate(plan.sizes(architecture)):
        members = np.flatnonzero(plan.channel_groups == group)
        parts = plan.groups[group].multiple
        best = _best(worth[members], int(size), units[members], strata[members], parts)
        kept[members[best]] = True
    return kept


def products(leaf: PlannedTensor, shape: Sequence[int]) -> int:
    """Count the independent products of a weight whose number stays: a grouped convolution's.

    All other leaves, of this `shape` in the seed network, are one.
    """
    columns = leaf.channels[1] if len(shape) > 1 else None
    return 1 if columns is None else max(1, len(columns) // shape[1])


def cut(source: Tensor, shape: torch.Size, leaf: PlannedTensor, kept: Mask) -> tuple[Tensor, bool]:
    """Cut a seed network's tensor to `shape`, product by product; say whether all slices fit."""
    source = source.cpu()
    if not source.ndim:
        return source, True
    n, fits = products(leaf, source.shape), True
    sizes = (shape[0] // n, *shape[1:])
    masks = [_masks(source, leaf, kept, dim, n if dim < 2 else 1) for dim in range(source.ndim)]
    parts = []
    for j, part in enumerate(source.chunk(n)):
        for dim, (mask, size) in enumerate(zip((m[j % len(m)] for m in masks), sizes, strict=True)):
            is_fit = bool(mask.sum() == size)
            fits &= is_fit
            positions = np.flatnonzero(mask) if is_fit else np.arange(size)
            part = part.index_select(dim, torch.from_numpy(positions))
        parts.append(part)
    return torch.cat(parts), fits


def _masks(source: Tensor, leaf: PlannedTensor, kept: Mask, dim: int, n: int) -> list[Mask]:
    """Say which positions of a dimension are kept, for each of `n` products."""
    channels = leaf.channels[dim]
    if channels is None:
        everything = np.ones(source.shape[dim], dtype=bool)
        return np.split(everything, n) if dim == 0 else [everything]
    return np.split((channels < 0) | kept[channels], n)


def _norms(state: Mapping[str, Tensor], plan: Plan, names: Collection[str]) -> NDArray[np.float64]:
    made, met = np.zeros((2, len(plan.channel_groups)))
    is_made = np.zeros(len(made), dtype=bool)
    for name, leaf in plan.leaves.items():
        if not (leaf.is_parameter and len(leaf.shape) > 1 and name in names):
            continue
        if any(name.removesuffix(g) + v in state for v, g in WEIGHT_NORM if name.endswith(g)):
            continue  # a length, which its direction is given
        size = _weight(name, state).abs()
        for dim, channels in enumerate(leaf.channels):
            norms = None if channels is None else _sums(size, dim, len(channels))
            if channels is None or norms is None:
                continue
            free, puts_out = channels >= 0, dim in (leaf.out or (0,))
            np.add.at(made if puts_out else met, channels[free], norms[free])
            is_made[channels[free]] |= puts_out
    return np.where(is_made, made, met)


def _weight(name: str, state: Mapping[str, Tensor]) -> Tensor:
    """Look up a weight; a direction of weight norm has the length that it is given."""
    weight = state[name].detach().cpu().double()
    for direction, length in WEIGHT_NORM:
        given = state.get(name.removesuffix(direction) + length)
        if name.endswith(direction) and given is not None and given.ndim in (0, weight.ndim):
            given = given.detach().cpu().double()
            within = [dim for dim in range(weight.ndim) if not given.ndim or given.shape[dim] == 1]
            norm = weight.square().sum(within, keepdim=True).sqrt()
            return weight * (given / norm).nan_to_num()
    return weight


def _sums(size: Tensor, dim: int, n: int) -> NDArray[np.float64] | None:
    """Sum up what stands at each of `n` channels along a dimension, in each product its own.

    The rows of a weight are those of one product after the other; None where they are not.
    """
    n_products = n // size.shape[dim]
    if n_products * size.shape[dim] != n or not n or len(size) % n_products:
        return None
    each = size.reshape(n_products, -1, *size.shape[1:]).movedim(dim + 1, 1)
    return each.flatten(2).sum(2).flatten().numpy()


def _units(plan: Plan) -> Vector:
    """Number what is kept or dropped as one: for each channel the number of its unit."""
    runs = [np.empty((2, 0), dtype=np.int64)]
    for rows in plan.units:
        ends = np.stack([np.repeat(rows[:, 0], rows.shape[1]), rows.reshape(-1)])
        runs.append(ends[:, (ends >= 0).all(0)])
    one, other = np.concatenate(runs, axis=1)
    n = len(plan.channel_groups)
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _strata(plan: Plan, units: Vector) -> Vector:
    """Number the parts that channels lie in: for each channel the number of its unit's stratum.

    Units of one stratum are interchangeable: they are as large, and lie equally often in all
    vectors, and in all parts of these that stay equally long. A signature says so: a sum of random
    numbers, one for each part, as in `groups`.
    """
    draw = np.random.default_rng(0)
    signature = np.bincount(units) * draw.integers(2**31)
    for leaf in plan.leaves.values():
        shape = [int(form(plan.full_sizes)) for form in leaf.shape]
        for dim, channels in enumerate(leaf.channels):
            if channels is not None:
                for part in np.split(channels, products(leaf, shape) if dim < 2 else 1):
                    np.add.at(signature, units[part[part >= 0]], draw.integers(-(2**62), 2**62))
    return np.asarray(np.unique(signature, return_inverse=True)[1][units], dtype=np.int64)


def _best(worth: NDArray[np.float64], size: int, units: Vector, strata: Vector, parts: int) -> Mask:
    """Choose `size` of a group's channels, as large a share of each stratum.

    A group's multiple that no weight explains comes of a split into so many equal parts. Where the
    shares are not whole, the strata are left out of account, but units stay whole.
    """
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    total = np.bincount(unit, worth).astype(np.float64)
    width, stratum = np.bincount(unit), strata[first]
    if len(np.unique(stratum)) == 1 and width.max() == 1:
        stratum = np.arange(len(first)) * parts // len(first)
    picked = np.zeros(len(first), dtype=bool)
    for members in (np.flatnonzero(stratum == number) for number in np.unique(stratum)):
        share, rest = divmod(int(width[members].sum()) * size, len(units) * int(width[members[0]]))
        if rest:
            first_ones = _whole_units(total / width, width, size)[unit]
            return _top(np.where(first_ones, np.inf, worth), size)
        picked[members[_top(total[members], share)]] = True
    return np.asarray(picked[unit])


def _whole_units(worth: NDArray[np.float64], width: NDArray[np.int64], size: int) -> Mask:
    """Choose the best units that fit into `size` channels; each worth is that of a channel."""
    picked, left = np.zeros(len(width), dtype=bool), size
    for unit in np.argsort(-worth, kind="stable"):
        picked[unit] = width[unit] <= left
        left -= int(width[unit]) if picked[unit] else 0
    return picked


def _top(worth: NDArray[np.float64], count: int) -> Mask:
    top = np.zeros(len(worth), dtype=bool)
    top[np.argsort(-worth, kind="stable")[:count]] = True
    return top
