"""What is done to a whole network once it is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.random_networks.layers import CONVS

Convs = list[nn.Module]


class Scaled(nn.Module):  # a parametrization of anyone's own
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 0.5


def _prune(conv: nn.Module) -> None:
    prune.random_unstructured(conv, "weight", amount=0.3)


def _prune_for_good(conv: nn.Module) -> None:
    _prune(conv)
    prune.remove(conv, "weight")


def _fix_bias(conv: nn.Module) -> None:
    if conv.bias is not None:
        conv.bias.requires_grad_(False)


def _channels_last(conv: nn.Module) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if conv.weight.ndim in formats:
        conv.to(memory_format=formats[conv.weight.ndim])


OF_EACH: dict[str, Callable[[nn.Module], object]] = {  # convolution
    "weight_norm": parametrizations.weight_norm,
    "old_weight_norm": nn.utils.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "parametrized": lambda c: parametrize.register_parametrization(c, "weight", Scaled()),
    "orthogonal": parametrizations.orthogonal,
    "fixed_biases": _fix_bias,
    "old_spectral_norm": nn.utils.spectral_norm,
    "pruned": _prune,
    "pruned_channels": lambda c: prune.ln_structured(c, "weight", amount=0.25, n=1, dim=0),
    "pruned_and_removed": _prune_for_good,
    "constant": lambda conv: nn.init.constant_(conv.weight, 0.01),
    "no_bias": lambda conv: conv.register_parameter("bias", None),
    "scaled_by_hooks": lambda c: c.register_forward_hook(lambda module, args, y: y / 2),
    "channels_last": _channels_last,
}


def _fixed(network: nn.Module, convs: Convs) -> None:
    """Fix half of these weights, so that most of the network learns."""
    for conv in convs[::2]:
        conv.weight.requires_grad_(False)


def _shared(network: nn.Module, convs: Convs) -> None:
    """Convolutions of one shape share one weight, in pairs."""
    by_shape: dict[tuple[int, ...], Convs] = {}
    for conv in convs:
        by_shape.setdefault(tuple(conv.weight.shape), []).append(conv)
    for alike in by_shape.values():
        for one, other in zip(alike[::2], alike[1::2], strict=False):
            other.weight = one.weight


def _alias(network: nn.Module, convs: Convs) -> None:
    """Some convolutions have a second name at the network itself."""
    for number, conv in enumerate(convs):
        network.add_module(f"alias{number}", conv)


def _unreached(network: nn.Module, convs: Convs) -> None:
    for number, conv in enumerate(convs):
        network.add_module(f"unreached{number}", type(conv)(conv.out_channels, 6, 3))


def _hooked(network: nn.Module, convs: Convs) -> None:
    """Some activations are kept by hooks."""
    network.seen = {}

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        network.seen[len(network.seen)] = output.detach()

    for conv in convs:
        conv.register_forward_hook(keep)


TRAITS: dict[str, Callable[[nn.Module, Convs], object]] = {
    "fixed": _fixed,
    "shared": _shared,
    "alias": _alias,
    "unreached": _unreached,
    "hooked": _hooked,
    "in_eval": lambda network, convs: network.eval(),
}
RAN = "ran"  # before its plan is made
NAMES = (*OF_EACH, *TRAITS, RAN)


def give(network: nn.Module, traits: Sequence[tuple[str, int]], image: Tensor) -> None:
    """Do all this to a network that runs on `image`: each to every n-th of its convolutions."""
    for name, every in traits:
        modules = [m for m in network.modules() if isinstance(m, CONVS)]
        convs = [conv for conv in modules if "weight" in conv._parameters][::every]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # old_weight_norm
            if name in OF_EACH:
                for conv in convs:
                    OF_EACH[name](conv)
            elif name in TRAITS:
                TRAITS[name](network, convs)
    if any(name == RAN for name, _ in traits):
        network(image)
