"""Read drawn inputs one after the other, count what comes back, keep what breaks a reader."""

from __future__ import annotations

import hashlib
import logging
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any, TextIO

from tests.fuzz import targets

LIMIT_S = 20  # for one input
EVERY_S = 10.0  # between two lines of progress
MOST_FAILURES = 20  # of one kind that are kept
ACCEPTED = "accepted"


class TooLongError(Exception):
    """A reader that hangs."""


@dataclass
class Tally:  # what became of a target's inputs
    inputs: int = 0
    by_atheris: int = 0  # how many of them atheris chose
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)  # accepted, or refused with which error
    failures: Counter[str] = field(default_factory=Counter)  # of the reader, by kind

    def fields(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "by_atheris": self.by_atheris,
            "seconds": round(self.seconds, 1),
            "ended": dict(self.ended.most_common()),
            "failures": dict(self.failures),
        }


def run(
    name: str, *, inputs: int, seed: int, failures: Path | None, show: TextIO | None = None
) -> Tally:
    """Read so many inputs of a target; what breaks it is saved in the folder `failures`."""
    target, rng, tally = targets.find(name), Random(f"{seed} {name}"), Tally()
    start = said = time.monotonic()
    with quiet(), within(LIMIT_S) as restart:
        for _ in range(inputs):
            data = target.make(rng)
            restart()
            one(target, data, tally, failures and failures / name)
            if show is not None and time.monotonic() - said > EVERY_S:
                said = time.monotonic()
                broke = tally.failures.total()
                print(f"{name}: {tally.inputs:,} of {inputs:,}, {broke} broke it", file=show)
    tally.seconds = time.monotonic() - start
    return tally


def one(target: targets.Target, data: bytes, tally: Tally, failures: Path | None) -> None:
    tally.inputs += 1
    try:
        target.read(data)
    except target.refused as error:
        tally.ended[type(error).__name__] += 1
        if not str(error).strip():
            _keep("an error without a word", data, tally, failures)
    except Exception as error:
        _keep(f"{type(error).__name__}: {str(error)[:80]}", data, tally, failures)
    else:
        tally.ended[ACCEPTED] += 1


def _keep(kind: str, data: bytes, tally: Tally, failures: Path | None) -> None:
    tally.failures[kind] += 1
    if failures is not None and tally.failures[kind] <= MOST_FAILURES:
        failures.mkdir(parents=True, exist_ok=True)
        (failures / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def added(one: Tally, other: Tally | None) -> Tally:
    if other is None:
        return one
    return Tally(
        one.inputs + other.inputs,
        one.by_atheris + other.by_atheris,
        one.seconds + other.seconds,
        one.ended + other.ended,
        one.failures + other.failures,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Hush what readers say of odd inputs that they accept."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextmanager
def within(seconds: float, *, of_work: bool = False) -> Iterator[Any]:
    """Raise `TooLongError` where the time since the last restart is too long.

    With `of_work` only what this process works counts, and no other work of the machine.
    """
    timer, number = signal.ITIMER_REAL, signal.SIGALRM
    if of_work:
        timer, number = signal.ITIMER_PROF, signal.SIGPROF

    def stop(*_: object) -> None:
        raise TooLongError(f"more than {seconds} s")

    before = signal.signal(number, stop)
    try:
        yield lambda: signal.setitimer(timer, seconds)
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)


def versions() -> dict[str, str]:
    """Name what the fuzzing itself depends on."""
    found = {}
    for name in ("atheris", "pillow", "pydantic", "hydra-core", "omegaconf"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
