"""A part of the configuration as a key of a cache."""

from __future__ import annotations

from typing import Generic, TypeVar

Part = TypeVar("Part")


class ConfigKey(Generic[Part]):
    """A part of the configuration, which has no hash: equal where all its values are."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._text = repr(part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigKey) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)
