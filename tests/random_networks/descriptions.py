"""What a random network is made from: values that can be drawn, printed, read and simplified."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.random_networks.graphs import Step

PARTS = ("stages", "extras", "traits", "steps")  # of several entries
SIZES = ("count", "channels")
MOST = 60  # descriptions that are tried for one finding
Extra = tuple[str, str, bool]
"""A kind, a place, and whether its code is run directly, as a part of the network's own."""
Trait = tuple[str, int]
"""A kind, and n: it is given to every n-th convolution."""


@dataclass(frozen=True)
class Stage:  # some blocks of one kind; the first may change the width
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
class Description:  # a random network, and how it is split
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


def smallest(description: Description, shows: Callable[[Description], bool]) -> Description:
    """Simplify a description step by step, as long as it shows what it showed."""
    tried: set[Description] = {description}
    again = True
    while again:
        again = False
        for simpler in _simpler(description):
            if simpler in tried or len(tried) > MOST:
                continue
            tried.add(simpler)
            if shows(simpler):
                description, again = simpler, True
                break
    return description


def features(description: Description) -> frozenset[tuple[str, Any]]:
    """Name what is unusual about a description."""
    pairs = {("extra", kind) for kind, _, _ in description.extras}
    pairs |= {("trait", kind) for kind, _ in description.traits}
    pairs |= {("step", step.op) for stage in description.stages for step in stage.steps}
    for part in (description, *description.stages):
        pairs |= {entry for entry in changed(part).items() if entry[0] not in (*PARTS, *SIZES)}
    return frozenset(pairs)


def _simpler(description: Description) -> Iterator[Description]:
    """List simpler descriptions, those that leave out most first."""
    for name in PARTS[:3]:
        for fewer in _without_one(getattr(description, name)):
            if fewer or name != "stages":
                yield dataclasses.replace(description, **{name: fewer})
    for name, usual in vars(Description()).items():
        if name not in PARTS:
            yield dataclasses.replace(description, **{name: usual})
    for number, stage in enumerate(description.stages):
        for simpler in _simpler_stages(stage):
            yield _with(description, "stages", number, simpler)
    for number, (kind, place, direct) in enumerate(description.extras):
        for other in ((kind, place, False), (kind, "stem", direct)):
            yield _with(description, "extras", number, other)
    every = tuple((kind, 1) for kind, _ in description.traits)
    yield dataclasses.replace(description, traits=every)


def _with(description: Description, name: str, number: int, entry: Any) -> Description:
    """Put another entry into one of the parts."""
    entries = list(getattr(description, name))
    entries[number] = entry
    return dataclasses.replace(description, **{name: tuple(entries)})


def _simpler_stages(stage: Stage) -> Iterator[Stage]:
    for fewer in _without_one(stage.steps):
        if fewer:
            yield dataclasses.replace(stage, steps=fewer)
    if stage.block != "plain":
        yield dataclasses.replace(stage, block="plain", steps=())
    for name, usual in vars(Stage()).items():
        if name not in ("block", "steps"):
            yield dataclasses.replace(stage, **{name: usual})
    if stage.count > 1:
        yield dataclasses.replace(stage, count=stage.count - 1)


def _without_one(entries: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for number in range(len(entries)):
        yield (*entries[:number], *entries[number + 1 :])
