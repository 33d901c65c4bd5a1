"""A loop through a sequence is told from every other way to read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ssr_exp.rescaling.tracing import positions

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


def read_by(read: Callable[[Any], Any]) -> bool:
    """Say whether a way to read a sequence goes through it in order."""
    network = nn.Sequential(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()))
    layers, reads = network._modules["0"], positions.Reads()
    with positions.watched(network, reads):
        read(layers)
    return reads.in_order("0")


@pytest.mark.parametrize("read", LOOPS.values(), ids=list(LOOPS))
def test_a_loop_reads_in_order(read: Callable[[Any], Any]) -> None:
    assert read_by(read)


@pytest.mark.parametrize("read", OTHERS.values(), ids=list(OTHERS))
def test_all_else_does_not(read: Callable[[Any], Any]) -> None:
    assert not read_by(read)


def test_one_read_by_position_is_enough() -> None:
    assert not read_by(lambda layers: [[layer for layer in layers], layers[1]])  # noqa: C416


def test_what_is_watched_stays_what_it_is() -> None:
    before = vars(nn.Sequential)["__iter__"], vars(nn.ModuleList)["__getitem__"]
    layers = nn.Sequential(nn.ReLU(), nn.ReLU())
    with positions.watched(layers, positions.Reads()):
        assert type(layers) is nn.Sequential and len(layers) == 2 and repr(layers[:1])
        assert layers(torch.tensor([-1.0])) == 0
    assert (vars(nn.Sequential)["__iter__"], vars(nn.ModuleList)["__getitem__"]) == before
