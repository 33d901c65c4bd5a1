"""A part of a network as a file holds it: where it is, and what becomes of its outputs.

No data and no run of the whole are needed to find it again: `stored.find(whole, input_shape)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, JsonValue
from torch import Tensor, nn
from torch.overrides import resolve_name

from ssr_exp.files import FileModel
from ssr_exp.rescaling import network_parts
from ssr_exp.rescaling.network_parts import OutputFlow, Part
from ssr_exp.rescaling.output_readers import REPEATED, Function, Value

HOLDERS = {"torch": torch, "torch.Tensor": Tensor, "torch.nn.functional": nn.functional}


def _known(call: str) -> str:
    holder, _, name = call.rpartition(".")
    if name not in REPEATED or not hasattr(HOLDERS.get(holder), name):
        raise ValueError(f"{call} is no function that is traced behind a part")
    return call


class StoredFunction(FileModel):
    """A function of PyTorch's by its name, and what it is given beside one tensor."""

    call: Annotated[str, AfterValidator(_known)]
    args: tuple[JsonValue, ...] = ()
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, function: Function) -> StoredFunction:
        """Write a function."""
        args, kwargs = map(_listed, function.args), dict(function.kwargs)
        return cls(
            call=resolve_name(function.call) or "",
            args=tuple(args),
            kwargs={key: _listed(value) for key, value in kwargs.items()},
        )

    def read(self) -> Function:
        """Find the function."""
        holder, _, name = self.call.rpartition(".")
        call: Callable[..., Tensor] = getattr(HOLDERS[holder], name)
        kwargs = tuple((key, _frozen(value)) for key, value in self.kwargs.items())
        return Function(call, tuple(map(_frozen, self.args)), kwargs)


StoredValue = tuple[Annotated[int, Field(ge=0)] | str | StoredFunction, ...]


class StoredFlow(FileModel):
    """What becomes of a part's outputs in one mode; see `network_parts.OutputFlow`."""

    values: tuple[StoredValue, ...]
    outputs: tuple[StoredValue, ...]

    @classmethod
    def of(cls, flow: OutputFlow) -> StoredFlow:
        """Write a flow."""
        values, outputs = ([*map(_written, part)] for part in (flow.values, flow.outputs))
        return cls(values=tuple(values), outputs=tuple(outputs))

    def read(self) -> OutputFlow:
        """Make the flow."""
        return OutputFlow(tuple(map(_read, self.values)), tuple(map(_read, self.outputs)))


class StoredPart(FileModel):
    """A part of a network; see `network_parts.Part`.

    Attributes:
        path: of it in the whole.
        in_eval: what becomes of its outputs in eval mode; `in_train` in train mode.
        untrained: why the whole did not run in train mode; None: it did.
    """

    path: str
    in_eval: StoredFlow
    in_train: StoredFlow
    untrained: str | None = None

    @classmethod
    def of(cls, part: Part) -> StoredPart:
        """Write a part."""
        in_eval, in_train = (StoredFlow.of(part.flows[mode]) for mode in (False, True))
        untrained = part.untrained
        return cls(path=part.path, in_eval=in_eval, in_train=in_train, untrained=untrained)

    def find(self, whole: nn.Module, input_shape: tuple[int, ...]) -> Part:
        """Find the part in a whole network.

        Args:
            whole: as its constructor left it.
            input_shape: of one input of the part, without the batch.

        Raises:
            SsrError: if the whole has no such part, or lacks what reads it.
        """
        flows = {False: self.in_eval.read(), True: self.in_train.read()}
        return network_parts.made(whole, self.path, flows, input_shape, self.untrained)


def _written(value: Value) -> StoredValue:
    return tuple(StoredFunction.of(s) if isinstance(s, Function) else s for s in value)


def _read(value: StoredValue) -> Value:
    return tuple(step.read() if isinstance(step, StoredFunction) else step for step in value)


def _listed(value: Any) -> JsonValue:
    return [*map(_listed, value)] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
