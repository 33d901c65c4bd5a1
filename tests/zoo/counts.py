"""Counts of a network that know nothing of plans: what PyTorch runs, and what its modules say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ssr_exp.rescaling.cost import Cost

ATEN = torch.ops.aten


class Launches(TorchDispatchMode):
    """Counts matrix products: a convolution with `g` groups is `g`, a batch of `b` is `b`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += _products(func.overloadpacket, args)
        return func(*args, **(kwargs or {}))


def _products(packet: Any, args: Any) -> int:
    if packet is ATEN.convolution:
        return int(args[8])
    if packet in (ATEN.mm, ATEN.addmm):
        return 1
    if packet in (ATEN.bmm, ATEN.baddbmm):
        return int(args[-1].shape[0])
    if packet.__name__.startswith("_scaled_dot_product"):
        return 2 * int(args[0].shape[0] * args[0].shape[1])
    return 0


def run(network: nn.Module, image: torch.Tensor) -> Cost:
    """Count what one image takes, by running it in eval mode."""
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        network(image)
    with torch.no_grad(), Launches() as launches:
        network(image)
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(params, flops.get_total_flops() // 2, launches.count)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """List the shapes of all parameters and buffers."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return {name: tuple(tensor.shape) for name, tensor in tensors}


def stale(network: nn.Module) -> Iterator[str]:
    """Name the modules whose attributes, and so whose repr, contradict their tensors."""
    for path, module in network.named_modules():
        if any(said != is_ for said, is_ in _said(module)):
            yield path


def _said(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Pair what a module says of its sizes with what its weight says."""
    weight = getattr(module, "weight", None)
    if weight is None:
        return
    if isinstance(module, nn.Conv2d) and weight.ndim == 4:
        yield module.out_channels, weight.shape[0]
        yield module.in_channels, weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        yield (module.out_features, module.in_features), tuple(weight.shape)
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        yield module.num_features, weight.numel()
    elif isinstance(module, nn.GroupNorm):
        yield module.num_channels, weight.numel()
    elif isinstance(module, nn.LayerNorm):
        yield tuple(module.normalized_shape), tuple(weight.shape)
