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
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssr_exp.config import ChannelChoice
from ssr_exp.rescaling import kept_channels, rescale
from ssr_exp.rescaling.plan import Architecture, Plan

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
    kept = kept_channels.choose(state, plan, architecture, names=set(names.values()), by=by)
    targets = dict(network.named_parameters()) | dict(network.named_buffers())
    for new, old in names.items():
        cut, fits = kept_channels.cut(state[old], targets[new].shape, plan.leaves[old], kept)
        targets[new].copy_(cut)
        if not fits:
            log.warning("%s inherits its first channels: those that were kept do not fit.", new)
