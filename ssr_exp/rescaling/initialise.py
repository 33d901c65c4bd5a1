"""Fresh weights: draw each parameter of a rescaled network as the seed network drew its own.

Modules that can (`reset_parameters`) draw for themselves. Then what the seed's constructor did on
top is repeated: parameters that are constant in the seed (norm gains, zeroed residual gains,
layer scales) take that constant, values that were chosen (`chosen_values`) are kept, orthogonal
weights are drawn so again, and if the seed's convolutions follow one of the common rules, with a
spread that shrinks with the fan, the rescaled ones are drawn by the same rule for their own fans;
so are weights of products that modules of the user's own hold. Rules: He et al. 2015
(https://arxiv.org/abs/1502.01852), Glorot and Bengio 2010, and Saxe et al. 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ssr_exp.rescaling import chosen_values
from ssr_exp.rescaling.chosen_values import (
    LAYERS,
    SIGMAS,
    SMALLEST_OWN,
    draws,
    is_constant,
    is_orthogonal,
    list_owners,
)
from ssr_exp.rescaling.plan import PlannedTensor

SMALLEST_SAMPLE = 256  # elements; fewer say too little of a spread that others share
POWER_ITERATIONS = 15  # of spectral norm, as PyTorch's own at its start

Rule = Callable[[float, float, int], float]
"""The standard deviation of weights for a fan in, a fan out and a number of groups."""

RULES: tuple[Rule, ...] = (
    lambda fan_in, fan_out, groups: math.sqrt(2 / fan_out),
    lambda fan_in, fan_out, groups: math.sqrt(2 / fan_in),
    lambda fan_in, fan_out, groups: math.sqrt(1 / fan_in),
    lambda fan_in, fan_out, groups: math.sqrt(2 / (fan_in + fan_out)),
    lambda fan_in, fan_out, groups: math.sqrt(2 * groups / fan_out),  # EfficientNet
)
FANS: tuple[Rule, ...] = (
    lambda fan_in, fan_out, groups: math.sqrt(1 / fan_in),
    lambda fan_in, fan_out, groups: math.sqrt(1 / fan_out),
    lambda fan_in, fan_out, groups: math.sqrt(2 / (fan_in + fan_out)),
)
"""The same without a gain: that of an activation (leaky ReLU, tanh) may be any number."""
DEFAULT: Rule = lambda fan_in, fan_out, groups: math.sqrt(1 / (3 * fan_in))  # noqa: E731
"""PyTorch's own, a uniform draw."""

Cut = Callable[[str, Tensor, torch.Size], Tensor]
"""Cuts a tensor of the seed network, by its name there, to a shape: its kept channels."""


def fresh(
    network: nn.Module,
    seed: nn.Module,
    names: Mapping[str, str],
    *,
    cut: Cut,
    leaves: Mapping[str, PlannedTensor],
) -> None:
    """Draw all that `network` learns anew, in place, from torch's global generator.

    What is not learnt (fixed weights, tables) keeps its values; statistics of norms that learn
    start anew.

    Args:
        network: the rescaled network.
        seed: the seed network, with the weights that its constructor drew.
        names: for each parameter of `network` the seed's parameter of the same role.
        cut: takes the kept channels of a tensor of the seed's.
        leaves: what the plan says of the seed's tensors.
    """
    learnt = {name: p for name, p in network.named_parameters() if p.requires_grad}
    named = [*network.named_parameters(), *network.named_buffers()]
    kept = [t for n, t in named if n not in learnt and not t.is_meta]
    values = [tensor.detach().clone() for tensor in kept]
    anew = set(map(id, _statistics(network)))
    with torch.no_grad():
        for parameter in learnt.values():
            parameter.fill_(math.nan)  # so that what nobody draws is seen
    for module in network.modules():
        if draws(module):
            module.reset_parameters()  # type: ignore[operator]
    originals, owners = dict(seed.named_parameters()), dict(list_owners(seed))
    first_values, rescaled = chosen_values.read(seed, {*names.values()}), dict(list_owners(network))
    rules, samples = {kind: _rule(seed, kind) for kind in LAYERS}, _samples(seed, leaves)
    with torch.no_grad():
        for name, parameter in learnt.items():
            role = names[name]
            original = originals[role].detach()
            if not original.numel():
                continue
            if role in first_values.chosen:
                parameter.copy_(_cut_chosen(role, original, parameter.shape, cut))
                continue
            if role in first_values.drawn:
                parameter.fill_(math.nan)
            sample = _Sample(original, owners[role], leaves[role].out, rescaled[name])
            _draw(parameter, sample, rules, samples)
            if chosen_values.repeats_rows(original):
                parameter.copy_(parameter[_alike(cut(role, original, parameter.shape))])
        _follow_lengths(network, seed, names)
        for tensor, value in zip(kept, values, strict=True):
            if id(tensor) not in anew or not tensor.isfinite().all():
                tensor.copy_(value)
        for module in network.modules():
            _settle(module)


