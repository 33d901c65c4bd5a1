"""Runs on the meta device: shapes without data, quickly, and what ran where."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import copying

NORMS = """native_batch_norm _native_batch_norm_legit
_native_batch_norm_legit_no_training""".split()
INDEXING = "index _unsafe_index index_put index_put_".split()  # on any device, by real indices, too
OVERWRITTEN: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()
"""Tensors with data into which a run has written some without: their values mean nothing."""
TORCH = ("aten", "prims")
DYNAMIC = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
ASKED = re.compile(  # what PyTorch says when a tensor without data is asked for its values
    r"cannot be called on meta tensors|copy out of meta tensor|meta device type tensor to numpy"
    r"|register_meta function for torch\.nonzero|repeat_interleave a meta tensor"
    r"|aten::\w+: attempted to run this operator with Meta tensors|with unallocated storage"
)


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
    """Take a tensor's shape without its data; of indices, flags and single numbers both."""
    is_index = not (tensor.is_floating_point() or tensor.is_complex())
    keeps_values = is_index or tensor.ndim == 0
    if keeps_values and not isinstance(tensor, nn.Parameter) and not tensor.is_meta:
        return tensor.detach().to("cpu", copy=True)
    return tensor.detach().to("meta")


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave all generators of random numbers as they were; meanwhile they always draw the same."""
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
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
    empty = args, kwargs
    if _meet_without_data(args, kwargs) and name not in INDEXING:
        empty = tree_map(_emptied, (args, kwargs))
    try:
        out = func(*empty[0], **empty[1])
    except (NotImplementedError, RuntimeError) as error:
        has_no_rule = isinstance(error, NotImplementedError) or func.namespace not in TORCH
        if not (has_no_rule and DYNAMIC.isdisjoint(func.tags)):
            raise
        out = _run_on_zeros(func, *empty)
    if empty[0] is not args and func._schema.is_mutable and isinstance(out, Tensor):
        OVERWRITTEN[args[0]] = True  # it is this tensor that Python goes on with
        return args[0]
    return out


def _meet_without_data(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Say whether tensors with data meet some without (those made without `device=` do)."""
    inputs = tensors((args, kwargs))
    n_meta = sum(x.is_meta for x in inputs)
    return 0 < n_meta < len(inputs) or (
        bool(OVERWRITTEN) and any(not x.is_meta and x in OVERWRITTEN for x in inputs)
    )


def _emptied(x: Any) -> Any:
    return x.to("meta") if isinstance(x, Tensor) else x


def _run_on_zeros(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    def filled(x: Any) -> Any:
        return torch.zeros_like(x, device="cpu") if isinstance(x, Tensor) else x

    with torch.no_grad():
        out = func(*tree_map(filled, args), **tree_map(filled, kwargs))
    return tree_map(_emptied, out)


def _batch_norm(args: Sequence[Any]) -> Any:
    x = args[0]
    for parameter in args[1:5]:
        if isinstance(parameter, Tensor) and parameter.numel() != x.shape[1]:
            raise RuntimeError(
                f"a batch norm of {parameter.numel()} channels meets {x.shape[1]} channels"
            )
    return torch.empty_like(x, device="meta"), *(torch.empty(0, device="meta") for _ in range(2))


def asks_for_values(error: Exception) -> bool:
    """Say whether a run stopped because a tensor without data was asked for its values."""
    return ASKED.search(str(error)) is not None


def values_refused(name: str, path: str, error: Exception) -> SsrError:
    """Say which module (at `path`) of a network decides by values, and what would help."""
    inside = f" in its module {path}" if path else ""
    said = cause(error).partition(". ")[0]
    return SsrError(
        f"{name} cannot be traced: it decides{inside} by the values of its activations ({said}), "
        "and all images must take the same way: replace the condition, for instance by torch.where."
    )


@contextmanager
def hooks(
    network: nn.Module, before: Callable[..., None], after: Callable[..., None]
) -> Iterator[None]:
    """Meanwhile call `before(path, module, args)` and `after(path, module, args, kwargs, output)`.

    Scripted modules take no hooks: what they run is their caller's.
    """
    handles = []
    for path, module in network.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            handles.append(module.register_forward_pre_hook(partial(before, path)))
            end = module.register_forward_hook(partial(after, path), with_kwargs=True)
            handles.append(end)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def load(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Count the multiply-adds of one operation, as PyTorch does."""
    count = flop_registry.get(func.overloadpacket)
    return 0 if count is None else int(count(*args, **kwargs, out_val=out)) // 2


class ModuleWatch(TorchDispatchMode):
    """Notes which module runs, and how many multiply-adds each of them takes.

    Attributes:
        makers: modules whose products went into the operation that failed; if none failed, those
            that came out of the last one. A product starts afresh; all else passes on what it is
            made of. Empty unless `names_makers`.
        failed: whether an operation failed.
        macs: for each module its own multiply-adds, without those of its children.
        loads: the multiply-adds of each matrix product, in the order in which they ran.
        operations: how often each module ran an operation, by its path and the operation's name.
    """

    def __init__(self, network: nn.Module, *, names_makers: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names_makers = names_makers
        self.macs: dict[str, int] = {}
        self.loads: list[int] = []
        self.operations = Counter[tuple[str, str]]()
        self.makers: frozenset[str] = frozenset()
        self.failed = False
        self._made: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # so that no other tensor takes their identity
        self._scope = [""]
        self._network = network

    @property
    def path(self) -> str:
        """The innermost module that is running, or was when it failed."""
        return self._scope[-1]

    def made_by(self, value: Any) -> frozenset[str]:
        """Name the modules whose products tensors are made of."""
        return frozenset().union(*(self._made.get(id(x), frozenset()) for x in tensors(value)))

    def mark(self, value: Any, makers: frozenset[str]) -> None:
        """Note whose products tensors are made of."""
        results = tensors(value)
        self._alive += results
        self._made.update((id(x), makers) for x in results)

    def __enter__(self) -> ModuleWatch:
        self._hooks = hooks(self._network, self._start, self._end)
        self._hooks.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.__exit__(None, None, None)

    def _start(self, path: str, module: nn.Module, args: Any) -> None:
        self._scope.append(path)

    def _end(self, *_: Any) -> None:
        self._scope.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        self.failed = True
        if self.names_makers:
            self.makers = self.made_by((args, kwargs))
        self.operations[self.path, func.overloadpacket.__name__] += 1
        out = run(func, args, kwargs or {})
        self.failed = False
        if func.overloadpacket in flop_registry:
            macs = load(func, args, kwargs or {}, out)
            self.loads.append(macs)
            self.macs[self.path] = self.macs.get(self.path, 0) + macs
            self.makers = frozenset({self.path})
        if self.names_makers:
            self.mark(out, self.makers)
        return out


def tensors(value: Any) -> list[Tensor]:
    """List the tensors in the arguments or the result of an operation."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return []
    return [tensor for part in value for tensor in tensors(part)]
