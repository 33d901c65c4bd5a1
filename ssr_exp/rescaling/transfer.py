"""Trained weights for a seed network with another head, or another stem, than they are of.

The backbone's weights are taken as they are. Which layers are the head and the stem shows in one
run of the network: what its output is made by, and what reads the image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import adapt, chosen_values, replacing
from ssr_exp.rescaling.inputs import Example

LOADED = 0.1  # share of the weights that are loaded where a constructor gives trained ones
LEAST = 0.5  # share of the tensors between stem and head that weights must fit
NAMED = 3  # tensors in a sentence
COUNTER = "num_batches_tracked"  # of batch norms; nothing that is learnt
DEEPEST_PREFIX = 2  # modules around a network in its file, as in `model.backbone.`


@dataclass(frozen=True)
class Transfer:
    """What a seed network takes from trained weights.

    Attributes:
        state: a part of its state dict, or all of it, in its shapes and types.
        fresh: its tensors that the weights do not give: they are to be drawn.
        stem: its tensors that read the image.
        adapted: those of them that were fitted to the channels of the images.
        unused: tensors of the weights that it has no place for, by their names in the file.
    """

    state: dict[str, Tensor]
    fresh: tuple[str, ...] = ()
    stem: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constructed:
    """What a constructor gives its network each time that it is called, and what it draws.

    Attributes:
        same: tensors of the state dict that are the same each time.
        drawn: the others.
        share: of the weights, those of the first; what is set by a pattern does not count.
    """

    same: frozenset[str]
    drawn: tuple[str, ...]
    share: float

    @property
    def is_trained(self) -> bool:
        """Say whether a notable part of the weights is loaded, and not drawn."""
        return self.share >= LOADED


def constructed(network: nn.Module, again: nn.Module, part: str | None = None) -> Constructed:
    """Compare two networks that one constructor made, with other random numbers.

    Args:
        network: the one.
        again: the other, of the same layers.
        part: the path of what is compared in them; None: all of it is.
    """
    prefix = "" if part is None else f"{part}."
    state, other = network.state_dict(), again.state_dict()
    names = [name for name in state if name.startswith(prefix)]
    same = frozenset(name for name in names if torch.equal(state[name], other[name]))
    sizes = {
        name: tensor.numel()
        for name, tensor in network.named_parameters()
        if name in names
        and replacing.is_telling(tensor.detach())
        and not chosen_values.is_patterned(tensor.detach(), by_itself=True)
    }
    share = sum(size for name, size in sizes.items() if name in same) / max(1, sum(sizes.values()))
    return Constructed(same, tuple(name for name in names if name not in same), share)


def fit(
    weights: Mapping[str, Tensor],
    network: nn.Module,
    example: Example,
    *,
    takes_head: bool = True,
    exact: bool = False,
) -> Transfer:
    """Take from trained weights all that fits a seed network.

    The head is taken whole or not at all, and so is each convolution of the stem; one that reads
    another number of channels is adapted. The names in the file may have a prefix that the
    network's have not (`module.`), or lack one that they have (`backbone.`).

    Args:
        weights: a state dict.
        network: the seed network.
        example: what it is called with, such as channels, height and width of its images.
        takes_head: whether the head is for the same classes, if it has as many.
        exact: whether all between stem and head must fit.

    Raises:
        SsrError: if the weights are of another network; says the first difference, without naming
            the file.
    """
    own = network.state_dict()
    flow = adapt.Flow(network, example)
    names = _renamed(weights, own)
    theirs = {name: weights[there] for name, there in names.items()}
    head = {n for n in own if holder(n) in flow.writers}
    stem = {n for n in own if holder(n) in flow.readers} - head
    middle = [n for n in own if n not in head | stem and not n.endswith(COUNTER)]
    differing = [n for n in middle if not _fits(n, theirs, own)]
    extra = [n for n in theirs if n not in own]
    used = {there for name, there in names.items() if name in own}
    _check(theirs, own, middle, differing, extra, exact=exact)
    state = {n: theirs[n] for n in own if n in theirs and _fits(n, theirs, own)}
    if not takes_head or any(n not in state for n in head):
        state = {n: t for n, t in state.items() if n not in head}
    adapted = {n: t for n in own if n in stem and (t := _adapted(n, network, theirs)) is not None}
    state |= adapted
    halves = {holder(n) for n in stem if n not in state}
    state = {n: t for n, t in state.items() if n not in stem or holder(n) not in halves}
    if not state:
        raise SsrError("it gives nothing of it")
    return Transfer(
        {n: state[n].to(own[n].dtype) for n in own if n in state},
        tuple(n for n in own if n not in state and not n.endswith(COUNTER)),
        tuple(n for n in own if n in stem),
        tuple(n for n in adapted if n in state),
        tuple(n for n in weights if n not in used and not n.endswith(COUNTER)),
    )


def _check(
    theirs: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    middle: Sequence[str],
    differing: Sequence[str],
    extra: Sequence[str],
    *,
    exact: bool,
) -> None:
    """Refuse weights of another network: of another depth or width, or of another kind."""
    alike = {_pattern(n) for n in middle if n not in differing}
    depth = [n for n in differing if n not in theirs and _pattern(n) in alike]
    depth += [n for n in extra if _pattern(n) in alike]
    if exact:
        depth = [*differing, *(n for n in extra if not n.endswith(COUNTER))]
    if depth:
        raise SsrError(_difference(depth[0], theirs, own))
    n_fit = len(middle) - len(differing)
    if n_fit < LEAST * len(middle):
        named = ", ".join(_difference(n, theirs, own) for n in differing[:NAMED])
        raise SsrError(f"only {n_fit} of the {len(middle)} tensors of its backbone fit ({named})")


def _difference(name: str, theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    there, here = (_shape(tensors.get(name)) for tensors in (theirs, own))
    return f"{name} is {there} there and {here} here"


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


def _fits(name: str, theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return name in theirs and theirs[name].shape == own[name].shape


def _pattern(name: str) -> str:
    """Write a tensor's name such that those of all blocks are one."""
    return re.sub(r"\d+", "#", name)


