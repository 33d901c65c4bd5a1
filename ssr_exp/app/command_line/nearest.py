"""Which of some names was meant."""

from collections.abc import Iterable
from difflib import SequenceMatcher

NEAR = 1.22  # of 2: `epochs` is near `trainer.max_epochs`, `recipe.dropout` is not near any key


def nearest(typed: str, names: Iterable[str]) -> str:
    """Return the name that is most like what was typed, by the whole and by its last part.

    So `lr` is near `recipe.lr`, and `modle` near `model`.
    """
    return max(sorted(names), key=lambda name: _likeness(typed, name))


def is_near(typed: str, name: str) -> bool:
    """Say whether a name may be what was meant, and not only the least unlike one."""
    return typed.startswith(f"{name}.") or _likeness(typed, name) > NEAR


def _likeness(typed: str, name: str) -> float:
    last = SequenceMatcher(None, _last(typed), _last(name)).ratio()
    return SequenceMatcher(None, typed, name).ratio() + last


def _last(name: str) -> str:
    return name.rpartition(".")[2]
