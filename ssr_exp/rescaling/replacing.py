"""Puts modules in the places of others, wherever an object holds these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp.errors import SsrError

DEEPEST = 6  # levels of lists, dictionaries and objects that may hold the network
LIBRARIES = ("torch", "lightning", "lightning_fabric", "torchmetrics", "builtins", "collections")


def put(
    holder: nn.Module, network: str, pairs: Sequence[tuple[nn.Module, nn.Module]], name: str
) -> None:
    """Put rescaled modules in the places of their originals, wherever a module holds these.

    Args:
        holder: is changed.
        network: where it has its network, for errors.
        pairs: originals, and what stands for each.
        name: of the holder's class, for errors.

    Raises:
        SsrError: if the holder has a part of an original that what stands for it lacks, or weights
            outside of modules.
    """
    new: dict[int, nn.Module | str] = {}
    tensors: dict[int, str] = {}
    for old, rescaled in pairs:
        new |= {id(part): _same(path, old, rescaled) or path for path, part in old.named_modules()}
        tensors |= {id(t): n for n, t in [*old.named_parameters(), *old.named_buffers()]}
    Relinking(name, network, new, tensors).of(holder, "", DEEPEST)


def copies(holder: nn.Module, original: nn.Module) -> Iterator[str]:
    """Name the modules outside of one that hold weights like its own, as a copy does."""
    own = {id(part) for part in original.modules()}
    theirs: dict[tuple[int, ...], list[Tensor]] = {}
    for tensor in [*original.parameters(), *original.buffers()]:
        if is_telling(tensor):
            theirs.setdefault(tuple(tensor.shape), []).append(tensor)
    for path, part in holder.named_modules():
        held = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        alike = ((one, other) for one in held for other in theirs.get(tuple(one.shape), ()))
        if id(part) not in own and any(torch.equal(one, other) for one, other in alike):
            yield path


def is_telling(tensor: Tensor) -> bool:
    """Say whether no other tensor holds the same by chance."""
    return (
        tensor.is_floating_point()
        and tensor.numel() > 8
        and bool((tensor != tensor.flatten()[0]).any())
    )


def stand_in(holder: nn.Module, network: str, old: nn.Module, value: nn.Module, name: str) -> None:
    """Let something else compute wherever a module holds another one."""
    Relinking(name, network, {id(old): value}, {}).of(holder, "", DEEPEST)


def _same(path: str, old: nn.Module, rescaled: nn.Module) -> nn.Module | None:
    """Find what a module of the whole network is in a rescaled one; None if that may lack it.

    Where a sequence lost blocks, the rest of it is numbered anew.
    """
    for name in filter(None, path.split(".")):
        if [*dict(old.named_children())] != [*dict(rescaled.named_children())]:
            return None
        old, rescaled = old.get_submodule(name), rescaled.get_submodule(name)
    return rescaled


class Relinking:
    """Puts new modules in the places of old ones, in all that an object holds.

    Args:
        name: of the object's class, for errors.
        network: where that has its network, for errors.
        new: by the identity of an old module the new one, or its path where there is none.
        tensors: by the identity of an old tensor its name.
    """

    def __init__(
        self,
        name: str,
        network: str,
        new: Mapping[int, nn.Module] | Mapping[int, nn.Module | str],
        tensors: Mapping[int, str],
    ) -> None:
        self._name, self._network, self._new, self._tensors = name, network, new, tensors
        self._seen: set[int] = set()

    def of(self, value: Any, where: str, levels: int) -> Any:
        """Return what stands for a value: itself, changed inside where that is needed."""
        if id(value) in self._new:
            made = self._new[id(value)]
            if isinstance(made, str):
                raise SsrError(
                    f"{self._name} holds a part of its network at {where}, {made}, which a smaller "
                    f"network may lack: let it look up {self._network} where it needs that."
                )
            return made
        if id(value) in self._tensors:
            raise SsrError(
                f"{self._name} holds weights of its network at {where}: they would stay those of "
                f"the whole one. Make what holds them later, in configure_optimizers or "
                "on_fit_start, or look them up where they are needed."
            )
        if isinstance(value, MethodType) and id(value.__self__) in self._new:
            return getattr(self.of(value.__self__, where, levels), value.__name__)
        if levels == 0 or id(value) in self._seen:
            return value
        self._seen.add(id(value))
        return self._inside(value, where, levels - 1)

    def _inside(self, value: Any, where: str, levels: int) -> Any:
        if isinstance(value, dict):
            for key, part in list(value.items()):
                value[key] = self.of(part, _joined(where, key), levels)
        elif isinstance(value, list):
            value[:] = [self.of(part, f"{where}[{i}]", levels) for i, part in enumerate(value)]
        elif type(value) in (tuple, set, frozenset):
            held = list(value)
            parts = [self.of(part, where, levels) for part in held]
            is_same = all(one is other for one, other in zip(held, parts, strict=True))
            return value if is_same else type(value)(parts)
        elif isinstance(value, nn.Module):
            self._module(value, where, levels)
        elif isinstance(value, partial):
            self._partial(value, where, levels)
        elif isinstance(value, MethodType):
            self.of(value.__self__, where, levels)
        elif isinstance(value, FunctionType):
            self._closure(value, where, levels)
        elif isinstance(value, torch.optim.Optimizer) or _is_foreign(value):
            self.of(vars(value), where, levels)
        return value

    def _partial(self, value: Any, where: str, levels: int) -> None:
        """Go through a partial, and change it in place: others may hold it, too."""
        held = value.__reduce__()[2]  # its function, its arguments, its attributes
        value.__setstate__(tuple(self.of(part, where, levels) for part in held))

    def _closure(self, function: FunctionType, where: str, levels: int) -> None:
        """Go through the variables of others that a function reads, and through its defaults."""
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                held = cell.cell_contents
            except ValueError:  # nothing is in it yet
                continue
            if (new := self.of(held, _joined(where, name), levels)) is not held:
                cell.cell_contents = new
        given = function.__defaults__
        if given and (defaults := self.of(given, where, levels)) is not given:
            function.__defaults__ = defaults
        self.of(function.__kwdefaults__ or {}, where, levels)

    def _module(self, value: nn.Module, where: str, levels: int) -> None:
        """Go through a module's parts and attributes; how deep its parts lie does not matter."""
        for key, part in list(vars(value).items()):
            if key == "_modules":
                for child, held in list(part.items()):
                    part[child] = self.of(held, _joined(where, child), DEEPEST)
            elif key == "_parameters":
                self.of(part, where, levels)
            elif not key.startswith("_forward") and not key.startswith("_backward"):
                vars(value)[key] = self.of(part, _joined(where, key), levels)


def _joined(where: str, key: object) -> str:
    return f"{where}.{key}".lstrip(".") if where else str(key)


def _is_foreign(value: Any) -> bool:
    """Say whether a value is an object of a class that may hold a network, as no library's is."""
    kind = type(value).__module__.partition(".")[0]
    return hasattr(value, "__dict__") and not isinstance(value, type) and kind not in LIBRARIES
