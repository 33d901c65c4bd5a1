"""Stages: chains of blocks in which all but the first map a shape to the same shape."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set

from torch import nn

from ssr_exp.rescaling.tracing.trace import CALLER, Call, Trace

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
PLAIN = (nn.modules.conv._ConvNd, nn.Linear)

LEFT_OUT = 0.2  # the share of the parameters that may stand in no block
FEWEST_CHAINED = 0.2  # the share of a kind's modules that stand in chains, for it to be a block
PLAIN_PART = 0.5  # the same, for a network to be called plain

Block = tuple[str, ...]
"""Paths of the modules that are removed together: mostly one, else siblings that run in turn."""

Chain = list[Block]
"""Blocks in the order in which they run. All but the first can be removed."""

REPEATED = "it holds one module at several places"

Kind = object
"""What a module is: its class, or for a sequence `(class, kinds of what it holds)`."""


def is_container(module: nn.Module) -> bool:
    """Say whether a module only holds others: it has no code of its own."""
    forward = type(module).forward
    return isinstance(module, CONTAINERS) and any(forward is kind.forward for kind in CONTAINERS)


class Finder:
    """Looks for chains in a traced network."""

    def __init__(self, network: nn.Module, trace: Trace) -> None:
        self.modules = dict(network.named_modules())
        self.kinds = {path: _structure(module) for path, module in self.modules.items()}
        self.all_calls: dict[str, list[Call]] = {}
        for call in trace.calls:
            self.all_calls.setdefault(call.path, []).append(call)
        self.calls = {
            path: calls[0] for path, calls in self.all_calls.items() if not calls[0].training
        }
        self.products = list(dict.fromkeys(product.path for product in trace.products))
        self.workers = {holder for path in self.products for holder in (path, *holders_of(path))}
        self.readers, self.reads, self.stays = trace.readers, trace.reads, trace.stays
        self.parameters = dict(network.named_parameters())
        self.names_of: dict[int, list[str]] = {}
        for name, parameter in network.named_parameters(remove_duplicate=False):
            self.names_of.setdefault(id(parameter), []).append(name)
        counts = Counter(type(module) for module in self.modules.values())
        self.repeated: set[Kind] = {
            kind for kind, count in counts.items() if count > 1 and kind not in CONTAINERS
        }

    def find(self) -> list[Chain]:
        """Find the chains of identically dimensioned blocks, in the order in which they run.

        A block is an instance of a class that the network repeats. Chains are looked for from the
        outside inwards: the outermost class with a removable block anywhere is the network's block
        class, and all its instances belong to chains. In plain networks, a convolution or linear
        map and what follows it in a sequence is a block. Where that leaves out much of the network,
        the outermost repeated classes are blocks that stay, all those of one resolution together;
        without these, all layers of one resolution are.
        """
        chains = self._stages()
        if not chains and self._share_outside(plain := self._plain()) < PLAIN_PART:
            chains = plain
        if self._share_outside(chains) > LEFT_OUT:
            chains = self._ordered([*chains, *self._singles(chains)])
        # Else all layers that put out maps of one size are one block that stays.
        return chains or self._by_resolution([p for p in self.products[:-1] if p in self.calls])

    def fewest(self, chain: Sequence[Block]) -> int:
        """Count how many blocks a chain must keep: up to the last one that cannot be taken out."""
        stay = [n for n, block in enumerate(chain) if n and not self._can_be_taken_out(block)]
        return max(stay, default=0) + 1

    def _stages(self) -> list[Chain]:
        """Chains of the kinds of which a block can be removed, and that are no parts of others.

        All blocks of these kinds count, removable or not. Plain sequences are blocks only where no
        class is.
        """
        chained = Counter[Kind]()
        for chain in self._walk("", None, shortest=2):
            chained[self.kinds[chain[0][0]]] += len(chain)
        instances = Counter(self.kinds[path] for path in self.calls)
        kinds = {kind for kind, n in chained.items() if n >= FEWEST_CHAINED * instances[kind]}
        kinds = {kind for kind in kinds if isinstance(kind, type)} or kinds
        parts = {
            self.kinds[path]
            for path in self.modules
            for holder in holders_of(path)
            if holder and self.kinds[holder] in kinds - {self.kinds[path]}
        }
        main = kinds - parts or kinds
        return self._ordered(self._walk("", main, shortest=1)) if main else []

    def _singles(self, chains: Sequence[Chain]) -> list[Chain]:
        """Repeated blocks that stand in no chain: those of one resolution are one block."""
        chained = [block for chain in chains for block in chain]
        free = [
            path
            for path in self.calls
            if self._is_block(path, self.repeated)
            and not any(is_inside(path, block) for block in chained)
            and not any(is_inside(part, (path,)) for block in chained for part in block)
        ]
        outermost = [path for path in free if not set(holders_of(path)) & set(free)]
        return self._by_resolution(outermost)

    def _share_outside(self, chains: Sequence[Chain]) -> float:
        """Count the share of the parameters, the classifier's left out, that are in no block."""
        blocks = [block for chain in chains for block in chain]
        total, outside = 0, 0
        for name, parameter in self.parameters.items():
            if not is_inside(name, tuple(self.products[-1:])):
                total += parameter.numel()
                if not any(is_inside(name, block) for block in blocks):
                    outside += parameter.numel()
        return outside / max(total, 1)

    def _by_resolution(self, paths: Sequence[str]) -> list[Chain]:
        """Join modules of one holder that run in turn and put out maps of one size."""
        blocks: list[list[str]] = []
        before = None
        for path in sorted(paths, key=list(self.calls).index):
            shapes = self.calls[path].out_shapes
            place = path.rpartition(".")[0], shapes[0][1:] if shapes else None
            if blocks and place == before:
                blocks[-1].append(path)
            else:
                blocks.append([path])
            before = place
        return [[tuple(paths)] for paths in blocks]

    def _plain(self) -> list[Chain]:
        """Chains of layers in plain sequences, if any layer can be removed."""
        chains = [
            chain
            for path, module in self.modules.items()
            if is_container(module) and not isinstance(module, nn.ModuleDict)
            for chain in self.chain(self._units(path))
        ]
        return self._ordered(chains) if any(len(chain) > 1 for chain in chains) else []

    def _ordered(self, chains: Iterable[Chain]) -> list[Chain]:
        """Sort chains by when they run."""
        order = {path: position for position, path in enumerate(self.calls)}
        return sorted(chains, key=lambda chain: order[chain[0][0]])

    def _units(self, path: str) -> list[Block]:
        """Cut a sequence into layers: a convolution or linear map, and what keeps its shape."""
        units: list[Block] = []
        if self._repeats(path):
            self.stays[path] = REPEATED
        for child in self._children(path):
            module = self.modules[child]
            if isinstance(module, PLAIN):
                units.append((child,))
            elif units and not list(module.children()) and self._follows(units[-1], child):
                units[-1] = (*units[-1], child)
            elif units:
                units.append(())
        last = "".join(self.products[-1:])  # it makes the network's output, whose size is given
        return [unit for unit in units if unit and not is_inside(last, unit)]

    def _follows(self, unit: Block, path: str) -> bool:
        if not unit:
            return False
        one, other = self.calls[unit[-1]], self.calls[path]
        pools = "Pool" in type(self.modules[path]).__name__
        return not pools and other.reads == one.writes and other.in_shapes == other.out_shapes

    def _walk(self, path: str, kinds: set[Kind] | None, shortest: int) -> Iterator[Chain]:
        """Yield the chains of blocks of some kinds below a module, not looking into these blocks.

        `kinds` is None for all that may be blocks; `shortest` counts a chain's blocks.
        """
        taken: set[str] = set()
        units = [(child,) for child in self._children(path) if self._is_block(child, kinds)]
        for chain in self.chain(units):
            if len(chain) >= shortest:
                taken.update(block[0] for block in chain)
                yield chain
        for name, _ in self.modules[path].named_children():
            child = f"{path}.{name}".lstrip(".")
            if child not in taken and child in self.modules:
                yield from self._walk(child, kinds, shortest)

    def _children(self, path: str) -> list[str]:
        """List a module's children in the order in which they run."""
        prefix = f"{path}." if path else ""
        names = {prefix + name for name, _ in self.modules[path].named_children()}
        return [path for path in self.calls if path in names]

    def chain(self, blocks: Sequence[Block]) -> list[Chain]:
        """Join blocks that could be left out to those before them."""
        chains: list[Chain] = []
        for block in blocks:
            if chains and self._continues(chains[-1][-1], block):
                chains[-1].append(block)
            else:
                chains.append([block])
        return chains

    def _is_block(self, path: str, kinds: set[Kind] | None) -> bool:
        """Say whether a module may be a block: a repeated one that is no part of one itself."""
        module = self.modules[path]
        if path not in self.workers or not any(True for _ in module.children()):
            return False
        if is_container(module) and type(module) is not nn.Sequential:
            return False
        if kinds is not None:
            return self.kinds[path] in kinds
        holder = path.rpartition(".")[0]
        return type(self.modules[holder]) not in self.repeated or self._is_sequence(holder)

    def _is_sequence(self, path: str) -> bool:
        """Say whether a module only runs its parts one after the other."""
        if is_container(self.modules[path]):
            return True
        calls = [self.calls[child] for child in self._children(path) if child in self.workers]
        if path not in self.calls or not calls:
            return False
        whole = self.calls[path]
        ends = [whole.reads, *(call.writes for call in calls)]
        return whole.writes == ends[-1] and ends[:-1] == [call.reads for call in calls]

    def _continues(self, previous: Block, block: Block) -> bool:
        """Say whether a block could be left out: same class and shape, and nobody reads between."""
        if [self.kinds[path] for path in previous] != [self.kinds[path] for path in block]:
            return False
        for training in (False, True):
            ends = [
                [call for call in self.all_calls[path] if call.training is training]
                for path in (previous[-1], block[0], block[-1])
            ]
            is_even = len({len(calls) for calls in ends}) == 1
            if not is_even and training:
                continue  # one of them was skipped by chance
            if not is_even or not all(
                self._passes_on(calls, previous, block) for calls in zip(*ends, strict=True)
            ):
                return False
        return self._owns_its_parameters(block)

    def _passes_on(self, calls: tuple[Call, ...], previous: Block, block: Block) -> bool:
        """Say whether one call maps what the previous block put out to the same shapes.

        The calls are of the previous block's end, and of the block's first and last module. It may
        read more (an embedding of time), as long as that comes after.
        """
        wrote, read, last = calls
        n = len(wrote.writes)
        return (
            n > 0
            and read.reads[:n] == wrote.writes
            and read.in_shapes[:n] == last.out_shapes
            and self._only_read_in(wrote, previous, block)
        )

    def _is_tapped(self, path: str) -> bool:
        """Say whether others read what modules of a sequence put out, the last one's left aside."""
        children = self._children(path)
        return not all(
            self._only_read_in(self.calls[one], (one,), (other,), {CALLER})
            for one, other in itertools.pairwise(children)
        )

    def _repeats(self, path: str) -> bool:
        """Say whether a sequence holds one module at several places."""
        return len(set(self.modules[path].children())) < len(self.modules[path]._modules)

    def _can_be_taken_out(self, block: Block) -> bool:
        """Say whether what holds a block still runs without it; notes why where it does not."""
        for path in block:
            holder = path.rpartition(".")[0]
            module = self.modules[holder]
            if not is_sequence(module):
                continue
            if self._repeats(holder):
                self.stays[holder] = REPEATED
            elif holder not in self.calls and self._is_tapped(holder):
                self.stays[holder] = "what its modules put out is read on the way, not at its end"
            elif not self.reads.in_order(holder):
                self.stays[holder] = (
                    "its modules are read by position (an index, a slice, enumerate, a name), not "
                    "in a plain loop"
                )
            else:
                continue
            return False
        return True

    def _owns_its_parameters(self, block: Block) -> bool:
        """Say whether no other block uses this one's weights, which are counted only once."""
        for path in block:
            for parameter in self.modules[path].parameters():
                names = self.names_of[id(parameter)]
                if other := [name for name in names if not is_inside(name, block)]:
                    self.stays[path] = f"its weights are those of {other[0]}, too"
                    return False
        return True

    def _only_read_in(
        self, call: Call, previous: Block, block: Block, except_for: Set[str] = frozenset()
    ) -> bool:
        return all(
            is_inside(reader, block) or is_inside(reader, previous)
            for tensor in call.writes
            for reader in self.readers[tensor] - except_for
        )


def is_sequence(module: nn.Module) -> bool:
    """Say whether a module runs whatever children it has, in order."""
    return isinstance(module, nn.ModuleList) or (
        isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    )


def _structure(module: nn.Module) -> Kind:
    if type(module) is not nn.Sequential:
        return type(module)
    return nn.Sequential, tuple(map(_structure, module.children()))


def holders_of(path: str) -> Iterator[str]:
    """Name the modules that hold one, from the inside outwards; the last is the network, ``."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def is_inside(path: str, block: Block) -> bool:
    """Say whether a module or parameter stands in a block."""
    return any(path == member or path.startswith(f"{member}.") for member in block)
