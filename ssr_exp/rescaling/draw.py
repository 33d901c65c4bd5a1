"""Fresh weights: draw each parameter of a rescaled network as the seed network drew its own.

Modules that can (`reset_parameters`) draw for themselves. Then what the seed's constructor did on
top is repeated: parameters that are constant in the seed (norm gains, zeroed residual gains,
layer scales) take that constant, and if the seed's convolutions follow one of the common rules,
with a spread that shrinks with the fan, the rescaled ones are drawn by the same rule for their own
fans. Rules: He et al. 2015 (https://arxiv.org/abs/1502.01852) and Glorot and Bengio 2010.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SIGMAS = 5  # how far a sample's standard deviation may stray from the rule's
SMALLEST_SAMPLE = 256  # elements; fewer say too little of a spread


Rule = Callable[[float, float, int], float]
"""The standard deviation of weights for a fan in, a fan out and a number of groups."""

RULES: tuple[Rule, ...] = (
    lambda fan_in, fan_out, groups: math.sqrt(2 / fan_out),
    lambda fan_in, fan_out, groups: math.sqrt(2 / fan_in),
    lambda fan_in, fan_out, groups: math.sqrt(1 / fan_in),
    lambda fan_in, fan_out, groups: math.sqrt(2 / (fan_in + fan_out)),
    lambda fan_in, fan_out, groups: math.sqrt(2 * groups / fan_out),  # EfficientNet
)


def fresh(network: nn.Module, seed: nn.Module, names: Mapping[str, str]) -> None:
    """Draw all parameters of `network` anew, in place, from torch's global generator.

    Args:
        network: the rescaled network.
        seed: the seed network, with the weights that its constructor drew.
        names: for each parameter of `network` the seed's parameter of the same role.
    """
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    originals = dict(seed.named_parameters())
    rules = {kind: _rule(seed, kind) for kind in (nn.modules.conv._ConvNd, nn.Linear)}
    owners = dict(_owners(network))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            _draw(parameter, originals[names[name]], owners[name], rules)


def _draw(
    parameter: Tensor, original: Tensor, owner: nn.Module, rules: Mapping[Any, Rule | None]
) -> None:
    if _is_constant(original):
        parameter.fill_(original.flatten()[0])
    elif parameter.ndim >= 2 and (rule := _find(rules, owner)) is not None:
        parameter.normal_(0, rule(*_fans(parameter, owner)))
    elif not hasattr(owner, "reset_parameters"):
        parameter.normal_(float(original.mean()), float(original.std()))


def _find(rules: Mapping[Any, Rule | None], owner: nn.Module) -> Rule | None:
    return next((rule for kind, rule in rules.items() if isinstance(owner, kind)), None)


def _rule(seed: nn.Module, kind: type[nn.Module]) -> Rule | None:
    """Find the rule of normal draws that all weights of one kind of module follow, if any."""
    samples = [
        (module.weight.detach(), module)
        for module in seed.modules()
        if isinstance(module, kind) and isinstance(module.weight, nn.Parameter)
    ]
    samples = [pair for pair in samples if _says_something(pair[0])]
    if not samples:
        return None
    spread = float(max(samples, key=lambda pair: pair[0].numel())[0].std())

    def constant(fan_in: float, fan_out: float, groups: int) -> float:
        return spread  # 0.02 of ConvNeXt

    for rule in (*RULES, constant):
        if all(_follows(weight, module, rule) for weight, module in samples):
            return rule
    return None


def _says_something(weight: Tensor) -> bool:
    return weight.numel() >= SMALLEST_SAMPLE and not weight.is_meta and not _is_constant(weight)


def _follows(weight: Tensor, owner: nn.Module, rule: Rule) -> bool:
    """Compare spread and shape: a uniform draw never reaches twice its standard deviation."""
    std = float(weight.std())
    expected = rule(*_fans(weight, owner))
    is_normal = float(weight.abs().max()) > 2 * std
    return is_normal and abs(std / expected - 1) < SIGMAS / math.sqrt(2 * weight.numel())


def _fans(weight: Tensor, owner: nn.Module) -> tuple[float, float, int]:
    kernel = weight[0, 0].numel() if weight.ndim > 2 else 1
    groups = getattr(owner, "groups", 1)
    return weight.shape[1] * kernel, weight.shape[0] * kernel, groups


def _is_constant(parameter: Tensor) -> bool:
    return not parameter.is_meta and bool((parameter == parameter.flatten()[0]).all())


def _owners(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in network.named_modules():
        for name, _ in module.named_parameters(prefix=path, recurse=False):
            yield name, module
