"""What a network is called with: any number of inputs of any shape, kind and structure.

A user gives an example (`Inputs`, a tensor, a tuple, a dictionary, or the shape of one input). Its
`Signature` is what is stored: structure, shapes, kinds and ranges, never data; it makes inputs of
any batch size.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, islice
from numbers import Integral
from typing import Annotated, Any

import torch
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn

from ssr_exp.errors import SsrError, cause
from ssr_exp.files import FileModel
from ssr_exp.rescaling import meta, nested

IMAGE = "image"
"""The name of the one tensor that most networks are called with."""
BATCHES = 2, 3  # that are compared to find the batch dimension
ATTEMPTS = 64  # choices of batch dimensions that are tried
KINDS = "tensors, dictionaries, lists, tuples, numbers, text, True, False and None"
Sizes = Annotated[tuple[Annotated[int, Field(ge=0, le=2**40)], ...], Field(max_length=16)]


@dataclass(frozen=True)
class Inputs:
    """Example inputs: the network is called as `network(*args, **kwargs)`.

    Args:
        args: positional inputs. Tensors have a batch dimension, or are shared by all of a batch.
            They may lie in dictionaries, lists and tuples; other inputs are numbers, text, True,
            False or None, and stay as they are.
        kwargs: inputs by keyword, likewise.

    Raises:
        SsrError: if `args` is no tuple or `kwargs` no dictionary.

    Example:
        >>> Inputs((torch.zeros(2, 3, 64, 64),), {"mask": torch.ones(2, 64, 64)}).args[0].shape
        torch.Size([2, 3, 64, 64])
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        args: Any = self.args
        kwargs: Any = self.kwargs
        if not isinstance(args, (tuple, list)):
            raise SsrError(
                f"the first argument of Inputs is a {type(args).__name__}; it must be a tuple of "
                "all positional inputs: type Inputs((x,)) for one."
            )
        if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
            raise SsrError(
                "the second argument of Inputs must be a dictionary from names to inputs: type "
                'Inputs((x,), {"mask": mask}).'
            )
        object.__setattr__(self, "args", tuple(args))


