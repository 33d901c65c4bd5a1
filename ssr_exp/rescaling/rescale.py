"""Build a rescaled network: fewer blocks, fewer channels, dense, with fresh weights."""

from __future__ import annotations

import inspect
import math
import warnings
import zlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp.config import ChannelChoice
from ssr_exp.errors import SsrError, only_ssr_errors
from ssr_exp.rescaling import copying, inherit, initialise, meta
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.tracing.blocks import is_sequence
from ssr_exp.rescaling.tracing.channel_groups import Form
from ssr_exp.rescaling.transfer import holder

MOST_UNLEARNT = 0.25  # share of the weights that may be fixed and lose inputs


def build(
    network: nn.Module, plan: Plan, modifiers: Modifiers | Architecture, *, inherits: bool = False
) -> nn.Module:
    """Make the rescaled network of a seed network.

    The result is an ordinary module of the seed's classes, freshly initialised from torch's global
    generator, on the CPU. Its state dict loads with `strict=True` into any other build of the same
    modifiers. The seed network is not changed.

    Args:
        network: the seed network, as its constructor left it.
        plan: what `planning.trace` made of it.
        modifiers: one depth and width for each segment, or an effective architecture.
        inherits: whether the caller fills it with trained weights.

    Raises:
        SsrError: if the modifiers cannot be met, or most of a smaller network would be weights
            that are neither learnt nor inherited.

    Warns:
        UserWarning: if modifiers other than 1 round to the seed network itself.
    """
    if isinstance(modifiers, Modifiers):
        architecture = plan.effective(modifiers)
        if architecture == plan.baseline and modifiers != Modifiers.full(len(modifiers)):
            warnings.warn(unchanged(modifiers), stacklevel=2)
    else:
        architecture = modifiers
    if unknown := {name for name, _ in network.named_parameters()} - set(plan.leaves):
        raise SsrError(
            f"the plan is of another network: it does not know {min(unknown)} of this "
            f"{type(network).__name__}; give the network that planning.trace was given."
        )
    if not inherits:
        check_learnt(network, plan, architecture)
    with only_ssr_errors(f"{type(network).__name__} cannot be rebuilt"):
        rescaled, names = _assembled(network, plan, architecture, device="cpu")
        cut = _cutter(plan, architecture)
        initialise.fresh(rescaled, network, names, cut=cut, leaves=plan.leaves)
    return rescaled


def redraw(
    network: nn.Module,
    seed_network: nn.Module,
    plan: Plan,
    architecture: Architecture,
    drawn: Collection[str],
    *,
    draw_seed: int,
) -> None:
    """Draw some modules of a rescaled network again, in place, each from a generator of its own.

    So a new head is the same in all rescaled networks in which it has the same shape, whatever was
    drawn before it. Torch's global generator stays as it is.

    Args:
        network: what `build` made of the architecture; the others of its weights may be drawn
            again, too: fill them afterwards.
        seed_network: as its constructor left it.
        plan: of the seed network.
        architecture: the rescaled network's.
        drawn: the seed network's names of the tensors.
        draw_seed: of the generators.
    """
    seed_names, cut = names(seed_network, plan, architecture), _cutter(plan, architecture)
    holders = {holder(new): holder(old) for new, old in seed_names.items() if old in drawn}
    with torch.random.fork_rng(devices=[]):
        for path, old_path in sorted(holders.items()):
            torch.default_generator.manual_seed(draw_seed + zlib.crc32(old_path.encode()))
            module, prefix = network.get_submodule(path), f"{path}." if path else ""
            own = {n.removeprefix(prefix): o for n, o in seed_names.items() if n.startswith(prefix)}
            initialise.fresh(module, seed_network, own, cut=cut, leaves=plan.leaves)


def check_learnt(network: nn.Module, plan: Plan, architecture: Architecture) -> None:
    """Refuse a network whose fixed part would be neither the seed's nor learnt.

    Weights with `requires_grad=False` are kept. Those that lose inputs compute something else, and
    the rest of the network can make up for a few of them only.

    Raises:
        SsrError: if they are more than a quarter of all weights.
    """
    if not plan.unlearnt:
        return
    sizes, cut, total, example = plan.sizes(architecture), 0, 0, ""
    for name, parameter in network.named_parameters():
        shape, holder = plan.leaves[name].shape, network.get_submodule(name.rpartition(".")[0])
        inputs = 0 if isinstance(holder, nn.modules.conv._ConvTransposeNd) else 1
        total += parameter.numel()
        is_fixed = name in plan.unlearnt and len(shape) > 1
        if is_fixed and int(shape[inputs](sizes)) < parameter.shape[inputs]:
            cut, example = cut + parameter.numel(), name
    if cut > MOST_UNLEARNT * total:
        raise SsrError(
            f"{cut / total:.0%} of the weights of {type(network).__name__} are not learnt "
            f"(requires_grad=False, such as {example}): a narrower network could not make up for "
            "them. Give trained weights and type init=inherit checkpoint=PATH, or let them learn."
        )


def skeleton(network: nn.Module, plan: Plan, architecture: Architecture) -> nn.Module:
    """Make a rescaled network without data: on the meta device, for its shapes alone."""
    return _assembled(network, plan, architecture, device="meta")[0]


def names(network: nn.Module, plan: Plan, architecture: Architecture) -> dict[str, str]:
    """Map the names of a rescaled network's parameters and buffers to the seed network's."""
    return _assembled(network, plan, architecture, device="meta")[1]