def _alike(weight: Tensor) -> list[int]:
    """Name for each row of a weight the first row that is the same."""
    first: dict[bytes, int] = {}
    rows = weight.flatten(1).double().cpu().numpy()
    return [first.setdefault(row.tobytes(), at) for at, row in enumerate(rows)]


def _cut_chosen(name: str, original: Tensor, shape: torch.Size, cut: Cut) -> Tensor:
    """Cut chosen values; of ordered ones, as edges of bands are, the whole range stays."""
    if not chosen_values.is_ordered(original):
        return cut(name, original, shape)
    for dim, size in enumerate(shape):
        at = torch.linspace(0, original.shape[dim] - 1, size, device=original.device)
        original = original.index_select(dim, at.round().long())
    return original


def _statistics(network: nn.Module) -> Iterator[Tensor]:
    """Name the statistics that a module sets to their start when it draws its weights anew."""
    for path, module in network.named_modules():
        holder = network.get_submodule(path.rpartition(".")[0])
        beside = list(module.parameters(recurse=False)) or list(holder.parameters())
        if draws(module) and (not beside or any(p.requires_grad for p in beside)):
            yield from module.buffers(recurse=False)


def _draw(
    parameter: Tensor,
    sample: _Sample,
    rules: Mapping[Any, Rule | None],
    samples: Sequence[_Sample],
) -> None:
    original, owner = sample.weight, sample.owner
    fitting = (
        rule
        for kind, rule in rules.items()
        if isinstance(owner, kind) and rule is not None and sample.is_near(rule)
    )
    if is_constant(original):
        parameter.fill_(original.flatten()[0])
    elif parameter.is_complex() and parameter.isnan().any():
        parts = _Sample(torch.view_as_real(original), owner)
        _draw(torch.view_as_real(parameter), parts, {}, ())
    elif parameter.is_complex():
        return  # as its module drew it
    elif (sample.of_layer or parameter.isnan().any()) and is_orthogonal(original):
        nn.init.orthogonal_(parameter, sample.gain)
    elif sample.of_layer and (rule := next(fitting, None)) is not None:
        parameter.normal_(0, rule(*_fans(parameter, sample.rescaled or owner)))
    elif sample.of_layer and sample.says_something(SMALLEST_OWN):
        _draw_by_own_rule(parameter, sample, samples)
    elif parameter.isnan().any():
        mean, growth = float(original.mean()), _growth(parameter, sample, samples)
        std = float(original.std(correction=0)) * growth
        low, high = map(float, original.aminmax())
        if max(high - mean, mean - low) <= 2 * std / growth:  # as no larger normal draw does
            parameter.uniform_(mean + growth * (low - mean), mean + growth * (high - mean))
        else:
            parameter.normal_(mean, std)
        if low > 0:  # a root or a logarithm may want that
            parameter.clamp_(min=low)
        elif high < 0:
            parameter.clamp_(max=high)


def _draw_by_own_rule(parameter: Tensor, sample: _Sample, samples: Sequence[_Sample]) -> None:
    """Draw a layer that has a rule of its own: a last one that starts near zero, for instance."""
    is_drawn = not bool(parameter.isnan().any())
    if is_drawn and sample.follows(DEFAULT, normal=False):
        return
    for rule in (DEFAULT, *RULES):
        std = rule(*_fans(parameter, sample.rescaled or sample.owner))
        if sample.follows(rule, normal=True):
            parameter.normal_(0, std)
            return
        if sample.follows(rule, normal=False):
            parameter.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std)
            return
    std = sample.std * _growth(parameter, sample, samples)
    if is_drawn and parameter.numel() > 1 and float(parameter.std()) > 0:
        parameter.mul_(std / float(parameter.std()))
    else:
        parameter.normal_(0, std)


