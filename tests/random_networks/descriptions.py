"""What a random network is made from: small values that can be drawn, printed and read again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from tests.random_networks.graphs import Step

Extra = tuple[str, str, bool]
"""A kind, a place, and whether its code is run directly, as a part of the network's own."""
Trait = tuple[str, int]
"""A kind, and n: it is given to every n-th convolution."""


@dataclass(frozen=True)
class Stage:
    """Some blocks of one kind; the first may change the width.

    Args:
        block: their kind; `graph` for one that runs `steps`.
        count: how many there are.
        channels: that they put out.
        resize: of the map, before them.
        holder: what holds and runs them.
        norm: in them; likewise `activation` and `padding`.
        steps: of a `graph`.
    """

    block: str = "plain"
    count: int = 2
    channels: int = 16
    resize: str = "none"
    holder: str = "sequence"
    norm: str = "batch"
    activation: str = "relu"
    padding: str = "zeros"
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Description:
    """A random network, and how it is split.

    Args:
        kind: how the stages are connected.
        dims: of its maps.
        size: of the image, in pixels of each dimension.
        stem: that reads the image.
        stages: one after the other.
        head: that makes the output.
        output: what the output is packed into.
        taps: what else is put out.
        extras: what is sprinkled over it.
        traits: what is done to it once it is made.
        split: its kind of segments.
        multiple: that channels are rounded to.
    """

    kind: str = "forward"
    dims: int = 2
    size: int = 8
    stem: str = "unit"
    stages: tuple[Stage, ...] = (Stage(),)
    head: str = "pooled"
    output: str = "tensor"
    taps: str = "none"
    extras: tuple[Extra, ...] = ()
    traits: tuple[Trait, ...] = ()
    split: str = "stage"
    multiple: int = 4


def write(description: Description) -> str:
    """Write a description as JSON; what is as usual is left out."""
    fields = _changed(description)
    fields["stages"] = [
        _changed(stage) | {"steps": [dataclasses.astuple(step) for step in stage.steps]}
        for stage in description.stages
    ]
    for stage in fields["stages"]:
        if not stage["steps"]:
            del stage["steps"]
    return json.dumps(fields)


def read(text: str) -> Description:
    """Read what `write` wrote."""
    fields = json.loads(text)
    stages = tuple(
        Stage(**stage | {"steps": tuple(Step(*step) for step in stage.get("steps", ()))})
        for stage in fields.pop("stages")
    )
    for name in ("extras", "traits"):
        fields[name] = tuple(tuple(entry) for entry in fields.get(name, ()))
    return Description(stages=stages, **fields)


def _changed(value: Any) -> dict[str, Any]:
    usual = type(value)()
    return {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != getattr(usual, field.name)
    }
