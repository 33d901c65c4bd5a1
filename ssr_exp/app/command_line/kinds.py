"""What a key of the schema takes, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"\s*\(?({NUMBER})\s*(?:\.\.\.?|:|-|to)\s*({NUMBER})\)?\s*", re.ASCII)
FRACTION = re.compile(rf"\s*({NUMBER})\s*/\s*({NUMBER})\s*", re.ASCII)
SINGLE = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class ValueKind:
    """What a key takes.

    Args:
        type: its annotation, without `None`.
        is_optional: whether it takes null, too.
    """

    type: Any
    is_optional: bool

    @property
    def is_list(self) -> bool:
        """Say whether it is a list."""
        return get_origin(self.type) is list

    @property
    def is_text(self) -> bool:
        """Say whether it may be any text."""
        return self.type in (str, Any)

    @property
    def is_one(self) -> bool:
        """Say whether it is a single value."""
        return self.type in SINGLE or _is_choice(self.type)

    def __str__(self) -> str:
        """Say it as the end of `KEY is`."""
        return self._plain() + (", or null" if self.is_optional else "")

    def _plain(self) -> str:
        if self.is_list:
            (item,) = get_args(self.type)
            if _is_choice(item):
                return f"a list of {_choices(item)}, as [{next(iter(item)).value}]"
            return "a list of texts, as [a,b]" if item is str else "a list of numbers, as [1,0.5]"
        if _is_choice(self.type):
            return f"one of {_choices(self.type)}"
        if is_dataclass(self.type):
            return f"no single value, it has keys: {', '.join(f.name for f in fields(self.type))}"
        return SINGLE.get(self.type, "a dictionary, as {name:1}")


def all_of(schema: Any) -> dict[str, ValueKind]:
    """List the keys of a schema, those of its parts behind a dot."""
    found: dict[str, ValueKind] = {}
    for name, hint in get_type_hints(schema).items():
        kind = _kind(hint)
        found[name] = kind
        if is_dataclass(kind.type):
            found |= {f"{name}.{key}": own for key, own in all_of(kind.type).items()}
    return found


def several(kind: ValueKind, raw: str, value: Any) -> str | None:
    """Write what was meant as several values of a single key as Hydra sweeps over it."""
    if isinstance(value, list) and value:
        return ",".join(map(str, value))
    if kind.type in (int, float) and (found := RANGE.fullmatch(raw)):
        first, last = found.groups()
        if kind.type is int and first.isdecimal() and last.isdecimal():
            low, high = sorted((int(first), int(last)))
            return f"range({low},{high + 1})"
        return f"{first},{last}"
    if "/" in raw or kind.type not in (int, float):
        return None
    parts = re.findall(NUMBER, raw, re.ASCII)
    return ",".join(parts) if len(parts) > 1 else None


def number(kind: ValueKind, raw: str) -> str | None:
    """Write a fraction as Hydra reads a number."""
    if kind.type is not float or not (found := FRACTION.fullmatch(raw)):
        return None
    above, below = map(float, found.groups())
    return f"{above / below:.3g}" if below else None


def _kind(hint: Any) -> ValueKind:
    if get_origin(hint) in (Union, UnionType):
        (only,) = (one for one in get_args(hint) if one is not type(None))
        return ValueKind(only, True)
    return ValueKind(hint, False)


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _choices(kind: type[Enum]) -> str:
    return ", ".join(str(one.value) for one in kind)