def _growth(parameter: Tensor, sample: _Sample, samples: Sequence[_Sample]) -> float:
    """Say how many times the seed's spread a weight has, by the rule of fans that the seed follows.

    Where no rule is known, such as of a small number that was chosen for one layer, it is once.
    """
    if not sample.out or not sample.says_something():
        return 1
    for rule in (DEFAULT, *RULES):
        if sample.follows(rule, normal=True) or sample.follows(rule, normal=False):
            break
    else:
        rule, votes = max(((r, _votes(sample, r, samples)) for r in FANS), key=lambda pair: pair[1])
        if votes <= 0:
            return 1
    return rule(*sample.fans(parameter, sample.rescaled)) / rule(*sample.fans(sample.weight))


def _votes(sample: _Sample, fans: Rule, samples: Sequence[_Sample]) -> int:
    """Count the weights that have this one's gain and another spread, less those of its spread.

    Those of other kinds of layers say nothing.
    """
    gain = sample.std / fans(*sample.fans(sample.weight))
    rules: tuple[Rule, Rule] = (lambda *sizes: gain * fans(*sizes), lambda *sizes: sample.std)
    alike = (one for one in samples if one.kind is sample.kind)
    each = ([one.follows(rule, normal=sample.is_normal) for rule in rules] for one in alike)
    return sum(by_gain - by_spread for by_gain, by_spread in each)


def _follow_lengths(network: nn.Module, seed: nn.Module, names: Mapping[str, str]) -> None:
    """Give weight norm the lengths of the directions that were drawn, as in the seed."""
    ours, seeds = dict(network.named_parameters()), dict(seed.named_parameters())
    for length, direction, dim in weight_norms(network):
        norm = torch.norm_except_dim(seeds[names[direction]], 2, dim)
        if ours[length].requires_grad and torch.allclose(norm, seeds[names[length]], rtol=1e-3):
            ours[length].copy_(torch.norm_except_dim(ours[direction], 2, dim))


def weight_norms(network: nn.Module) -> Iterator[tuple[str, str, int]]:
    """List weight norms: the names of lengths and of directions, and the dimension that stays."""
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                yield f"{prefix}{hook.name}_g", f"{prefix}{hook.name}_v", hook.dim
        if isinstance(module, ParametrizationList) and isinstance(module[0], _WeightNorm):
            yield f"{prefix}original0", f"{prefix}original1", module[0].dim


def _settle(module: nn.Module) -> None:
    """Let norms of weights follow the weights that were drawn: spectral norm's, old hooks'."""
    parametrized = getattr(module, "parametrizations", None)
    if isinstance(parametrized, nn.ModuleDict) and any(True for _ in parametrized.buffers()):
        training = {part: part.training for part in parametrized.modules()}
        parametrized.train()
        for name in parametrized:
            for _ in range(POWER_ITERATIONS):  # one each time that the weight is read
                getattr(module, name)
        for part, mode in training.items():
            part.training = mode
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, (WeightNorm, SpectralNorm, BasePruningMethod)):
            mode, module.training = module.training, True
            for _ in range(POWER_ITERATIONS if isinstance(hook, SpectralNorm) else 1):
                hook(module, None)
            module.training = mode


def renews(module: nn.Module, name: str) -> bool:
    """Say whether a module's buffer starts anew with its weights: a norm's statistic or vector."""
    hooks = (h for h in module._forward_pre_hooks.values() if isinstance(h, SpectralNorm))
    vectors = {f"{hook.name}_{end}" for hook in hooks for end in "uv"}
    is_statistic = name.startswith("running_") and draws(module)
    return is_statistic or isinstance(module, _SpectralNorm) or name in vectors


def constant_std(seed: nn.Module) -> float | None:
    """Say the standard deviation that all convolutions have, if they follow no rule of fans."""
    rule = _rule(seed, nn.modules.conv._ConvNd)
    return None if rule is None or rule in RULES else rule(1, 1, 1)


