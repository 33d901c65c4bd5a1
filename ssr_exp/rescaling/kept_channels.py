"""Which channels of a trained seed network a rescaled one keeps: one set for each group.

Channels of one product of a grouped convolution that keeps its products' width (many and narrow)
are kept or dropped together, and so are those of a group norm. Of channels that are cut into equal
parts, by a grouped convolution that keeps its products' number or by a split, as many are kept of
each part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ssr_exp.config import ChannelChoice
from ssr_exp.rescaling.plan import Architecture, Plan, PlannedTensor
from ssr_exp.rescaling.tracing.channel_groups import Form
from ssr_exp.rescaling.tracing.labels import Vector

Mask = NDArray[np.bool_]
GROUPS = ("groups", "num_groups")  # of a convolution or group norm; one that follows its width


def choose(
    state: Mapping[str, Tensor],
    plan: Plan,
    architecture: Architecture,
    *,
    names: Collection[str],
    by: ChannelChoice,
) -> Mask:
    """Choose the channels to keep: for each of the network's channels, whether it is.

    Args:
        state: the trained seed network's `state_dict`.
        plan: of the seed network.
        architecture: says how many channels of each group are kept.
        names: the parameters whose weights count, in the seed network's names.
        by: `l1` keeps the channels whose filters have the largest L1 norm, summed over all weights
            that put the channel out (or where none does, over those that read it); `first` keeps
            the first ones. Equals are kept from the first.
    """
    nothing = np.zeros(len(plan.channel_groups))
    worth = _norms(state, plan, names) if by is ChannelChoice.l1 else nothing
    units = _units(plan)
    strata = _strata(plan, units)
    kept: Mask = plan.channel_groups < 0
    for group, size in enumerate(plan.sizes(architecture)):
        own = np.flatnonzero(plan.channel_groups == group)
        parts = plan.groups[group].multiple
        kept[own[_best(worth[own], int(size), units[own], strata[own], parts)]] = True
    return kept


def products(leaf: PlannedTensor, shape: Sequence[int]) -> int:
    """Count the independent products of a weight whose number stays: a grouped convolution's.

    Of all other leaves there is one.

    Args:
        leaf: a parameter or buffer.
        shape: its shape in the seed network.
    """
    columns = leaf.channels[1] if len(shape) > 1 else None
    return 1 if columns is None else max(1, len(columns) // shape[1])


def cut(source: Tensor, shape: torch.Size, leaf: PlannedTensor, kept: Mask) -> tuple[Tensor, bool]:
    """Take the kept slices of a tensor, product by product; say whether all of them fit.

    Args:
        source: a parameter or buffer of the seed network.
        shape: that it is cut to.
        leaf: what the plan says of it.
        kept: the channels that are kept, as `choose` returns them.
    """
    if not source.ndim:
        return source, True
    n, fits = products(leaf, source.shape), True
    sizes = (shape[0] // n, *shape[1:])
    masks = [_masks(source, leaf, kept, dim, n if dim < 2 else 1) for dim in range(source.ndim)]
    parts = []
    for j, part in enumerate(source.chunk(n)):
        own = [each[j % len(each)] for each in masks]
        fits &= all(mask.sum() == size for mask, size in zip(own, sizes, strict=True))
        parts.append(_take(part, own, sizes))
    return torch.cat(parts), fits


def _masks(source: Tensor, leaf: PlannedTensor, kept: Mask, dim: int, n: int) -> list[Mask]:
    """Say which positions of a dimension are kept, for each of `n` products."""
    channels = leaf.channels[dim]
    if channels is None:
        everything = np.ones(source.shape[dim], dtype=bool)
        return np.split(everything, n) if dim == 0 else [everything]
    return np.split((channels < 0) | kept[channels], n)


def _take(part: Tensor, masks: Sequence[Mask], sizes: Sequence[int]) -> Tensor:
    for dim, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        positions = np.flatnonzero(mask) if mask.sum() == size else np.arange(size)
        part = part.index_select(dim, torch.from_numpy(positions))
    return part


def _norms(state: Mapping[str, Tensor], plan: Plan, names: Collection[str]) -> NDArray[np.float64]:
    made, met = np.zeros((2, len(plan.channel_groups)))
    is_made = np.zeros(len(made), dtype=bool)
    for name, leaf in _weights(plan):
        if name not in names:
            continue
        size = state[name].detach().abs().double()
        for dim, channels in enumerate(leaf.channels):
            if channels is None or len(channels) != size.shape[dim]:
                continue
            norms, known = size.transpose(0, dim).flatten(1).sum(1).numpy(), channels >= 0
            np.add.at(met if dim else made, channels[known], norms[known])
            is_made[channels[known]] |= dim == 0
    return np.where(is_made, made, met)


def _units(plan: Plan) -> Vector:
    """Number what is kept or dropped as one: for each channel the number of its unit."""
    runs = [np.empty((2, 0), dtype=np.int64)]
    for (path, name), form in plan.attributes.items():
        leaf = plan.leaves.get(f"{path}.weight")
        rows = leaf.channels[0] if name in GROUPS and leaf and leaf.shape else None
        if rows is not None and isinstance(form, Form):
            width = len(rows) // int(form(plan.full_sizes))
            ends = np.stack([np.repeat(rows[::width], width), rows])
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
    shares are not whole, the strata are left out of account.
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
            return _top(worth, size)
        picked[members[_top(total[members], share)]] = True
    return np.asarray(picked[unit])


def _top(worth: NDArray[np.float64], count: int) -> Mask:
    found = np.zeros(len(worth), dtype=bool)
    found[np.argsort(-worth, kind="stable")[:count]] = True
    return found


def _weights(plan: Plan) -> Iterator[tuple[str, PlannedTensor]]:
    for name, leaf in plan.leaves.items():
        if leaf.is_parameter and len(leaf.shape) > 1:
            yield name, leaf
