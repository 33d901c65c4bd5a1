"""How a network is called, read from an example: its signature, with the batch found."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from numbers import Integral
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from ssr_exp import user_code
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import meta, nested
from ssr_exp.rescaling.inputs import (
    IMAGE,
    Example,
    Inputs,
    InputTensor,
    Signature,
    of_shape,
    spelled,
)

BATCHES = 2, 3  # that are compared to find the batch dimension
ATTEMPTS = 64  # choices of batch dimensions that are tried
KINDS = "tensors, dictionaries, lists, tuples, numbers, text, True, False and None"


def read(network: nn.Module, example: Example) -> Signature:
    """Read how a network is called from an example.

    The batch dimension is the one that changes the outputs between batches of 2 and 3 samples, in
    runs without data.

    Args:
        network: it is neither changed nor run on data.
        example: the shape of one input of floats, without the batch (a list or tuple of integers);
            or inputs with a batch: a tensor, a tuple of positional inputs, one dictionary, or
            `Inputs`; or a signature.

    Raises:
        SsrError: if it is none of these, the network does not run on it, or no dimension is a
            batch.

    Example:
        >>> read(nn.Conv1d(1, 8, 3), torch.zeros(2, 1, 16000)).text()
        '1x16000'
    """
    if isinstance(example, Signature):
        return example
    if is_shape(example):
        return of_shape([int(size) for size in example], network)  # type: ignore[union-attr]
    inputs = as_inputs(example)
    tensors: list[tuple[tuple[str, ...], Tensor]] = []
    named = _bound(network, inputs)
    structure = {name: _structure(value, keys, tensors) for name, (keys, value) in named.items()}
    if not tensors:
        raise SsrError("the example inputs hold no tensor: give what the network is called with.")
    args = tuple(structure[str(number)] for number in range(len(inputs.args)))
    kwargs = {name: structure[f"{name}="] for name in inputs.kwargs}
    names = _names([keys for keys, _ in tensors])
    if args == ({"tensor": 0},) and not kwargs:
        names = [IMAGE]
    drafts = [_described(name, x) for name, (_, x) in zip(names, tensors, strict=True)]
    signature = _with_batch(network, drafts, args, kwargs, inputs.batch_dim)
    if not signature.is_one_image:
        return signature
    (tensor,) = signature.tensors
    plain = tensor.model_copy(update={"low": None, "high": None})
    return signature.model_copy(update={"tensors": (plain,)})


def is_shape(example: Any) -> bool:
    """Say whether an example is a shape: a list or tuple of integers."""
    return isinstance(example, (list, tuple)) and all(
        isinstance(size, Integral) and not isinstance(size, bool) for size in example
    )


def as_inputs(example: Any) -> Inputs:
    """Read example inputs of any form but a shape.

    Raises:
        SsrError: if it has none of these forms.
    """
    if isinstance(example, Inputs):
        return example
    if isinstance(example, (Tensor, Mapping)):
        return Inputs((example,))
    if isinstance(example, tuple):
        return Inputs(example)
    raise SsrError(
        f"example inputs cannot be a {type(example).__name__}: give a shape without the batch, "
        "such as (3, 224, 224), or inputs with a batch: a tensor, a tuple of positional inputs, a "
        "dictionary, or ssr_exp.Inputs(args, kwargs)."
    )


def capture(network: nn.Module, call: Callable[[], Any]) -> Inputs | None:
    """Record the inputs of a network's first call while `call()` runs.

    They are the tensors themselves. None where it is not called.
    """
    captured: list[Inputs] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not captured:
            captured.append(Inputs(args, kwargs))

    handle = network.register_forward_pre_hook(record, with_kwargs=True)
    try:
        call()
    finally:
        handle.remove()
    return captured[0] if captured else None


def difference(network: nn.Module, call: Inputs, signature: Signature) -> str:
    """Say in what a call of a network differs from a signature; empty if in no shape or kind.

    Sizes of batches do not count.
    """
    tensors: list[tuple[tuple[str, ...], Tensor]] = []
    for keys, value in _bound(network, call).values():
        _structure(value, keys, tensors)
    dims = [tensor.batch_dim for tensor in signature.tensors]
    dims += [0] * (len(tensors) - len(dims))
    drafts = [_described("", x) for _, x in tensors]
    given = [
        _cut(draft, dim).text() for draft, dim in zip(drafts, dims[: len(drafts)], strict=True)
    ]
    known = [tensor.text() for tensor in signature.tensors]
    if given == known:
        return ""
    return f"with {' and '.join(given) or 'no tensor'}, not with {' and '.join(known)}"


def _structure(
    value: Any, keys: tuple[str, ...], tensors: list[tuple[tuple[str, ...], Tensor]]
) -> JsonValue:
    """Write the structure of an input; its tensors are added to the list, with their keys."""

    def inside(key: Any, part: Any) -> JsonValue:
        return _structure(part, (*keys, str(key)), tensors)

    if isinstance(value, Tensor):
        tensors.append((keys, value))
        return {"tensor": len(tensors) - 1}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: inside(key, part) for key, part in value.items()}}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = zip(value._fields, value, strict=True)
        return {f"namedtuple {type(value).__name__}": {key: inside(key, p) for key, p in parts}}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [inside(number, part) for number, part in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    kind = (
        "dictionary whose keys are no text" if isinstance(value, Mapping) else type(value).__name__
    )
    raise SsrError(f"the input {'.'.join(keys)} is a {kind}: inputs can be {KINDS}.")


def _bound(network: nn.Module, inputs: Inputs) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Name each input by its parameter of forward: for `0` and `name=` its keys and value."""
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):  # of compiled code
        names: list[str] = []
    else:
        try:
            signature.bind(*inputs.args, **inputs.kwargs)
        except TypeError as error:
            raise SsrError(
                f"the forward of {type(network).__name__}{signature} cannot be called with the "
                f"example inputs: {error}."
            ) from None
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in signature.parameters.values() if p.kind in positional]
    named: dict[str, tuple[tuple[str, ...], Any]] = {}
    for number, value in enumerate(inputs.args):
        name = names[number] if number < len(names) else f"input_{number}"
        named[str(number)] = (name,), value
    return named | {f"{name}=": ((name,), value) for name, value in inputs.kwargs.items()}


