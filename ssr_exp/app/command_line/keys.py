"""The keys of a command: what each takes, in words, and which is nearest to what was typed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ssr_exp.config import SCHEMAS, Config

CONF = Path(__file__).parents[2] / "conf"
NEAR = 1.22  # of 2: `epochs` is near `trainer.max_epochs`, `recipe.dropout` is not near any key
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"\s*\(?({NUMBER})\s*(?:\.\.\.?|:|-|to)\s*({NUMBER})\)?\s*", re.ASCII)
FRACTION = re.compile(rf"\s*({NUMBER})\s*/\s*({NUMBER})\s*", re.ASCII)
PERCENT = re.compile(rf"\s*({NUMBER})\s*%\s*", re.ASCII)
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
    def is_dictionary(self) -> bool:
        """Say whether what is in it is not ours to know."""
        return get_origin(self.type) is dict

    @property
    def is_one(self) -> bool:
        """Say whether it is a single value."""
        return self.type in SINGLE or _is_choice(self.type)

    def __str__(self) -> str:
        """Say it as the end of `KEY is`."""
        (item,) = get_args(self.type) if self.is_list else (None,)
        if _is_choice(item):
            words = f"a list of {', '.join(item)}, as [{next(iter(item)).value}]"
        elif item is not None:
            words = f"a list of {'texts, as [a,b]' if item is str else 'numbers, as [1,0.5]'}"
        elif _is_choice(self.type):
            words = f"one of {', '.join(self.type)}"
        elif is_dataclass(self.type):
            words = f"no single value, it has keys: {', '.join(f.name for f in fields(self.type))}"
        else:
            words = SINGLE.get(self.type, "a dictionary, as {name:1}")
        return words + (", or null" if self.is_optional else "")


@cache
def keys_of_command(command: str) -> dict[str, ValueKind]:
    """List what may be typed to a command, presets of an experiment included."""
    schema = SCHEMAS[command]
    presets = {"experiment": ValueKind(str, True)} if issubclass(schema, Config) else {}
    return keys_of_schema(schema) | presets


def keys_of_schema(schema: Any) -> dict[str, ValueKind]:
    """List the keys of a schema, those of its parts behind a dot."""
    keys: dict[str, ValueKind] = {}
    for name, hint in get_type_hints(schema).items():
        is_optional = get_origin(hint) in (Union, UnionType)
        kinds = [one for one in get_args(hint) if one is not type(None)] if is_optional else [hint]
        keys[name] = kind = ValueKind(kinds[0], is_optional)
        if is_dataclass(kind.type):
            keys |= {f"{name}.{key}": below for key, below in keys_of_schema(kind.type).items()}
    return keys


def several(kind: ValueKind, raw: str, value: Any) -> str | None:
    """Write what was meant as several values of a single key as Hydra sweeps over it."""
    if isinstance(value, list) and value:
        return ",".join(map(str, value))
    if kind.type in (int, float) and (ends := RANGE.fullmatch(raw)):
        first, last = ends.groups()
        if kind.type is int and first.isdecimal() and last.isdecimal():
            low, high = sorted((int(first), int(last)))
            return f"range({low},{high + 1})"
        return f"{first},{last}"
    if "/" in raw or kind.type not in (int, float):
        return None
    parts = re.findall(NUMBER, raw, re.ASCII)
    return ",".join(parts) if len(parts) > 1 else None


def number(kind: ValueKind, raw: str) -> str | None:
    """Write a fraction, or percent, as Hydra reads a number."""
    if kind.type is float and (percent := PERCENT.fullmatch(raw)):
        return f"{float(percent[1]) / 100:.6g}"
    if kind.type is not float or not (fraction := FRACTION.fullmatch(raw)):
        return None
    above, below = map(float, fraction.groups())
    return f"{above / below:.3g}" if below else None


def nearest(typed: str, names: Iterable[str]) -> str:
    """Return the name that is most like what was typed, by the whole and by its last part.

    So `lr` is near `recipe.lr`, and `modle` near `model`.
    """
    return max(sorted(names), key=lambda name: _likeness(typed, name))


def is_near(typed: str, name: str) -> bool:
    """Say whether a name may be what was meant, and not only the least unlike one."""
    return typed.startswith(f"{name}.") or _likeness(typed, name) > NEAR


def _likeness(typed: str, name: str) -> float:
    last = SequenceMatcher(None, typed.rpartition(".")[2], name.rpartition(".")[2]).ratio()
    return SequenceMatcher(None, typed, name).ratio() + last


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)
