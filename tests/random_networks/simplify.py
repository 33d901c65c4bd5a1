"""Make a description that shows a finding as small as it can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.random_networks.descriptions import Description, Stage, changed

PARTS = ("stages", "extras", "traits", "steps")  # of several entries
SIZES = ("count", "channels")
MOST = 60  # descriptions that are tried for one finding


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
