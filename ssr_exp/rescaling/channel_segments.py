"""`segment=channels`: each group of channels that shrinks together is a segment.

The finest split there is: the inner widths of residual blocks have a segment each, apart from the
residual stream. A group that is no wider than one multiple has none: it cannot shrink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssr_exp.rescaling.plan import NO_SEGMENT, Segment
from ssr_exp.rescaling.tracing.channel_groups import Form, Group


def make(
    groups: Sequence[Group], multiple: int, frozen: Sequence[str]
) -> tuple[tuple[Segment, ...], tuple[int, ...]]:
    """Make the segments, each named for the first layer that makes its channels.

    Args:
        groups: in the order in which they run.
        multiple: that channels are rounded to.
        frozen: names of segments that stay as they are.

    Returns:
        The segments in the same order, and for each group the number of its segment.
    """
    segments: list[Segment] = []
    owners, taken = [], set[str]()
    for number, group in enumerate(groups):
        if group.size <= math.lcm(multiple, group.multiple):
            owners.append(NO_SEGMENT)
            continue
        owners.append(len(segments))
        block = tuple(dict.fromkeys(path for path in group.paths if path not in {"", *taken}))
        taken.update(block)
        name = _unused(group.paths[0], [segment.name for segment in segments])
        channels = Form(0, ((number, 1),))
        segments.append(Segment(name, (block,), channels, name in frozen, is_width=True))
    return tuple(segments), tuple(owners)


def _unused(name: str, others: Sequence[str]) -> str:
    """Tell several groups of one layer apart: `conv`, `conv:2`, `conv:3`."""
    rank = 1 + sum(other.partition(":")[0] == name for other in others)
    return f"{name}:{rank}" if rank > 1 else name
