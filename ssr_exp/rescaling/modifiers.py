"""What is asked of a seed network: a depth and a width fraction for each segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssr_exp.errors import SsrError


@dataclass(frozen=True)
class Modifiers:
    """A depth fraction and a width fraction for each of `S` segments.

    A fraction is above 0 and at most 1; 1 leaves the segment as it is. What a fraction means in
    whole blocks and channels is the plan's to say (`Plan.effective`).

    Args:
        depth: `S` shares of the blocks to keep.
        width: `S` shares of the channels to keep.

    Raises:
        SsrError: if the lengths differ, or a fraction is not in (0, 1].

    Example:
        >>> Modifiers(depth=[1, 0.5], width=[0.25, 1])
        Modifiers(depth=(1.0, 0.5), width=(0.25, 1.0))
    """

    depth: tuple[float, ...]
    width: tuple[float, ...]

    def __init__(self, depth: Sequence[float], width: Sequence[float]) -> None:
        """Check and keep the fractions."""
        if len(depth) != len(width):
            raise SsrError(
                f"modifiers need one depth and one width for each segment, but got {len(depth)} "
                f"depths and {len(width)} widths."
            )
        object.__setattr__(self, "depth", _fractions("depth", depth))
        object.__setattr__(self, "width", _fractions("width", width))

    @classmethod
    def full(cls, n_segments: int) -> Modifiers:
        """Leave all `n_segments` segments as they are."""
        return cls(depth=(1.0,) * n_segments, width=(1.0,) * n_segments)

    def __len__(self) -> int:
        """Count the segments."""
        return len(self.depth)


def _fractions(name: str, values: Sequence[float]) -> tuple[float, ...]:
    for position, value in enumerate(values, start=1):
        if not (math.isfinite(value) and 0 < value <= 1):
            raise SsrError(
                f"the {name} modifier of segment {position} is {value:g}; a modifier is a share "
                f"above 0 and at most 1, for instance {name}=0.5."
            )
    return tuple(float(value) for value in values)
