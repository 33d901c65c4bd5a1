"""Interleaved timings, their medians and ratios, and how they are written down."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Contestant = Callable[[], float]
"""Does its work once and returns how many seconds of that count."""

Seconds = dict[str, list[float]]
"""For each contestant one time per round."""


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        part: the benchmark it belongs to.
        name: what was measured.
        value: a median, or a ratio of two.
        unit: of the value; empty for ratios and counts.
        spread: the lowest and the highest of the single rounds.
        at_least: what is required of the value, if anything is.
        at_most: likewise.
    """

    part: str
    name: str
    value: float
    unit: str = ""
    spread: tuple[float, float] | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the requirement is met; None if there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= self.value <= high

    @property
    def required(self) -> str:
        """The requirement in words."""
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        return " ".join(f"{sign} {number(bound)}" for sign, bound in bounds if bound is not None)


def timed(work: Callable[[], object]) -> Contestant:
    """Make a contestant of which all seconds count."""

    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return once


def interleaved(contestants: Mapping[str, Contestant], *, rounds: int, warm_up: int = 1) -> Seconds:
    """Let all take turns, so that whatever else the machine does meets each of them alike."""
    for _ in range(warm_up):
        for once in contestants.values():
            once()
    seconds: Seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, once in contestants.items():
            seconds[name].append(once())
    return seconds


def rate(
    part: str,
    name: str,
    seconds: Sequence[float],
    count: int,
    unit: str = "/s",
    *,
    at_least: float | None = None,
) -> Figure:
    """How many of `count` things a second: `count` by the median of the rounds."""
    rates = [count / each for each in seconds]
    value = count / statistics.median(seconds)
    return Figure(part, name, value, unit, (min(rates), max(rates)), at_least=at_least)


def duration(
    part: str, name: str, seconds: Sequence[float], *, at_most: float | None = None
) -> Figure:
    """The median number of seconds."""
    value = statistics.median(seconds)
    return Figure(part, name, value, "s", (min(seconds), max(seconds)), at_most=at_most)


def ratio(
    part: str,
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """The median of `over` divided by the median of `under`; the spread is that of the rounds."""
    rounds = [a / b for a, b in zip(over, under, strict=True)]
    value = statistics.median(over) / statistics.median(under)
    spread = (min(rounds), max(rounds))
    return Figure(part, name, value, "x", spread, at_least=at_least, at_most=at_most)


def in_own_process(module: str, *words: object) -> Any:
    """Run a module in a fresh process, whose peak memory and start are its own; reads its JSON."""
    command = [sys.executable, "-m", module, *map(str, words)]
    root = Path(__file__).parents[1]
    ended = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout)


def conditions() -> dict[str, Any]:
    """Under what the numbers were measured."""
    from ssr_exp.runs import provenance

    return {
        "device": provenance.device("auto"),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
    }


def report(figures: Sequence[Figure], where: Mapping[str, Any]) -> None:
    """Print all figures as one table."""
    table = Table(title="Benchmarks")
    for heading in ("part", "what", "median", "rounds, low to high", "required", "met"):
        numeric = heading in ("median", "rounds, low to high", "required")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    verdicts = {None: "", True: "yes", False: "[bold red]no[/]"}
    for each in figures:
        spread = "" if each.spread is None else " - ".join(map(number, each.spread))
        value = f"{number(each.value)} {each.unit}".strip()
        table.add_row(each.part, each.name, value, spread, each.required, verdicts[each.met])
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    for key, value in where.items():
        console.print(f"{key}: {_flat(value)}", highlight=False, soft_wrap=True)


def save(path: Path, figures: Sequence[Figure], where: Mapping[str, Any]) -> None:
    """Write all figures and their conditions as JSON."""
    rows = [vars(each) | {"met": each.met} for each in figures]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**where, "figures": rows}, indent=1) + "\n")


def number(value: float) -> str:
    """Write a number with three digits or all digits before the point."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(f"{each:.3g}" for each in value)
    return str(value)
