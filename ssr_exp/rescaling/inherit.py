"""Inherited weights: fill a rescaled network with slices of its trained seed network's.

One set of channels is kept in each group, and every parameter and statistic is cut by it, in all
its dimensions: a convolution, its batch norm and all that reads them stay together, and so does a
residual stream. Kept channels stay in their order, and kept blocks are the first of each segment.

Exact where channels keep their partners: what is left then computes what it computed in the seed
network, less what the removed channels and blocks added. Approximate are shortcuts that pad to fit
(option A of CIFAR ResNets: once widths change, they join other channels than before), norms over
several channels (layer norm), and splits and shuffles between which there is no weight.

The L1 norm of its filter as a channel's worth: Li et al. 2017, https://arxiv.org/abs/1608.08710.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ssr_exp.config import ChannelChoice
from ssr_exp.rescaling import keep, rescale
from ssr_exp.rescaling.keep import Mask
from ssr_exp.rescaling.plan import Architecture, Leaf, Plan

log = logging.getLogger(__name__)


@torch.no_grad()
def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    plan: Plan,
    architecture: Architecture,
    seed: nn.Module,
    *,
    by: ChannelChoice,
) -> None:
    """Give a rescaled network the weights and statistics of the blocks and channels it keeps.

    A tensor that the kept channels do not fit takes its first ones, with a warning that names it.

    Args:
        network: what `rescale.build` made of the architecture; changed in place.
        state: the trained seed network's `state_dict`.
        plan: of the seed network.
        architecture: the rescaled network's.
        seed: the seed network; its own weights are not read.
        by: how the channels are chosen; see `keep.choose`.
    """
    names = {
        new: old for new, old in rescale.names(seed, plan, architecture).items() if old in state
    }
    kept = keep.choose(state, plan, architecture, names=set(names.values()), by=by)
    targets = dict(network.named_parameters()) | dict(network.named_buffers())
    for new, old in names.items():
        cut, fits = _cut(state[old], targets[new].shape, plan.leaves[old], kept)
        targets[new].copy_(cut)
        if not fits:
            log.warning("%s inherits its first channels: those that were kept do not fit.", new)


def _cut(source: Tensor, shape: torch.Size, leaf: Leaf, kept: Mask) -> tuple[Tensor, bool]:
    """Take the kept slices of a tensor, product by product; say whether all of them fit."""
    if not source.ndim:
        return source, True
    n, fits = keep.products(leaf, source.shape), True
    sizes = (shape[0] // n, *shape[1:])
    masks = [_masks(source, leaf, kept, dim, n if dim < 2 else 1) for dim in range(source.ndim)]
    parts = []
    for j, part in enumerate(source.chunk(n)):
        own = [each[j % len(each)] for each in masks]
        fits &= all(mask.sum() == size for mask, size in zip(own, sizes, strict=True))
        parts.append(_take(part, own, sizes))
    return torch.cat(parts), fits


def _masks(source: Tensor, leaf: Leaf, kept: Mask, dim: int, n: int) -> list[Mask]:
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
