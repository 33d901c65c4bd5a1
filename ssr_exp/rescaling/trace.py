"""One run of the seed network on the meta device: its channels, products and modules' calls.

No data is computed and no weight is copied. What each operation means for the labels stands in
`rules`; what is not understood there is frozen at full size and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import meta, rules, values, weights
from ssr_exp.rescaling.labels import BATCH, Vector, along, fixed_like, spread, varying
from ssr_exp.rescaling.observations import Call, Leaf, Need, Trace
from ssr_exp.rescaling.weights import Origin


class Tracer(TorchDispatchMode):
    """Carries labels along while the network runs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.modules = dict(network.named_modules())
        self.scope: list[str] = [""]
        self._labels: dict[int, Tensor] = {}
        self._origin: dict[int, Origin] = {}
        self._parametric: set[int] = set()
        self._alive: list[Tensor] = []
        self._calls: list[tuple[str, list[list[Tensor]], list[list[Tensor | None]]]] = []
        for name, tensor in _tensors(network):
            self._adopt(name, tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, then let its rule label what came out."""
        out = meta.run(func, args, kwargs or {})
        inputs = _tensors_in((args, kwargs))
        for tensor in inputs:
            self.trace.readers[id(tensor)].add(self.scope[-1])
        results = _tensors_in(out)
        self._alive += results  # so that no other tensor takes their identity
        if inputs and all(id(tensor) in self._parametric for tensor in inputs):
            self._parametric.update(map(id, results))
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

    def origin(self, x: Any) -> Origin | None:
        """Say which parameter or buffer `x` is, and where its dimensions have gone."""
        return self._origin.get(id(x))

    def derive(self, x: Tensor, origin: Origin) -> None:
        """Remember that `x` is a parameter or buffer, its dimensions maybe moved."""
        self._alive.append(x)
        self._origin[id(x)] = origin

    def is_parametric(self, x: Tensor) -> bool:
        """Say whether `x` was computed from parameters and buffers alone."""
        return id(x) in self._parametric

    def need(self, sizes: Sequence[int], labels: Sequence[Vector], divisor: int = 1) -> None:
        """Remember integers that the running operation was given and that count channels."""
        self.trace.needs.append(Need(self.scope[-1], tuple(sizes), tuple(labels), divisor))

    def _adopt(self, name: str, tensor: Tensor) -> None:
        leaf = Leaf(name, tuple(tensor.shape), [None] * tensor.ndim)
        self.trace.leaves[name] = leaf
        self.derive(tensor, Origin(leaf, weights.whole(leaf)))
        self._parametric.add(id(tensor))
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
            hooks.append(module.register_forward_hook(self._leave(path), with_kwargs=True))
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
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.scope.pop()
            ends = [_tensors_in((args, kwargs)), _tensors_in(output)]
            self._alive += ends[0] + ends[1]
            labels = [[self._labels.get(id(x)) for x in end] for end in ends]
            self._calls.append((path, ends, labels))

        return hook

    def calls(self) -> Iterator[Call]:
        """List the calls of modules, once the run is over."""
        for path, (reads, writes), (read, written) in self._calls:
            yield Call(
                path,
                reads=tuple(map(id, reads)),
                writes=tuple(map(id, writes)),
                in_shapes=tuple(tuple(x.shape[1:]) for x in reads),
                out_shapes=tuple(tuple(x.shape[1:]) for x in writes),
                in_labels=tuple(map(_channels, read)),
                out_labels=tuple(map(_channels, written)),
            )


def _channels(labels: Tensor | None) -> Vector | None:
    """Read the labels of an activation, if they stand along one dimension."""
    if labels is None:
        return None
    dims = varying(labels)
    return along(labels, dims[0]) if len(dims) == 1 else None


def run(network: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Trace `network` on images of `input_shape` (channels, height, width).

    The network itself is neither changed nor moved.

    Raises:
        SsrError: if the network does not run on such images, or decides by their values.
    """
    shadow = meta.copied(network).eval()
    image = torch.empty((BATCH, *input_shape), device="meta")
    tracer = Tracer(shadow)
    try:
        # What runs inside inference mode is seen by no tracer.
        with torch.inference_mode(False), torch.no_grad(), tracer.inside(shadow), tracer:
            output = shadow(image)
    except Exception as error:  # a network may be anyone's code
        raise _stopped(tracer.scope[-1], input_shape, error) from error
    for tensor in tree_leaves(output):
        if isinstance(tensor, Tensor):
            labels = tracer.labels(tensor)
            tracer.trace.ledger.freeze(labels.reshape(-1).numpy(), "the network's output")
    tracer.trace.calls.extend(tracer.calls())
    return tracer.trace


def _stopped(path: str, input_shape: Sequence[int], error: Exception) -> SsrError:
    """Say where a run stopped, and why."""
    if values.are_asked(error):
        return values.refusal("the network", path, error)
    size, inside = "x".join(map(str, input_shape)), f"in {path}, " if path else ""
    return SsrError(
        f"the network does not run on images of {size} (channels x height x width): {inside}"
        f"{cause(error)}."
    )


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _tensors_in(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
