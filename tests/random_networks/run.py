"""Draw descriptions one after the other, check each network, and gather what is wrong by cause."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TextIO

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

from tests.random_networks import check, descriptions, strategies
from tests.random_networks.check import Finding
from tests.random_networks.descriptions import Description, write

EVERY_S = 10.0  # between two lines of progress
FEW = 10  # descriptions of one draw


@dataclass
class Cause:  # networks on which the same is wrong, as far as can be seen
    kind: str
    smallest: Description  # the simplest that shows it
    detail: str  # of what is wrong with that one
    drawn: list[Description] = field(default_factory=list)  # that show it


@dataclass
class Tally:  # what became of all networks that were drawn
    networks: int = 0
    architectures: int = 0
    removable: int = 0
    planned: int = 0
    changeable: float = 0.0
    wrong: int = 0
    seconds: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)
    frozen: Counter[str] = field(default_factory=Counter)
    causes: list[Cause] = field(default_factory=list)

    def add(self, description: Description, *, shrink: bool = True) -> None:
        result = check.check(description)
        self.networks += 1
        self.architectures += result.architectures
        self.refusals.update([result.refusal] if result.refusal else [])
        self.frozen.update(result.frozen)
        self.wrong += bool(result.findings)
        if not result.refusal and result.architectures:
            self.planned += 1
            self.removable += result.can_remove
            self.changeable += result.can_change
        for kind in check.kinds(result.findings):
            first = next(finding for finding in result.findings if finding.kind == kind)
            self._cause(description, first, shrink=shrink).drawn.append(description)

    def _cause(self, description: Description, finding: Finding, *, shrink: bool) -> Cause:
        """Find the known cause that a description has all features of, or note a new one."""
        unusual = descriptions.features(description)
        for cause in self.causes:
            if cause.kind == finding.kind and descriptions.features(cause.smallest) <= unusual:
                return cause
        shown = {description: finding}

        def shows(simpler: Description) -> bool:
            findings = check.check(simpler).findings
            shown.update((simpler, f) for f in reversed(findings) if f.kind == finding.kind)
            return simpler in shown

        shrinks = shrink and finding.kind != check.TOO_LONG  # which shrinking would take, too
        small = descriptions.smallest(description, shows) if shrinks else description
        detail = f"{shown[small].architecture}: {shown[small].detail}"
        self.causes.append(Cause(finding.kind, small, detail))
        return self.causes[-1]

    def fields(self) -> dict[str, Any]:
        return {
            "networks": self.networks,
            "architectures": self.architectures,
            "with a removable block": self.removable,
            "mean share that can change": round(self.changeable / max(self.planned, 1), 3),
            "refusals": dict(self.refusals.most_common()),
            "stays at full size": dict(self.frozen.most_common()),
            "networks with findings": self.wrong,
            "findings": [
                {
                    "kind": cause.kind,
                    "networks": len(cause.drawn),
                    "smallest": write(cause.smallest),
                    "detail": cause.detail[:600],
                    "drawn": [write(description) for description in cause.drawn[:3]],
                }
                for cause in sorted(self.causes, key=lambda cause: -len(cause.drawn))
            ],
            "wall_s": round(self.seconds, 1),
        }


def run(
    tally: Tally,
    *,
    networks: int,
    seed: int,
    without: Collection[str] = (),
    shrink: bool = True,
    show: TextIO | None = None,
) -> None:
    """Check so many networks, other than each other, that a seed draws; shrink what is found.

    The tally is added to at once, so that it is known if the run is stopped.
    """
    start = said = time.monotonic()
    drawn, seen = strategies.descriptions(without=without), set[Description]()

    def one(description: Description) -> None:
        nonlocal said
        if description in seen or tally.networks >= networks:
            return
        seen.add(description)
        known = len(tally.causes)
        tally.add(description, shrink=shrink)
        tally.seconds = time.monotonic() - start
        for cause in tally.causes[known:] if show is not None else ():
            print(f"{cause.kind}\n  {cause.detail[:200]}\n  {write(cause.smallest)}", file=show)
        if show is not None and time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            print(_progress(tally, networks), file=show, flush=True)

    for part in itertools.count():
        if tally.networks >= networks:
            return
        draw(one, drawn, seed=seed * 10**6 + part)


def draw(
    one: Callable[[Description], None], drawn: SearchStrategy[Description], *, seed: int
) -> None:
    """Draw some descriptions; so few that hypothesis does not vary one of them again and again."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=FEW,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(drawn)
    def draws(description: Description) -> None:
        one(description)

    draws()


def _progress(tally: Tally, networks: int) -> str:
    done = f"{tally.networks:,} of {networks:,} networks, {tally.architectures:,} architectures"
    findings = f"{tally.wrong} with findings of {len(tally.causes)} causes"
    return f"{done}, {tally.refusals.total()} refused, {findings}"
