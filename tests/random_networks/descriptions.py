"""What a random network is made from: small values that can be drawn, printed and read again."""

from __future__ import annotations

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
    """Some blocks of one kind; the first may change the width."""

    block: str = "plain"  # `graph` for one that runs `steps`
    count: int = 2
    channels: int = 16  # that they put out
    resize: str = "none"  # of the map, before them
    holder: str = "sequence"  # that holds and runs them
    norm: str = "batch"
    activation: str = "relu"
    padding: str = "zeros"
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Description:
    """A random network, and how it is split."""

    kind: str = "forward"  # how the stages are connected
    dims: int = 2
    size: int = 8  # of the image, in pixels of each dimension
    stem: str = "unit"
    stages: tuple[Stage, ...] = (Stage(),)
    head: str = "pooled"
    output: str = "tensor"  # what the output is packed into
    taps: str = "none"  # what else is put out
    extras: tuple[Extra, ...] = ()  # what is sprinkled over it
    traits: tuple[Trait, ...] = ()  # what is done to it once it is made
    split: str = "stage"  # its kind of segments
    multiple: int = 4  # that channels are rounded to


def write(description: Description) -> str:
    """Write a description as JSON; what is as usual is left out."""
    stages = [changed(stage) for stage in description.stages]  # a step is a list
    return json.dumps(changed(description) | {"stages": stages})


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


def changed(value: Any) -> dict[str, Any]:
    """Keep the fields that are not as usual."""
    usual = vars(type(value)())
    return {name: field for name, field in vars(value).items() if field != usual[name]}