def _rule(seed: nn.Module, kind: type[nn.Module]) -> Rule | None:
    """Find the rule of normal draws that all weights of one kind of module follow, if any."""
    samples = [
        _Sample(weight.detach(), module)  # a computed weight is not asked for: that may change it
        for module in seed.modules()
        if isinstance(module, kind) and (weight := module._parameters.get("weight")) is not None
    ]
    samples = [sample for sample in samples if sample.says_something()]
    if not samples:
        return None
    spread = max(samples, key=lambda sample: sample.weight.numel()).std

    def constant(fan_in: float, fan_out: float, groups: int) -> float:
        return spread  # 0.02 of ConvNeXt

    for rule in (*RULES, constant):
        if all(sample.follows(rule, normal=True) for sample in samples):
            return rule
    return None


@dataclass(frozen=True)
class _Sample:
    """A weight as the seed network's constructor left it."""

    weight: Tensor
    owner: nn.Module
    out: tuple[int, ...] = ()  # dimensions of channels that a product puts out, if it is known
    rescaled: nn.Module | None = None  # what owns that weight of the rescaled network

    @property
    def of_layer(self) -> bool:
        """Say whether it is the weight of one of those that most networks are made of."""
        return self.weight.ndim >= 2 and isinstance(self.owner, LAYERS)

    @cached_property
    def std(self) -> float:
        return float(self.weight.std())

    @cached_property
    def is_normal(self) -> bool:
        """Say whether it reaches twice its standard deviation, as no uniform draw does."""
        low, high = self.weight.aminmax()
        return max(-float(low), float(high)) > 2 * self.std

    @property
    def kind(self) -> type[nn.Module]:
        return next((kind for kind in LAYERS if isinstance(self.owner, kind)), type(self.owner))

    @cached_property
    def gain(self) -> float:
        """Say how long its rows, or its columns if these are fewer, are in the mean."""
        flat = self.weight.flatten(1)
        return math.sqrt(float(flat.square().sum()) / min(flat.shape))

    def says_something(self, least: int = SMALLEST_SAMPLE) -> bool:
        if self.weight.numel() < least or self.weight.is_meta or self.weight.is_complex():
            return False
        return 0 < self.std < math.inf and not is_constant(self.weight)

    def follows(self, rule: Rule, *, normal: bool) -> bool:
        """Compare its spread and its shape with a rule's."""
        is_short = self.weight.numel() < SMALLEST_SAMPLE  # for its largest entry to say its shape
        return self.is_near(rule) and (is_short or self.is_normal is normal)

    def is_near(self, rule: Rule) -> bool:
        """Compare its spread with a rule's."""
        expected = rule(*self.fans(self.weight))
        strays = abs(self.std / expected - 1)  # of few elements far, but not to nearly nothing
        return self.std > expected / 4 and strays < SIGMAS / math.sqrt(2 * self.weight.numel())

    def fans(self, weight: Tensor, owner: nn.Module | None = None) -> tuple[float, float, int]:
        """Count the fans of its weight, at any width; a user's own may be turned."""
        is_turned = self.out == (1,) and not isinstance(self.owner, nn.modules.conv._ConvNd)
        return _fans(weight.transpose(0, 1) if is_turned else weight, owner or self.owner)


def _samples(seed: nn.Module, leaves: Mapping[str, PlannedTensor]) -> list[_Sample]:
    """List the weights of products that are large enough to tell a rule."""
    owners = dict(list_owners(seed))
    return [
        _Sample(weight.detach(), owners[name], leaves[name].out)
        for name, weight in seed.named_parameters()
        if leaves[name].out and weight.numel() >= SMALLEST_SAMPLE and weight.ndim > 1
        if weight.is_floating_point() and not weight.is_meta
    ]


def _fans(weight: Tensor, owner: nn.Module) -> tuple[float, float, int]:
    kernel = weight[0, 0].numel() if weight.ndim > 2 else 1
    groups = getattr(owner, "groups", 1)  # which may be anything of a user's own
    is_count = isinstance(groups, int) and groups > 0
    return weight.shape[1] * kernel, weight.shape[0] * kernel, groups if is_count else 1
