"""Which of a network's outputs counts, where it puts out several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any


def tensors(outputs: Any) -> Iterator[Any]:
    """List the tensors that a network puts out, the one that is judged first.

    It is the first one; of a dictionary, such as torchvision's segmentation networks return, `out`.
    What is no tensor is left out.
    """
    if hasattr(outputs, "shape"):
        yield outputs
    elif isinstance(outputs, Mapping):
        first = [outputs["out"]] if "out" in outputs else []
        yield from tensors([*first, *(v for key, v in outputs.items() if key != "out")])
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for one in outputs:
            yield from tensors(one)


def named(outputs: Any) -> list[tuple[str, Any]]:
    """List the tensors that a network puts out, in its order, with names that differ.

    They are the keys of dictionaries, and the fields of named tuples and dataclasses, joined by
    `_`; what has none is `output`, `output_1` and so on.
    """
    rows: dict[str, Any] = {}
    for keys, tensor in _with_keys(outputs, ()):
        first = re.sub(r"\W", "_", "_".join(keys)) or "output"
        others = (f"{first}_{number}" for number in count(1))
        rows[next(name for name in chain([first], others) if name not in rows)] = tensor
    return [*rows.items()]


def _with_keys(outputs: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(outputs, "shape"):
        yield keys, outputs
        return
    fields = getattr(outputs, "_fields", None) or getattr(outputs, "__dataclass_fields__", ())
    if isinstance(outputs, Mapping):
        parts = [(str(key), part) for key, part in outputs.items()]
    elif fields:
        parts = [(name, getattr(outputs, name, None)) for name in fields]
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        parts = [("", part) for part in outputs]
    else:
        parts = []
    for key, part in parts:
        yield from _with_keys(part, (*keys, key) if key else keys)
