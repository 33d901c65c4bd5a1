"""Stages: chains of blocks in which all but the first map a shape to the same shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn

from ssr_exp.rescaling.trace import Call, Trace

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

Chain = list[str]
"""Paths of blocks, in the order in which they run. All but the first can be removed."""


def find(network: nn.Module, trace: Trace) -> list[Chain]:
    """Find the chains of identically dimensioned blocks, in the order in which they run.

    A block is an instance of a class that the network repeats. Chains are looked for from the
    outside inwards: the outermost class with a removable block anywhere is the network's block
    class, and all its instances belong to chains. If no block can be removed, the outermost
    repeated classes give chains of one.
    """
    return _Finder(network, trace).find()


class _Finder:
    def __init__(self, network: nn.Module, trace: Trace) -> None:
        self.modules = dict(network.named_modules())
        times = Counter(call.path for call in trace.calls)
        self.calls = {call.path: call for call in trace.calls if times[call.path] == 1}
        self.readers = trace.readers
        names = network.named_parameters(remove_duplicate=False)
        self.holders: dict[int, list[str]] = {}
        for name, parameter in names:
            self.holders.setdefault(id(parameter), []).append(name)
        counts = Counter(type(module) for module in self.modules.values())
        self.repeated = {kind for kind, count in counts.items() if count > 1}

    def find(self) -> list[Chain]:
        removable = {
            type(self.modules[chain[0]])
            for chain in self._walk("", self.repeated, shortest=2)
            if len(chain) > 1
        }
        chains = list(self._walk("", removable or self.repeated, shortest=1))
        order = {path: position for position, path in enumerate(self.calls)}
        return sorted(chains, key=lambda chain: order[chain[0]])

    def _walk(self, path: str, kinds: set[type[nn.Module]], shortest: int) -> Iterator[Chain]:
        """Yield the chains below a module; do not look into the blocks of a chain."""
        taken = set()
        for chain in self._chains(self._children(path), kinds):
            if len(chain) >= shortest:
                taken.update(chain)
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

    def _chains(self, paths: Sequence[str], kinds: set[type[nn.Module]]) -> list[Chain]:
        chains: list[Chain] = []
        previous = None
        for path in paths:
            if not self._is_block(path, kinds):
                previous = None
                continue
            if previous is not None and self._continues(previous, path):
                chains[-1].append(path)
            else:
                chains.append([path])
            previous = path
        return chains

    def _is_block(self, path: str, kinds: set[type[nn.Module]]) -> bool:
        module = self.modules[path]
        has_parts = any(True for _ in module.children())
        return has_parts and type(module) in kinds and not isinstance(module, CONTAINERS)

    def _continues(self, previous: str, path: str) -> bool:
        """Say whether a block could be left out: same class and shape, and nobody reads between."""
        one, other = self.calls[previous], self.calls[path]
        return (
            type(self.modules[previous]) is type(self.modules[path])
            and other.reads == one.writes
            and other.in_shape == other.out_shape
            and self._only_read_in(one, path)
            and self._owns_its_parameters(path)
        )

    def _owns_its_parameters(self, path: str) -> bool:
        """Say whether no other block uses this one's weights, which are counted only once."""
        return all(
            name.startswith(f"{path}.")
            for parameter in self.modules[path].parameters()
            for name in self.holders[id(parameter)]
        )

    def _only_read_in(self, call: Call, path: str) -> bool:
        return all(
            reader == path or reader.startswith(f"{path}.")
            for reader in self.readers[call.writes]
            if not (reader == call.path or reader.startswith(f"{call.path}."))
        )