def _assembled(
    network: nn.Module, plan: Plan, architecture: Architecture, *, device: str
) -> tuple[nn.Module, dict[str, str]]:
    rescaled = _resized(network, plan, architecture, device)
    seed_names = {id(tensor): name for name, tensor in copying.tensors(rescaled)}
    removed: dict[str, list[str]] = {}
    for segment, kept in zip(plan.segments, architecture.blocks, strict=True):
        for path in (path for block in segment.blocks[kept:] for path in block):
            holder, _, child = path.rpartition(".")
            removed.setdefault(holder, []).append(child)
    # All are looked up first: a holder's path is another once what holds it is numbered anew.
    lists = [(rescaled.get_submodule(path), children) for path, children in removed.items()]
    for sequence, children in lists:
        _remove(sequence, children)
    return rescaled, {new: seed_names[id(t)] for new, t in copying.tensors(rescaled)}


def unchanged(modifiers: Modifiers) -> str:
    """Say that modifiers round to the seed network itself."""
    return (
        f"these modifiers change nothing (depth {list(modifiers.depth)}, width "
        f"{list(modifiers.width)}): after rounding to whole blocks and channels it is the baseline."
    )


def load(network: nn.Module, state: Mapping[str, Any], *, source: str) -> None:
    """Load a state dict strictly.

    Raises:
        SsrError: if it is of another network; names `source` and the first difference.
    """
    theirs = dict(state)
    check_fits(
        network.state_dict(),
        theirs,
        f"the checkpoint {source} does not fit",
        remedy="; give the modifiers that it was trained with",
    )
    network.load_state_dict(theirs, strict=True)


def check_fits(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], said: str, *, remedy: str = ""
) -> None:
    """Refuse a state dict of another network.

    Raises:
        SsrError: begins with what is `said`, and names the first difference.
    """
    for name in [*mine, *theirs]:
        here, there = (_shape(tensors.get(name)) for tensors in (mine, theirs))
        if here != there:
            raise SsrError(f"{said} this network: {name} is {there} there and {here} here{remedy}.")


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


def _resized(network: nn.Module, plan: Plan, architecture: Architecture, device: str) -> nn.Module:
    """Copy the modules around tensors of the new shapes; no weight that is learnt is copied."""
    sizes = plan.sizes(architecture)
    cut = _cutter(plan, architecture)
    memo: dict[int, Any] = {}
    for name, tensor in copying.tensors(network):
        leaf = plan.leaves.get(name)
        if leaf is None or len(leaf.shape) != tensor.ndim:  # an activation that a run has left
            continue
        shape = [int(form(sizes)) for form in plan.leaves[name].shape]
        if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
            memo[id(tensor)] = nn.Parameter(torch.empty(shape, dtype=tensor.dtype, device=device))
            continue
        if device == "meta":
            kept = meta.bare(tensor.detach()[tuple(slice(size) for size in shape)])
        else:
            kept = cut(name, tensor.detach(), torch.Size(shape)).to(device, copy=True)
        if isinstance(tensor, nn.Parameter):
            kept = nn.Parameter(kept, requires_grad=False)
        memo[id(tensor)] = kept
    rescaled = copying.copied(network, memo)
    for (path, attribute), form in plan.attributes.items():
        module = rescaled.get_submodule(path)
        if isinstance(form, Form):
            setattr(module, attribute, int(form(sizes)))
        else:  # a list, a tuple, a `Size`
            kind = type(vars(module)[attribute])
            setattr(module, attribute, kind(int(part(sizes)) for part in form))
    _scale_standardised(network, rescaled)
    return rescaled


def _scale_standardised(network: nn.Module, rescaled: nn.Module) -> None:
    """Divide standardised weights by the root of their new fan-in, which such layers keep.

    So scaled weight standardisation has it (Brock et al. 2021, https://arxiv.org/abs/2101.08692);
    timm's layers keep it as the number `scale`, beside the parameter `gain`.
    """
    seeds = dict(network.named_modules())
    for path, module in rescaled.named_modules():
        scale, gain = vars(module).get("scale"), getattr(module, "gain", None)
        if not (isinstance(scale, float) and isinstance(gain, Tensor)):
            continue  # the weight of others may be computed, and change something, when it is read
        before, after = (getattr(one, "weight", None) for one in (seeds[path], module))
        if isinstance(before, Tensor) and isinstance(after, Tensor):
            module.scale = scale * math.sqrt(before[0].numel() / after[0].numel())


def _cutter(plan: Plan, architecture: Architecture) -> initialise.Cut:
    """Make what cuts a tensor of the seed network to the channels that are kept: the first ones."""

    @cache
    def kept() -> inherit.Mask:
        return inherit.choose({}, plan, architecture, names=(), by=ChannelChoice.first)

    def cut(name: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if tensor.shape == shape or tensor.is_meta:
            return tensor[tuple(slice(size) for size in shape)]
        return inherit.cut(tensor, shape, plan.leaves[name], kept())[0]

    return cut


class Passing(nn.Identity):
    """Stands where a block was taken out: puts out its first input, whatever else it is given."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Pass on what the block before put out."""
        return x


def _remove(holder: nn.Module, children: Sequence[str]) -> None:
    """Take blocks out of their holder; number the rest anew where the holder is a sequence."""
    modules = dict(holder.named_children())
    if not is_sequence(holder):
        for child in children:
            takes_one = len(inspect.signature(modules[child].forward).parameters) == 1
            setattr(holder, child, nn.Identity() if takes_one else Passing())
        return
    is_numbered = all(name.isdigit() for name in modules)
    for name in modules:
        delattr(holder, name)
    kept = [(name, module) for name, module in modules.items() if name not in children]
    for number, (name, module) in enumerate(kept):
        holder.add_module(str(number) if is_numbered else name, module)
