"""A loop through a sequence is told from every other way to read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ssr_exp.rescaling import positions

LOOPS: dict[str, Callable[[Any], Any]] = {
    "for": lambda layers: [layer for layer in layers],  # noqa: C416
    "unpacked": lambda layers: [layer for layer in [*layers, *layers]],  # noqa: C416
    "sum": lambda layers: sum(1 for _ in layers),
    "own forward": lambda layers: nn.Sequential.forward(layers, torch.zeros(1)),
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "index": lambda layers: layers[0],
    "slice": lambda layers: layers[1:],
    "enumerate": lambda layers: [number for number, _ in enumerate(layers)],
    "zip": lambda layers: list(zip(layers, range(3), strict=False)),
    "list": lambda layers: list(layers),
    "reversed": lambda layers: [layer for layer in reversed(layers)],  # noqa: C416
    "children": lambda layers: list(layers.children()),
}


def watched() -> tuple[positions.Reads, nn.Sequential]:
    network = nn.Sequential(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()))
    reads = positions.watch(network)
    return reads, network._modules["0"]  # type: ignore[return-value]


@pytest.mark.parametrize("read", LOOPS.values(), ids=list(LOOPS))
def test_a_loop_reads_in_order(read: Callable[[Any], Any]) -> None:
    reads, layers = watched()
    read(layers)
    assert reads.in_order("0")


@pytest.mark.parametrize("read", OTHERS.values(), ids=list(OTHERS))
def test_all_else_does_not(read: Callable[[Any], Any]) -> None:
    reads, layers = watched()
    read(layers)
    assert not reads.in_order("0")


def test_one_read_by_position_is_enough() -> None:
    reads, layers = watched()
    for layer in layers:
        assert isinstance(layer, nn.ReLU)
    layers[1]
    assert not reads.in_order("0")


def test_a_watched_sequence_behaves_as_before() -> None:
    _, layers = watched()
    assert isinstance(layers, nn.Sequential) and len(layers) == 3 and repr(layers[:2])
    assert layers(torch.tensor([-1.0])) == 0
