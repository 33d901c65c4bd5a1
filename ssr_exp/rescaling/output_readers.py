"""What reads the outputs of a part of a network: noted while the whole runs once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import copying, nested
from ssr_exp.rescaling.tracing.blocks import PLAIN

REPEATED = frozenset(
    "relu relu_ relu6 leaky_relu elu gelu silu mish hardswish hardsigmoid sigmoid tanh softplus "
    "dropout dropout2d max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
    "adaptive_avg_pool2d adaptive_max_pool2d interpolate flatten mean contiguous".split()
)
"""PyTorch's functions of one tensor that are traced behind a part, by their names."""
READ_NO_ELEMENT = frozenset(
    "shape dtype device layout ndim requires_grad is_cuda is_meta is_sparse is_quantized "
    "is_nested is_leaf size dim numel stride is_floating_point is_complex is_contiguous "
    "get_device element_size __len__ __hash__ new_zeros new_ones new_empty new_full".split()
)

Run = Callable[[nn.Module], object]
"""Runs a whole network once, on inputs of its own."""


@dataclass(frozen=True)
class Function:
    """A function of PyTorch's, and what it is given beside one tensor: numbers, text, and such."""

    call: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]


Value = tuple[int | str | Function, ...]
"""The number of one of a part's outputs, and the layers and functions that it went through."""


def watched(whole: nn.Module, path: str, call: Run, *, training: bool) -> OutputWatch:
    """Run a copy of the whole once in a mode, and note what reads the part's outputs."""
    copy = copying.copied(whole, {}).train(training)
    watch = OutputWatch(type(whole).__name__, path)
    with watch.hooked(copy), watch:
        result = call(copy)
    watch.read.update(watch.values(result))
    return watch


@dataclass(eq=False)
class OutputWatch(TorchFunctionMode):
    """Notes what reads the outputs of a part while the whole runs.

    Attributes:
        inputs: what the part was called with.
        numbers: of its outputs.
        made: what layers and functions made of these, in their order.
        read: the values that something else read.
        otherwise: layers that were called with something else.
    """

    name: str
    path: str
    inputs: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = field(default_factory=list)
    numbers: dict[int, None] = field(default_factory=dict)
    made: dict[Value, None] = field(default_factory=dict)
    read: set[Value] = field(default_factory=set)
    otherwise: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[Tensor, Value]] = {}  # which are kept, so that none is another
        self._inside: list[tuple[str, Value | None]] = []
        """What runs: the part, with no value, or a layer; None if it has more than one value."""

    def values(self, held: object) -> list[Value]:
        """List which of the values an object holds."""
        known = (self._known.get(id(tensor)) for tensor in nested.tensors(held))
        return [pair[1] for pair in known if pair is not None]

    def hooked(self, whole: nn.Module) -> ExitStack:
        """Watch the part and all layers outside of it; what is returned ends that."""
        part, stack = whole.get_submodule(self.path), ExitStack()
        inside = {id(module) for module in part.modules()}
        for path, module in whole.named_modules():
            if id(module) in inside and module is not part:
                hooks = [module.register_forward_pre_hook(partial(self._check_inside, path))]
            elif module is part or _is_leaf(module):
                enter = partial(self._enter, self.path if module is part else path)
                hooks = [
                    module.register_forward_pre_hook(enter, with_kwargs=True),
                    module.register_forward_hook(self._leave),
                ]
            else:
                continue
            for hook in hooks:
                stack.callback(hook.remove)
        return stack

    def _check_inside(self, path: str, *_: object) -> None:
        if not any(running == self.path for running, _ in self._inside):
            raise SsrError(
                f"{self.name} calls {path} by itself, which is inside of {self.path}: name "
                f"{path}, or a part that holds both calls."
            )

    def _enter(
        self, path: str, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        value: Value | None = None
        if self._is_hidden():
            self.otherwise.add(path)
        elif path == self.path:
            self.inputs.append((args, kwargs))
            self.read.update(self.values((args, kwargs)))
            value = ()
        else:
            if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
                value = next(iter(self.values(args)), None)
            if value is None:  # what it does with them shows by the functions that it calls
                self.otherwise.add(path)
        self._inside.append((path, value))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        path, value = self._inside.pop()
        if value == ():
            for number, tensor in enumerate(nested.tensors(output)):
                if id(tensor) not in self._known:
                    self.numbers[number] = None
                    self._known[id(tensor)] = tensor, (number,)
        elif value is not None:
            self._make(value, path, args[0], output, follows=not is_end(module))

    def _is_hidden(self) -> bool:
        """Say whether the part runs, or a layer that is noted as one."""
        return any(value is not None for _, value in self._inside)

    def _make(
        self,
        value: Value,
        step: str | Function,
        x: Tensor,
        output: object,
        *,
        follows: bool = True,
    ) -> None:
        """Note what is made of a value; it is only read where that has not its inputs in a row."""
        if not isinstance(output, Tensor) or output.shape[:1] != x.shape[:1]:
            self.read.add(value)
            self.otherwise |= {step} if isinstance(step, str) else set()
            return
        self.made[*value, step] = None
        if follows:
            self._known[id(output)] = output, (*value, step)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note whether a function is called with one of the values."""
        kwargs = dict(kwargs or {})
        values = [] if self._is_hidden() else self.values(tree_leaves((args, kwargs)))
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")  # type: ignore[attr-defined]
        if not values or name in READ_NO_ELEMENT:
            return result
        first, *rest = args or (None,)
        others = (_frozen(rest), tuple((key, _frozen(kwargs[key])) for key in sorted(kwargs)))
        if name in REPEATED and self.values([first]) and _is_plain(others):
            self._make(values[0], Function(func, *others), first, result)
        else:
            self.read.update(values)
        return result


def _is_leaf(module: nn.Module) -> bool:
    return not isinstance(module, torch.jit.ScriptModule) and not any(
        True for _ in module.children()
    )


def _is_plain(value: Any) -> bool:
    """Say whether a file can hold what a function is given."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def is_end(layer: nn.Module | None) -> bool:
    """Say whether the channels that a layer puts out are its own: they do not follow its input."""
    return isinstance(layer, PLAIN) and getattr(layer, "groups", 1) == 1
