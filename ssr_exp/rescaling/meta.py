"""Runs on the meta device: shapes without data, quickly, and what ran where."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from ssr_exp.rescaling import copying

NORMS = """native_batch_norm _native_batch_norm_legit
_native_batch_norm_legit_no_training""".split()
INDEXING = "index _unsafe_index index_put index_put_".split()  # on any device, by real indices, too
DYNAMIC = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}


def copied(network: nn.Module) -> nn.Module:
    """Copy the modules of a network but none of its data.

    What is trained stays so: `matmul` turns into other products where a factor is not. Small
    integers and flags keep their values, which a forward may ask for.
    """
    replaced: dict[int, Any] = {}
    for _, tensor in copying.tensors(network):
        empty = bare(tensor)
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        replaced[id(tensor)] = empty
    return copying.copied(network, replaced)


def bare(tensor: Tensor) -> Tensor:
    """Take a tensor's shape without its data; of indices, flags and single numbers a copy of both."""
    is_index = not (tensor.is_floating_point() or tensor.is_complex())
    keeps_values = is_index or tensor.ndim == 0
    if keeps_values and not isinstance(tensor, nn.Parameter) and not tensor.is_meta:
        return tensor.detach().to("cpu", copy=True)
    return tensor.detach().to("meta")


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave all generators of random numbers as they were: a run may draw from them."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(python)
    np.random.set_state(arrays)


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run one operation on tensors without data; those with data among them lose it.

    PyTorch works out the shapes of a batch norm by a chain of smaller operations; here they are
    known. An operation that has no rule for shapes is run on zeros.

    Raises:
        RuntimeError: if the tensors do not fit.
    """
    name = func.overloadpacket.__name__
    if name in NORMS:
        return _batch_norm(args)
    if name not in INDEXING:
        args, kwargs = _without_data(args, kwargs)
    try:
        return func(*args, **kwargs)
    except NotImplementedError:
        if not DYNAMIC.isdisjoint(func.tags):
            raise
        return _run_on_zeros(func, args, kwargs)


def _without_data(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Take the data off what meets a tensor without: one made without `device=`, an index."""
    found = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    n_meta = sum(x.is_meta for x in found)
    if n_meta in (0, len(found)):
        return args, kwargs
    return tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, (args, kwargs))


def _run_on_zeros(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    def filled(x: Any) -> Any:
        return torch.zeros_like(x, device="cpu") if isinstance(x, Tensor) else x

    with torch.no_grad():
        out = func(*tree_map(filled, args), **tree_map(filled, kwargs))
    return tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, out)


def _batch_norm(args: Sequence[Any]) -> Any:
    x = args[0]
    for parameter in args[1:5]:
        if isinstance(parameter, Tensor) and parameter.numel() != x.shape[1]:
            raise RuntimeError(
                f"a batch norm of {parameter.numel()} channels meets {x.shape[1]} channels"
            )
    return torch.empty_like(x, device="meta"), *(torch.empty(0, device="meta") for _ in range(2))


def load(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Count the multiply-adds of one operation, as PyTorch does."""
    count = flop_registry.get(func.overloadpacket)
    return 0 if count is None else int(count(*args, **kwargs, out_val=out)) // 2


class Watch(TorchDispatchMode):
    """Notes which module runs, and how many multiply-adds each of them takes.

    Attributes:
        path: the innermost module that is running, or was when it failed.
        before: the innermost module that ended last; None before the first did.
        macs: for each module its own multiply-adds, without those of its children.
        loads: the multiply-adds of each matrix product, in the order in which they ran.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str, int] = {}
        self.loads: list[int] = []
        self.before: str | None = None
        self._scope = [""]
        self._network = network
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @property
    def path(self) -> str:
        """Say where the run is."""
        return self._scope[-1]

    def __enter__(self) -> Watch:
        for path, module in self._network.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._start(path)))
            self._hooks.append(module.register_forward_hook(self._end))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def _start(self, path: str) -> Any:
        return lambda module, args: self._scope.append(path)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        path = self._scope.pop()
        if not any(module.children()):
            self.before = path

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        out = run(func, args, kwargs or {})
        if func.overloadpacket in flop_registry:
            macs = load(func, args, kwargs or {}, out)
            self.loads.append(macs)
            self.macs[self.path] = self.macs.get(self.path, 0) + macs
        return out
