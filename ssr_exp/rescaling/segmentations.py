"""Ways to split a traced network into segments: what `segment=` may name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest

from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.tracing import blocks
from ssr_exp.rescaling.tracing.blocks import Block, Chain, Finder
from ssr_exp.rescaling.tracing.trace import Trace


@dataclass(frozen=True)
class SegmentDraft:
    """A segment to be: its blocks, the first `least` of which are never removed."""

    name: str
    blocks: tuple[Block, ...]
    least: int = 1

    @property
    def has_depth(self) -> bool:
        """Say whether a block can be removed."""
        return self.least < len(self.blocks)


def find(
    network: nn.Module, trace: Trace, kind: str, patterns: Sequence[str], *, depth: bool = False
) -> list[SegmentDraft]:
    """Split a traced network in one of the ways of `KINDS`; of `channels` only what has `depth`.

    Raises:
        SsrError: if the kind is unknown, if it is given what belongs to another one, or if the
            patterns fit no modules or share some.
    """
    if kind not in KINDS:
        raise SsrError(f"segment.kind={kind} is unknown; choose one of {', '.join(KINDS)}.")
    if patterns and kind != "manual":
        raise SsrError(
            f"segment.patterns are for segment=manual: leave them out with segment={kind}."
        )
    is_channels = kind == channels.__name__
    if depth and not is_channels:
        raise SsrError(
            f"segment.depth=true is for segment=channels: leave it out with segment={kind}, which "
            "says by itself whether blocks are removed."
        )
    return KINDS[kind](network, trace, patterns) if depth or not is_channels else []


def stage(network: nn.Module, trace: Trace, patterns: Sequence[str]) -> list[SegmentDraft]:
    """Chains of identically dimensioned blocks (SSR)."""
    finder = Finder(network, trace)
    chains = finder.find()
    named = zip(_names(chains), chains, strict=True)
    return [SegmentDraft(name, tuple(chain), finder.fewest(chain)) for name, chain in named]


def block(network: nn.Module, trace: Trace, patterns: Sequence[str]) -> list[SegmentDraft]:
    """Each block a segment: it has a width of its own, and no depth."""
    blocks = [block for chain in Finder(network, trace).find() for block in chain]
    return [SegmentDraft(path[0], (path,)) for path in blocks]


def whole(network: nn.Module, trace: Trace, patterns: Sequence[str]) -> list[SegmentDraft]:
    """One segment: depth takes the last blocks of all stages in turn."""
    finder = Finder(network, trace)
    cut = [(chain, finder.fewest(chain)) for chain in finder.find()]
    stay = [block for chain, fewest in cut for block in chain[:fewest]]
    turns = zip_longest(*(chain[fewest:] for chain, fewest in cut))
    rest = [block for turn in turns for block in turn if block is not None]
    return [SegmentDraft("network", (*stay, *rest), least=len(stay))] if cut else []


def superblock(network: nn.Module, trace: Trace, patterns: Sequence[str]) -> list[SegmentDraft]:
    """Convolutions and linear maps binned by their dimensions, wherever they stand (SCBP).

    The last one of the network is in none of the bins. Width only.
    """
    bins: dict[str, list[str]] = {}
    last = trace.products[-1].path if trace.products else ""
    modules = dict(network.named_modules())
    for product in trace.products:
        if product.path == last or not product.path:
            continue
        sizes = f"{len(product.inp)}-{len(product.out)}"
        grouped = f"g{product.groups}" if product.groups > 1 else ""
        shape = getattr(modules[product.path], "kernel_size", ())
        kernel = "x".join(map(str, shape if isinstance(shape, tuple) else (shape,))) or "linear"
        bins.setdefault(f"{kernel}:{sizes}{grouped}", []).append(product.path)
    binned: set[str] = set()
    drafts = []
    for name, paths in bins.items():
        block = tuple(dict.fromkeys(path for path in paths if path not in binned))
        binned.update(block)
        drafts += [SegmentDraft(name, (block,))] if block else []
    return drafts


def channels(network: nn.Module, trace: Trace, patterns: Sequence[str]) -> list[SegmentDraft]:
    """Each group of channels that shrinks together (see `channel_segments`).

    Only what else a group may keep fewer of is found here: the blocks of stages.
    """
    return [draft for draft in stage(network, trace, patterns) if draft.has_depth]


def manual(network: nn.Module, trace: Trace, patterns: Sequence[str]) -> list[SegmentDraft]:
    """One segment for each pattern: all modules of such a name; depth where they are a chain."""
    if not patterns:
        raise SsrError(
            "segment=manual needs segment.patterns=[...], one for each segment, for instance "
            "[layer1.*,layer2.*]: names of modules, * stands for anything within a name."
        )
    finder = Finder(network, trace)
    drafts, taken = [], dict[str, str]()
    for pattern in patterns:
        paths = _matching(finder, pattern)
        shared = next(((p, t) for p in paths for t in taken if _overlap(p, t)), None)
        if shared is not None:
            raise SsrError(
                f"segment.patterns: {taken[shared[1]]!r} and {pattern!r} share {shared[0]}; a "
                "module belongs to one segment."
            )
        taken |= dict.fromkeys(paths, pattern)
        chain = [(path,) for path in paths]
        if len(finder.chain(chain)) == 1:
            drafts.append(SegmentDraft(pattern, tuple(chain), finder.fewest(chain)))
        else:
            drafts.append(SegmentDraft(pattern, (tuple(paths),)))
    order = list(finder.calls)
    return sorted(drafts, key=lambda draft: order.index(draft.blocks[0][0]))


def _matching(finder: Finder, pattern: str) -> list[str]:
    """List the modules of a name, as they run; a name has as many parts as its pattern."""
    depth = pattern.count(".")
    named = [
        path
        for path in finder.modules
        if path and path.count(".") == depth and fnmatchcase(path, pattern)
    ]
    if not named:
        examples = [path for path in finder.modules if path and "." not in path][:12]
        raise SsrError(
            f"segment.patterns: no module is named {pattern!r}; there are "
            f"{', '.join(examples)}, and what they hold."
        )
    if not set(named) & set(finder.calls) & finder.workers:
        raise SsrError(
            f"segment.patterns: {named[0]} does not run by itself, or holds no convolution or "
            f"linear map; name what it holds, for instance {named[0]}.*, or what holds it."
        )
    return [path for path in finder.calls if path in named]


def _overlap(one: str, other: str) -> bool:
    return blocks.is_inside(one, (other,)) or blocks.is_inside(other, (one,))


def _names(chains: Sequence[Chain]) -> list[str]:
    """Name each chain by the module that holds it, and by its blocks if that holds several."""
    holders = [chain[0][0].rpartition(".")[0] for chain in chains]
    names = []
    for holder, chain in zip(holders, chains, strict=True):
        ends = [path.rpartition(".")[2] for path in (chain[0][0], chain[-1][0])]
        span = ends[0] if len(chain) == 1 else "-".join(ends)
        alone = holder and holders.count(holder) == 1
        names.append(holder if alone else f"{holder}.{span}".lstrip("."))
    return names


KINDS: dict[str, Callable[[nn.Module, Trace, Sequence[str]], list[SegmentDraft]]] = {
    kind.__name__: kind for kind in (stage, superblock, block, channels, whole, manual)
}
