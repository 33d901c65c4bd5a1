"""Tensors are found in whatever a network puts out."""

from __future__ import annotations

from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.rescaling import nested

ONE, TWO = torch.zeros(1), torch.zeros(2)
Pair = namedtuple("Pair", "a b")


@dataclass
class Data:
    a: Tensor
    b: Any


class Slots:
    __slots__ = ("a", "b", "never")

    def __init__(self) -> None:
        self.a, self.b = ONE, {"x": TWO}


class Listed(list):  # type: ignore[type-arg]
    pass


class Hidden:
    __slots__ = ("__a", "__b")

    def __init__(self) -> None:
        self.__a, self.__b = ONE, TWO


VALUES: list[Any] = [
    (ONE, TWO),
    [ONE, [None, "word", TWO]],
    {"a": ONE, "b": (3, TWO)},
    OrderedDict(a=ONE, b=TWO),
    Pair(ONE, TWO),
    Data(ONE, Data(TWO, 1.5)),
    SimpleNamespace(a=ONE, b=SimpleNamespace(c=TWO)),
    Slots(),
    Listed([ONE, TWO]),
    Hidden(),
    partial(max, ONE, key=TWO),
    deque([ONE, TWO]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_all_tensors_are_listed_in_order(value: Any) -> None:
    found = nested.tensors(value)
    assert len(found) == 2 and found[0] is ONE and found[1] is TWO
    assert nested.shapes(value) == ((1,), (2,))


def test_modules_are_not_looked_into_and_circles_end() -> None:
    circle = SimpleNamespace(a=ONE, layer=nn.Linear(1, 1))
    circle.self = circle
    assert nested.tensors(circle) == [ONE]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_one_number_that_is_not_finite_is_found_anywhere(number: float) -> None:
    integers = torch.tensor([1])
    assert nested.is_finite({"a": [ONE, integers]})
    assert not nested.is_finite({"a": [ONE, integers, Pair(ONE, torch.tensor([0.0, number]))]})
