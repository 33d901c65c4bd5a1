"""What is done to a whole network once it is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.random_networks.layers import CONVS

Convs = list[nn.Module]


def _weight_norm(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        parametrizations.weight_norm(conv)


def _old_weight_norm(network: nn.Module, convs: Convs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for conv in convs:
            nn.utils.weight_norm(conv)


def _spectral_norm(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        parametrizations.spectral_norm(conv)


class Scaled(nn.Module):
    """A parametrization of anyone's own."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * 0.5


def _parametrized(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        parametrize.register_parametrization(conv, "weight", Scaled())


def _orthogonal(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        parametrizations.orthogonal(conv)


def _fixed_biases(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        if conv.bias is not None:
            conv.bias.requires_grad_(False)


def _old_spectral_norm(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        nn.utils.spectral_norm(conv)


def _pruned(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        prune.random_unstructured(conv, "weight", amount=0.3)


def _pruned_channels(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        prune.ln_structured(conv, "weight", amount=0.25, n=1, dim=0)


def _fixed(network: nn.Module, convs: Convs) -> None:
    """Fix half of these weights, so that most of the network learns."""
    for conv in convs[::2]:
        conv.weight.requires_grad_(False)


def _constant(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        nn.init.constant_(conv.weight, 0.01)


def _no_bias(network: nn.Module, convs: Convs) -> None:
    for conv in convs:
        conv.register_parameter("bias", None)


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


def _scaled_by_hooks(network: nn.Module, convs: Convs) -> None:
    """Some activations are halved by hooks."""
    for conv in convs:
        conv.register_forward_hook(lambda module, args, output: output / 2)


def _channels_last(network: nn.Module, convs: Convs) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for conv in convs:
        if conv.weight.ndim in formats:
            conv.to(memory_format=formats[conv.weight.ndim])


def _in_eval(network: nn.Module, convs: Convs) -> None:
    network.eval()


def _pruned_and_removed(network: nn.Module, convs: Convs) -> None:
    _pruned(network, convs)
    for conv in convs:
        prune.remove(conv, "weight")


TRAITS: dict[str, Callable[[nn.Module, Convs], None]] = {
    "weight_norm": _weight_norm,
    "old_weight_norm": _old_weight_norm,
    "spectral_norm": _spectral_norm,
    "parametrized": _parametrized,
    "orthogonal": _orthogonal,
    "fixed_biases": _fixed_biases,
    "old_spectral_norm": _old_spectral_norm,
    "pruned": _pruned,
    "pruned_channels": _pruned_channels,
    "pruned_and_removed": _pruned_and_removed,
    "fixed": _fixed,
    "constant": _constant,
    "no_bias": _no_bias,
    "shared": _shared,
    "alias": _alias,
    "unreached": _unreached,
    "hooked": _hooked,
    "scaled_by_hooks": _scaled_by_hooks,
    "channels_last": _channels_last,
    "in_eval": _in_eval,
}
RAN = "ran"  # before its plan is made
NAMES = (*TRAITS, RAN)


def give(network: nn.Module, traits: Sequence[tuple[str, int]], image: Tensor) -> None:
    """Do all this to a network: each to every n-th of its convolutions.

    Args:
        network: is changed.
        traits: names, and n.
        image: a batch that it runs on.
    """
    kinds = tuple(CONVS.values())
    for name, every in traits:
        if name == RAN:
            continue
        convs = [m for m in network.modules() if isinstance(m, kinds) and "weight" in m._parameters]
        TRAITS[name](network, convs[::every])
    if any(name == RAN for name, _ in traits):
        network(image)
