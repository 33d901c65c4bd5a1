"""The front: what no cheaper one matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def front(
    items: Iterable[Item], *, cost: Callable[[Item], float], score: Callable[[Item], float]
) -> list[Item]:
    """Keep the items that none as cheap or cheaper matches, the cheapest first.

    Scores are maximised, costs minimised; of equal items the first one stays.
    """
    kept: list[Item] = []
    for item in sorted(items, key=lambda one: (cost(one), -score(one))):
        if not kept or score(item) > score(kept[-1]):
            kept.append(item)
    return kept
