"""Make a description that shows a finding as small as it can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.random_networks.descriptions import Description, Stage

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
    found = _unusual(description, Description(), ("stages", "extras", "traits"))
    found |= {("extra", kind) for kind, _, _ in description.extras}
    found |= {("trait", kind) for kind, _ in description.traits}
    for stage in description.stages:
        found |= _unusual(stage, Stage(), ("steps", "count", "channels"))
        found |= {("step", step.op) for step in stage.steps}
    return frozenset(found)


def _unusual(value: Any, usual: Any, without: Sequence[str]) -> set[tuple[str, Any]]:
    names = {field.name for field in dataclasses.fields(value)} - set(without)
    return {
        (name, getattr(value, name))
        for name in names
        if getattr(value, name) != getattr(usual, name)
    }


def _simpler(description: Description) -> Iterator[Description]:
    """List simpler descriptions, those that leave out most first."""
    for name in ("stages", "extras", "traits"):
        for fewer in _without_one(getattr(description, name)):
            if fewer or name != "stages":
                yield dataclasses.replace(description, **{name: fewer})
    for field in dataclasses.fields(Description):
        if field.name not in ("stages", "extras", "traits"):
            usual = getattr(Description(), field.name)
            yield dataclasses.replace(description, **{field.name: usual})
    for number, stage in enumerate(description.stages):
        for simpler in _simpler_stages(stage):
            stages = list(description.stages)
            stages[number] = simpler
            yield dataclasses.replace(description, stages=tuple(stages))
    for number, (kind, place, direct) in enumerate(description.extras):
        for other in ((kind, place, False), (kind, "stem", direct)):
            extras = list(description.extras)
            extras[number] = other
            yield dataclasses.replace(description, extras=tuple(extras))
    yield dataclasses.replace(
        description, traits=tuple((kind, 1) for kind, _ in description.traits)
    )


def _simpler_stages(stage: Stage) -> Iterator[Stage]:
    for fewer in _without_one(stage.steps):
        if fewer:
            yield dataclasses.replace(stage, steps=fewer)
    if stage.block != "plain":
        yield dataclasses.replace(stage, block="plain", steps=())
    for field in dataclasses.fields(Stage):
        if field.name not in ("block", "steps"):
            yield dataclasses.replace(stage, **{field.name: getattr(Stage(), field.name)})
    if stage.count > 1:
        yield dataclasses.replace(stage, count=stage.count - 1)


def _without_one(entries: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for number in range(len(entries)):
        yield (*entries[:number], *entries[number + 1 :])
