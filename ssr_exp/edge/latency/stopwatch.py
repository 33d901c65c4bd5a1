"""How long networks take on this machine, measured side by side."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TypeVar

import torch
from torch import nn

from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.latency.runtimes import Runner, Runtime
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import input_examples
from ssr_exp.rescaling.inputs import Example

log = logging.getLogger(__name__)

Name = TypeVar("Name")

ATTEMPTS = 3  # at a quiet machine


@dataclass(frozen=True)
class Latency:
    """How long a batch takes, in ms: one time for each turn, in order."""

    times: tuple[float, ...]

    @cached_property
    def ms(self) -> float:
        """The median."""
        return statistics.median(self.times)

    @cached_property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter and three quarters of the times do not exceed."""
        if len(self.times) == 1:
            return self.ms, self.ms
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """The distance of the quartiles, as a share of the median."""
        low, high = self.quartiles
        return (high - low) / self.ms


def prepare(
    network: nn.Module,
    example: Example,
    runtime: Runtime,
    *,
    batch: int,
    threads: int,
    all_outputs: bool = False,
) -> Runner:
    """Prepare a network for a batch of random inputs, always the same ones.

    Args:
        network: is run.
        example: what it is called with, see `input_examples.read`; as a shape, without the batch.
        runtime: runs it.
        batch: how many inputs at once.
        threads: of a CPU.
        all_outputs: whether all that a network of one image puts out is made; else the first
            output, as in the files of a task of ours.

    Raises:
        SsrError: if the runtime cannot run it.
    """
    signature = input_examples.read(network, example)
    is_first = signature.is_one_image and not all_outputs
    flat = None if is_first else FlatNetwork(network.eval(), signature)
    if flat is not None and (len(flat.names) > 1 or not signature.is_one_image):
        return runtime.prepare(flat, flat.draw(batch), threads)
    generator = torch.Generator().manual_seed(0)
    images = signature.tensors[0].make(batch, device="cpu", generator=generator)
    return runtime.prepare(network, images, threads)


def check(**numbers: int) -> None:
    """Refuse numbers below 1.

    Raises:
        SsrError: names the first one.
    """
    for name, value in numbers.items():
        if value < 1:
            raise SsrError(f"{name} is {value}; it must be 1 or more.")


def interleaved(
    runners: Mapping[Name, Runner], *, repeats: int, warm_up: int = 3
) -> dict[Name, Latency]:
    """Let all take turns, so that whatever else the machine does meets each of them alike.

    In its turn each one runs once untimed, so that it does not meet the caches as another one left
    them, and then once timed. Every other round goes backwards.
    """
    for run in runners.values():
        for _ in range(warm_up):
            run()
    times: dict[Name, list[float]] = {name: [] for name in runners}
    for turn in range(repeats):
        for name in list(runners)[:: -1 if turn % 2 else 1]:
            runners[name]()
            start = time.perf_counter()
            runners[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: Latency(tuple(own)) for name, own in times.items()}


def noise(latencies: Mapping[Name, Latency]) -> float:
    """Say how noisy the machine was: the middle one of the spreads."""
    return statistics.median(latency.spread for latency in latencies.values())


def settled(
    runners: Mapping[Name, Runner],
    *,
    repeats: int,
    spread: float,
    quiet: Collection[Name] = (),
) -> dict[Name, Latency]:
    """Let all take turns, again where the machine was too noisy; of each the quietest is kept.

    Args:
        runners: by name.
        repeats: measured turns of each.
        spread: the noise that is allowed, see `noise`.
        quiet: those that must each keep to it, and not only the middle one of all.

    Raises:
        SsrError: if it stays too noisy.
    """
    quietest: dict[Name, Latency] = {}
    for left in range(ATTEMPTS, 0, -1):
        latest = interleaved(runners, repeats=repeats)
        quietest = {
            n: min(latency, quietest.get(n, latency), key=attrgetter("spread"))
            for n, latency in latest.items()
        }
        if noise(quietest) <= spread and all(quietest[name].spread <= spread for name in quiet):
            return quietest
        if left > 1:
            log.warning(
                "this machine is noisy (the quartiles of the middle network lie %.0f%% of its "
                "latency apart); measuring again",
                100 * noise(quietest),
            )
    worst = max([noise(quietest), *(quietest[name].spread for name in quiet)])
    raise SsrError(
        f"this machine is too noisy to measure latency on: the quartiles of a network lie "
        f"{worst:.0%} of its latency apart, where {spread:.0%} are allowed; end what else runs on "
        "it, or allow more (--spread, or latency.spread= of a search)."
    )