class InputTensor(FileModel):
    """One tensor among a network's inputs.

    Attributes:
        name: the parameter of forward and the keys that lead to it, joined by `_`.
        shape: without the batch.
        dtype: as `torch.float32` is spelled, without `torch.`.
        batch_dim: where the batch dimension is; None: it has none, and is shared by all of a batch.
        low: the least of the example's values, `high` the largest; None: draw from the normal
            distribution.
    """

    name: str
    shape: Sizes
    dtype: str = "float32"
    batch_dim: Annotated[int, Field(ge=0)] | None = 0
    low: float | int | None = None
    high: float | int | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> InputTensor:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"PyTorch has no dtype {self.dtype}")
        if (self.batch_dim or 0) > len(self.shape):
            raise ValueError(f"{self.name} has no dimension {self.batch_dim} for the batch")
        if (self.low is None) != (self.high is None) or (self.low or 0) > (self.high or 0):
            raise ValueError(f"{self.name} has values from {self.low} to {self.high}")
        return self

    @property
    def kind(self) -> torch.dtype:
        """Its dtype."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def size(self, batch: int) -> tuple[int, ...]:
        """Say its whole shape for a batch."""
        if self.batch_dim is None:
            return self.shape
        return *self.shape[: self.batch_dim], batch, *self.shape[self.batch_dim :]

    def make(
        self, batch: int, *, device: torch.device | str, generator: torch.Generator | None
    ) -> Tensor:
        """Draw values of its range; without data on the meta device."""
        size, dtype = self.size(batch), self.kind
        if str(device) == "meta":
            return torch.empty(size, dtype=dtype, device="meta")
        options: dict[str, Any] = {
            "device": device if generator is None else generator.device,
            "generator": generator,
        }
        low, high = self.low, self.high
        if dtype.is_floating_point or dtype.is_complex:
            if low is None or high is None or low == high:
                return torch.randn(size, dtype=dtype, **options).to(device)
            return (low + (high - low) * torch.rand(size, dtype=dtype, **options)).to(device)
        drawn = torch.randint(int(low or 0), int(high or 0) + 1, size, **options)
        return drawn.to(device=device, dtype=dtype)

    def text(self) -> str:
        """Write shape and dtype for people: `3x64x64`, `128 (int64)`."""
        shape = "x".join(map(str, self.shape)) or "1"
        remarks = [] if self.dtype == "float32" else [self.dtype]
        remarks += ["shared"] if self.batch_dim is None else []
        remarks += [f"batch is dimension {self.batch_dim}"] if self.batch_dim else []
        return f"{shape} ({', '.join(remarks)})" if remarks else shape


class Signature(FileModel):
    """What a network is called with, without any data: immutable, and written as JSON.

    Attributes:
        tensors: in the order of the inputs.
        args: the positional inputs: `{"tensor": 0}` is the first of `tensors`; `{"list": [...]}`,
            `{"tuple": [...]}` and `{"dict": {...}}` hold others; all else is a constant.
        kwargs: inputs by keyword, likewise.
    """

    tensors: Annotated[tuple[InputTensor, ...], Field(min_length=1, max_length=1000)]
    args: tuple[JsonValue, ...] = ()
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Signature:
        places: list[int] = []
        for part in (*self.args, *self.kwargs.values()):
            _filled(part, places.append)
        if places != [*range(len(self.tensors))]:
            raise ValueError("its structure does not hold each of its tensors once")
        if len({tensor.name for tensor in self.tensors}) < len(self.tensors):
            raise ValueError("two tensors have one name")
        return self

    @cached_property
    def is_one_image(self) -> bool:
        """Say whether it is one tensor of floats, batch first: all that most networks take."""
        tensor = self.tensors[0]
        is_alone = self.args == ({"tensor": 0},) and not self.kwargs
        return is_alone and tensor.batch_dim == 0 and tensor.kind.is_floating_point

    @property
    def stored(self) -> Signature | None:
        """What a file has to say beside the shape of the image: None where that says all."""
        return None if self.is_one_image else self

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first tensor that has one, without the batch: of the image, if any."""
        return next((tensor.shape for tensor in self.tensors if tensor.shape), (1,))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors."""
        return tuple(tensor.name for tensor in self.tensors)

    def make(
        self,
        batch: int,
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make inputs, `args` and `kwargs`: drawn in each tensor's range, empty on meta.

        Args:
            batch: how many samples.
            device: where they are made.
            generator: of the random numbers; None: torch's global one.
        """
        options: dict[str, Any] = {"device": device, "generator": generator}
        return self.filled([tensor.make(batch, **options) for tensor in self.tensors])

    def filled(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Put tensors, in the order of `tensors`, where they belong: `args` and `kwargs`."""
        args = tuple(_filled(part, tensors.__getitem__) for part in self.args)
        return args, {
            name: _filled(part, tensors.__getitem__) for name, part in self.kwargs.items()
        }

    def text(self) -> str:
        """Write it for people: `3x32x32`, `image 3x64x64 and mask 1x64x64 (bool)`."""
        if len(self.tensors) == 1:
            return self.tensors[0].text()
        *others, last = [f"{tensor.name} {tensor.text()}" for tensor in self.tensors]
        return f"{', '.join(others)} and {last}"


Example = Sequence[int] | Tensor | tuple[Any, ...] | Mapping[str, Any] | Inputs | Signature
"""What says how a network is called; see `read`."""


def of_shape(shape: Sequence[int], network: nn.Module) -> Signature:
    """Describe one tensor of floats, in the precision of a network's parameters.

    Args:
        shape: without the batch.
        network: it is called with the tensor.
    """
    kinds = (p.dtype for p in network.parameters() if p.is_floating_point())
    return one_tensor(shape, next(kinds, torch.get_default_dtype()))


def one_tensor(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Signature:
    """Describe one tensor; `shape` is without the batch, which comes first."""
    tensor = InputTensor(name=IMAGE, shape=tuple(shape), dtype=_spelled(dtype))
    return Signature(tensors=(tensor,), args=({"tensor": 0},))


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
    signature = _with_batch(network, drafts, args, kwargs)
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


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _filled(part: Any, look_up: Callable[[int], Any]) -> Any:
    """Build what a part of a structure stands for."""
    if not isinstance(part, dict):
        return part
    if len(part) != 1:
        raise ValueError(f"a structure has the parts {', '.join(part)}")
    ((kind, value),) = part.items()
    if kind == "tensor" and isinstance(value, int):
        return look_up(value)
    if kind in ("list", "tuple") and isinstance(value, (list, tuple)):
        parts = [_filled(each, look_up) for each in value]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict" and isinstance(value, dict):
        return {key: _filled(each, look_up) for key, each in value.items()}
    if kind.startswith("namedtuple ") and isinstance(value, dict):
        parts = [_filled(each, look_up) for each in value.values()]
        return namedtuple(kind.partition(" ")[2], value)(*parts)
    raise ValueError(f"a structure has the unknown part {kind}")


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
        name=name, shape=tuple(x.shape), dtype=_spelled(x.dtype), batch_dim=None, low=low, high=high
    )


def _with_batch(
    network: nn.Module,
    drafts: Sequence[InputTensor],
    args: tuple[JsonValue, ...],
    kwargs: dict[str, JsonValue],
) -> Signature:
    """Find where the batch dimensions are.

    Raises:
        SsrError: if the network does not run, or no dimension is one.
    """
    whole = Signature(tensors=tuple(drafts), args=args, kwargs=kwargs)
    for dims in islice(_choices([draft.shape for draft in drafts]), ATTEMPTS):
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
            f"{name} does not run on the example inputs ({shapes}): {cause(error)}."
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


def _choices(shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[int | None, ...]]:
    """List choices of batch dimensions, the likeliest first; None: a tensor has none."""
    for length in dict.fromkeys(shape[0] for shape in shapes if shape):
        alike = [i for i, shape in enumerate(shapes) if shape and shape[0] == length]
        for count in range(len(alike), 0, -1):
            for chosen in combinations(alike, count):
                yield tuple(0 if i in chosen else None for i in range(len(shapes)))
    for length in dict.fromkeys(shape[1] for shape in shapes if len(shape) > 1):
        yield tuple(
            next((dim for dim in (1, 0) if shape[dim : dim + 1] == (length,)), None)
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