def _names(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Name tensors by their keys; those of one dictionary without the parameter's name."""
    if len({each[0] for each in keys}) == 1 and all(len(each) > 1 for each in keys):
        keys = [each[1:] for each in keys]
    names: list[str] = []
    for each in keys:
        name = re.sub(r"\W", "_", "_".join(each))
        name = f"input_{name}" if not name or name[0].isdigit() else name
        while name in names:
            name += "_"
        names.append(name)
    return names


def _described(name: str, x: Tensor) -> InputTensor:
    """Describe a tensor without a batch: its whole shape, and the range of its values."""
    low: float | int | None = None
    high: float | int | None = None
    if x.numel() and not x.is_meta and not x.is_complex():
        values = x.detach().float() if x.is_floating_point() else x.detach().long()
        low, high = values.min().item(), values.max().item()
        if not (math.isfinite(low) and math.isfinite(high)):
            low = high = None
    return InputTensor(
        name=name, shape=tuple(x.shape), dtype=spelled(x.dtype), batch_dim=None, low=low, high=high
    )


def _with_batch(
    network: nn.Module,
    drafts: Sequence[InputTensor],
    args: tuple[JsonValue, ...],
    kwargs: dict[str, JsonValue],
    batch_dim: int | None,
) -> Signature:
    """Find where the batch dimensions are.

    Raises:
        SsrError: if the network does not run, or no dimension is one.
    """
    whole = Signature(tensors=tuple(drafts), args=args, kwargs=kwargs)
    places = (0, 1) if batch_dim is None else (batch_dim,)
    for dims in islice(_choices([draft.shape for draft in drafts], places), ATTEMPTS):
        tensors = tuple(_cut(draft, dim) for draft, dim in zip(drafts, dims, strict=True))
        signature = whole.model_copy(update={"tensors": tensors})
        try:
            runs = [_run(network, signature, batch) for batch in BATCHES]
        except Exception:  # of anyone's code: it says that this is no batch dimension
            continue
        if _follow(*runs):
            return signature
    shapes = ", ".join(f"{t.name} {'x'.join(map(str, t.shape)) or '1'}" for t in drafts)
    name = type(network).__name__
    try:
        _run(network, whole, 1)
    except Exception as error:
        if meta.asks_for_values(error):
            raise meta.values_refused(name, "", error) from error
        raise SsrError(
            f"{name} does not run on the example inputs ({shapes}): {user_code.where(error)}"
            f"{cause(error)}."
        ) from error
    raise SsrError(
        f"no batch dimension was found in the example inputs of {name} ({shapes}): with 2 or 3 "
        "samples along the first or second dimension it does not run, or its outputs do not "
        "follow. Give inputs with a batch, such as torch.zeros(2, 3, 224, 224), and a network "
        "that takes batches of any size."
    )


def _cut(draft: InputTensor, dim: int | None) -> InputTensor:
    """Take the batch out of a shape."""
    shape = tuple(size for number, size in enumerate(draft.shape) if number != dim)
    return draft.model_copy(update={"shape": shape, "batch_dim": dim})


def _choices(
    shapes: Sequence[tuple[int, ...]], places: Sequence[int]
) -> Iterator[tuple[int | None, ...]]:
    """List choices of batch dimensions, the likeliest first; None: a tensor has none."""
    for place in places:
        for length in dict.fromkeys(shape[place] for shape in shapes if len(shape) > place):
            alike = [i for i, shape in enumerate(shapes) if shape[place : place + 1] == (length,)]
            for count in range(len(alike), 0, -1):
                for chosen in combinations(alike, count):
                    yield tuple(place if i in chosen else None for i in range(len(shapes)))
            if place:  # such as lengths beside sequences
                yield tuple(
                    next((dim for dim in (place, 0) if shape[dim : dim + 1] == (length,)), None)
                    for shape in shapes
                )


class _Convolutions(meta.ModuleWatch):
    """Notes the positions that each convolution runs over."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.sizes: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket is torch.ops.aten.convolution:
            self.sizes.append(tuple(args[0].shape[2:]))
        return super().__torch_dispatch__(func, types, args, kwargs)


_Run = tuple[tuple[tuple[int, ...], ...], list[tuple[int, ...]]]


def outputs(network: nn.Module, signature: Signature, batch: int) -> Any:
    """Run a copy of a network, in eval mode, without data; returns what it puts out."""
    return _watched(network, signature, batch)[0]


def _run(network: nn.Module, signature: Signature, batch: int) -> _Run:
    """Run without data: the shapes of the outputs, and the positions of the convolutions."""
    output, sizes = _watched(network, signature, batch)
    return nested.shapes(output), sizes


def _watched(
    network: nn.Module, signature: Signature, batch: int
) -> tuple[Any, list[tuple[int, ...]]]:
    shadow = meta.copied(network).eval()
    args, kwargs = signature.make(batch, device="meta")
    watch = _Convolutions(shadow)
    with meta.undrawn(), torch.inference_mode(False), torch.no_grad(), watch:
        output = shadow(*args, **kwargs)
    return output, watch.sizes


def _follow(two: _Run, three: _Run) -> bool:
    """Say whether outputs grow with the batch, and no convolution takes samples for positions."""
    pairs = zip(two[0], three[0], strict=False)
    dims = [ends for one, other in pairs for ends in zip(one, other, strict=False)]
    grows = any(few != many and few * BATCHES[1] == many * BATCHES[0] for few, many in dims)
    return grows and two[1] == three[1]
