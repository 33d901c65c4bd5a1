"""What a network's outputs are packed into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple


@dataclass
class Output:
    logits: Any
    others: list[Any]


class Named(NamedTuple):
    logits: Any
    others: list[Any]


class Slots:  # an object of a plain class
    def __init__(self, logits: Any, others: list[Any]) -> None:
        self.logits, self.others = logits, others


OUTPUTS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "tensor": lambda logits, others: (logits, *others) if others else logits,
    "dictionary": lambda logits, others: {"logits": logits, "others": others},
    "dataclass": Output,
    "namespace": lambda logits, others: SimpleNamespace(logits=logits, others=others),
    "named": Named,
    "object": Slots,
    "nested": lambda logits, others: [[logits], {"others": others}, None, "a word"],
}


def packed(kind: str, tensors: Sequence[Any]) -> Any:
    """Pack a network's outputs."""
    return OUTPUTS[kind](tensors[0], list(tensors[1:]))
