"""One run of the seed network on the meta device: its channels, products and modules' calls.

No data is computed and no weight is copied. What each operation means for the labels stands in
`rules`; what is not understood there is frozen at full size and named.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.labels import BATCH, Ledger, Vector, along, fixed_like, spread, varying


@dataclass(frozen=True)
class Product:
    """One call of a convolution or linear map, as a matrix product.

    Args:
        path: the module that called it.
        positions: rows of the product for one image (M).
        out: labels of its output channels (N).
        inp: labels of its input channels.
        kernel: elements of the kernel for each pair of channels; K is `inp` times `kernel`.
        groups: into how many independent products it falls.
        narrow: whether, on rescaling, a group keeps its width (and their number changes).
    """

    path: str
    positions: int
    out: Vector
    inp: Vector
    kernel: int
    groups: int
    narrow: bool


@dataclass(frozen=True)
class Call:
    """One call of a module: the first tensor that goes in, and the one that comes out."""

    path: str
    reads: int
    writes: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    in_labels: Vector | None
    out_labels: Vector | None


@dataclass
class Leaf:
    """A parameter or buffer; `dims[d]` labels dimension `d`, None where its size is fixed.

    A weight has several long dimensions and is labelled by the product that uses it; any other
    leaf (a gain, a bias, a statistic) takes the channels that it meets.
    """

    name: str
    shape: tuple[int, ...]
    dims: list[Vector | None]

    @property
    def is_weight(self) -> bool:
        """Say whether more than one dimension is longer than 1."""
        return sum(size > 1 for size in self.shape) > 1


@dataclass
class Trace:
    """What was seen: everything that planning reads."""

    ledger: Ledger = field(default_factory=Ledger)
    products: list[Product] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    readers: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))


class Tracer(TorchDispatchMode):
    """Carries labels along while the network runs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.modules = dict(network.named_modules())
        self.scope: list[str] = [""]
        self._labels: dict[int, Tensor] = {}
        self._origin: dict[int, tuple[Leaf, tuple[int, ...]]] = {}
        self._alive: list[Tensor] = []
        for name, tensor in _tensors(network):
            self._adopt(name, tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, then let its rule label what came out."""
        from ssr_exp.rescaling import rules

        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self.trace.readers[id(tensor)].add(self.scope[-1])
        rules.find(func)(self, func, args, kwargs or {}, out)
        return out

    def labels(self, x: Tensor) -> Tensor:
        """Look up the labels of `x`; what was never labelled belongs to no channel."""
        found = self._labels.get(id(x))
        return fixed_like(x) if found is None else found

    def label(self, x: Tensor, labels: Tensor) -> None:
        """Remember the labels of `x`."""
        self._alive.append(x)
        self._labels[id(x)] = labels

    def origin(self, x: Any) -> tuple[Leaf, tuple[int, ...]] | None:
        """Say which parameter `x` is, and how its dimensions were permuted."""
        return self._origin.get(id(x))

    def derive(self, x: Tensor, leaf: Leaf, order: tuple[int, ...]) -> None:
        """Remember that `x` is the parameter `leaf` with its dimensions in another order."""
        self._alive.append(x)
        self._origin[id(x)] = (leaf, order)

    def _adopt(self, name: str, tensor: Tensor) -> None:
        leaf = Leaf(name, tuple(tensor.shape), [None] * tensor.ndim)
        self.trace.leaves[name] = leaf
        self.derive(tensor, leaf, tuple(range(tensor.ndim)))
        if tensor.ndim and not leaf.is_weight:
            dim = max(range(tensor.ndim), key=lambda d: leaf.shape[d])
            labels = self.trace.ledger.name(leaf.shape[dim])
            leaf.dims[dim] = labels
            self.label(tensor, spread(labels, tensor.shape, dim))

    @contextmanager
    def inside(self, network: nn.Module) -> Iterator[None]:
        """Note which module is running, and what goes in and out of it."""
        hooks = []
        for path, module in network.named_modules():
            hooks.append(module.register_forward_pre_hook(self._enter(path)))
            hooks.append(module.register_forward_hook(self._leave(path)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            caller = self.scope[-1]
            is_lent = not path.startswith(f"{caller}." if caller else "")
            has_weights = any(True for _ in module.parameters())
            self.scope.append(caller if is_lent and not has_weights else path)

        return hook

    def _leave(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.scope.pop()
            reads, writes = _first(args), _first(output)
            if reads is not None and writes is not None:
                self.trace.calls.append(self._call(path, reads, writes))

        return hook

    def _call(self, path: str, reads: Tensor, writes: Tensor) -> Call:
        self._alive += [reads, writes]
        shapes = tuple(reads.shape[1:]), tuple(writes.shape[1:])
        vectors = self._channels(reads), self._channels(writes)
        return Call(path, id(reads), id(writes), *shapes, *vectors)

    def _channels(self, x: Tensor) -> Vector | None:
        labels = self.labels(x)
        dims = varying(labels)
        return along(labels, dims[0]) if len(dims) == 1 else None


def run(network: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Trace `network` on images of `input_shape` (channels, height, width).

    The network itself is neither changed nor moved.

    Raises:
        SsrError: if the network does not run on such images.
    """
    shadow = _on_meta(network).eval()
    image = torch.empty((BATCH, *input_shape), device="meta")
    tracer = Tracer(shadow)
    try:
        with torch.no_grad(), tracer.inside(shadow), tracer:
            output = shadow(image)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        size = "x".join(map(str, input_shape))
        raise SsrError(
            f"the network does not run on images of {size} (channels x height x width): {error}"
        ) from error
    for tensor in tree_leaves(output):
        if isinstance(tensor, Tensor):
            labels = tracer.labels(tensor)
            tracer.trace.ledger.freeze(labels.reshape(-1).numpy(), "the network's output")
    return tracer.trace


def _on_meta(network: nn.Module) -> nn.Module:
    """Copy the modules but none of the data."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(network, memo)


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _first(value: Any) -> Tensor | None:
    return next((leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)), None)
