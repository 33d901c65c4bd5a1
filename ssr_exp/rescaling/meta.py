"""Runs on the meta device: shapes without data, quickly, and what ran where."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

NORMS = """native_batch_norm _native_batch_norm_legit
_native_batch_norm_legit_no_training""".split()


def copied(network: nn.Module) -> nn.Module:
    """Copy the modules of a network but none of its data.

    What is trained stays so: `matmul` turns into other products where a factor is not.
    """
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        empty = parameter.detach().to("meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(network, memo)


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run one operation on meta tensors.

    PyTorch works out the shapes of a batch norm by a chain of smaller operations; here they are
    known.

    Raises:
        RuntimeError: if the tensors do not fit.
    """
    if func.overloadpacket.__name__ not in NORMS:
        return func(*args, **kwargs)
    x = args[0]
    for parameter in args[1:5]:
        if isinstance(parameter, Tensor) and parameter.numel() != x.shape[1]:
            raise RuntimeError(
                f"a batch norm of {parameter.numel()} channels meets {x.shape[1]} channels"
            )
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


class Watch(TorchDispatchMode):
    """Notes which module runs, and how many multiply-adds each of them takes.

    Attributes:
        path: the innermost module that is running, or was when it failed.
        before: the innermost module that ended last; None before the first did.
        macs: for each module its own multiply-adds, without those of its children.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str, int] = {}
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
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            flops = count(*args, **(kwargs or {}), out_val=out)
            self.macs[self.path] = self.macs.get(self.path, 0) + flops // 2
        return out
