"""How long networks take on this machine, measured side by side.

A `Runtime` turns a network and a batch into something that runs it once; `eager` is PyTorch as it
is. Whatever else can run a network is measured by passing another one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ssr_exp import machine
from ssr_exp.errors import SsrError

Runner = Callable[[], object]
"""Runs a network on a batch once, to the end."""

Runtime = Callable[[nn.Module, Tensor], Runner]
"""Prepares a network for a batch, `b x c x h x w`."""


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


def measure(
    networks: Mapping[str, nn.Module],
    input_shape: Sequence[int],
    *,
    batch: int = 1,
    threads: int = 1,
    repeats: int = 30,
    warm_up: int = 3,
    runtime: Runtime | None = None,
) -> dict[str, Latency]:
    """Measure networks on the CPU, on the same random images.

    Args:
        networks: by name; their weights do not matter.
        input_shape: channels, height and width of the images, in pixels.
        batch: images at once.
        threads: of torch; it has as many as before afterwards.
        repeats: measured turns of each network.
        warm_up: turns before them.
        runtime: what runs the networks; None: `eager`.

    Raises:
        SsrError: if one of the numbers is too small.
    """
    for name, value, least in (
        ("batch", batch, 1),
        ("threads", threads, 1),
        ("repeats", repeats, 1),
        ("warm_up", warm_up, 0),
    ):
        if value < least:
            raise SsrError(f"{name} is {value}; it must be {least} or more.")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *input_shape, generator=generator)
    with _threads(threads):
        prepare = runtime or eager
        runners = {name: prepare(network, images) for name, network in networks.items()}
        return interleaved(runners, repeats=repeats, warm_up=warm_up)


def eager(network: nn.Module, images: Tensor) -> Runner:
    """Run a network in eval mode as PyTorch does, without gradients; it is left in eval mode."""
    network.eval()

    def run() -> object:
        with torch.inference_mode():
            return network(images)

    return run


def interleaved(
    runners: Mapping[str, Runner], *, repeats: int, warm_up: int = 3
) -> dict[str, Latency]:
    """Let all take turns, so that whatever else the machine does meets each of them alike.

    In its turn each one runs once untimed, so that it does not meet the caches as another one left
    them, and then once timed. Every other round goes backwards.
    """
    for run in runners.values():
        for _ in range(warm_up):
            run()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(repeats):
        for name in list(runners)[:: -1 if turn % 2 else 1]:
            runners[name]()
            start = time.perf_counter()
            runners[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: Latency(tuple(own)) for name, own in times.items()}


def device(threads: int = 1, runtime: str = "eager") -> str:
    """Name what latencies are of: only those of one device and runtime can be compared."""
    return f"{machine.processor()}, {threads} threads, {runtime}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