def holder(name: str) -> str:
    """Name the module whose weight a tensor is, or makes up."""
    path, parametrized, _ = name.partition(".parametrizations.")
    return path if parametrized else name.rpartition(".")[0]


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Take a prefix off the names of weights, or put one on, where more of them then fit.

    Returns, by these names, those in the file; weights without the prefix are left out.
    """

    def rename(off: str, on: str) -> dict[str, str]:
        return {on + n.removeprefix(off): n for n in weights if n.startswith(off)}

    def count(off: str, on: str) -> int:
        pairs = rename(off, on).items()
        return sum(n in own and weights[there].shape == own[n].shape for n, there in pairs)

    ways = product(_prefixes(weights), _prefixes(own))
    return rename(*max(ways, key=lambda way: count(*way)))


def _prefixes(names: Mapping[str, Tensor]) -> Iterator[str]:
    """List what names may begin with, none first."""
    found = {"": None}
    for name in names:
        parts = name.split(".")[:-1]
        for end in range(1, min(len(parts), DEEPEST_PREFIX) + 1):
            found[".".join(parts[:end]) + "."] = None
    yield from found


def _adapted(name: str, network: nn.Module, theirs: Mapping[str, Tensor]) -> Tensor | None:
    """Fit a weight of the stem to the channels of the images; None where it fits, or cannot."""
    path, _, kind = name.rpartition(".")
    conv = network.get_submodule(path)
    if kind != "weight" or not isinstance(conv, nn.Conv2d) or name not in theirs:
        return None
    here, there = conv.weight.shape, theirs[name].shape
    return None if here == there or conv.groups > 1 else _rechanneled(theirs[name], here)


def _rechanneled(weight: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Fit a convolution's weight, `o x c x h x w`, to images of other channels, if it can be.

    To one channel: the sum over all, so that a grey image gives what it gave in colour. Else the
    channels are repeated, and scaled such that their sum stays. As timm's `adapt_input_conv`.
    """
    if weight.ndim != 4 or (weight.shape[0], *weight.shape[2:]) != (shape[0], *shape[2:]):
        return None
    there, here = weight.shape[1], shape[1]
    if here == 1:
        return weight.float().sum(1, keepdim=True)
    repeated = weight.float().repeat(1, math.ceil(here / there), 1, 1)[:, :here]
    return repeated * (there / here)
