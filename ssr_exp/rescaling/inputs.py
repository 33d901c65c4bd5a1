"""What a network is called with: any number of inputs of any shape, kind and structure.

A user gives an example (`Inputs`, a tensor, a tuple, a dictionary, or the shape of one input). Its
`Signature` is what is stored: structure, shapes, kinds and ranges, never data; it makes inputs of
any batch size.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import torch
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel

IMAGE = "image"
"""The name of the one tensor that most networks are called with."""
Sizes = Annotated[tuple[Annotated[int, Field(ge=0, le=2**40)], ...], Field(max_length=16)]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Example inputs: the network is called as `network(*args, **kwargs)`.

    Args:
        args: positional inputs. Tensors have a batch dimension, or are shared by all of a batch.
            They may lie in dictionaries, lists and tuples; other inputs are numbers, text, True,
            False or None, and stay as they are.
        kwargs: inputs by keyword, likewise.
        batch_dim: where the batch is in all tensors that have one: 1 where sequences come first.
            None: the first dimension, or where the network does not run so, the second.

    Raises:
        SsrError: if `args` is no tuple or `kwargs` no dictionary.

    Example:
        >>> Inputs((torch.zeros(2, 3, 64, 64),), {"mask": torch.ones(2, 64, 64)}).args[0].shape
        torch.Size([2, 3, 64, 64])
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    batch_dim: int | None = None

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
        low: the least of the example's values, `high` the largest; None, or 0 and 0 of floats:
            draw from the normal distribution.
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
            if low is not None and low == high != 0:  # zeros say nothing of the values
                return torch.full(size, low, dtype=dtype, device=device)
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
"""What says how a network is called; see `input_examples.read`."""


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
    tensor = InputTensor(name=IMAGE, shape=tuple(shape), dtype=spelled(dtype))
    return Signature(tensors=(tensor,), args=({"tensor": 0},))


def spelled(dtype: torch.dtype) -> str:
    """Write a kind of numbers: `float32`."""
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
