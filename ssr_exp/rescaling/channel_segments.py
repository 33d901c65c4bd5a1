"""`segment=channels`: each group of channels that shrinks together is a segment.

The finest split there is: the inner widths of residual blocks have a segment each, apart from the
residual stream. A group that is no wider than one multiple has none: it cannot shrink. With
`segment.depth=true` the segment of a stage also keeps fewer of its blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssr_exp.rescaling.plan import NO_SEGMENT, Segment
from ssr_exp.rescaling.tracing.blocks import is_inside
from ssr_exp.rescaling.tracing.channel_groups import Form, Group


def make(
    groups: Sequence[Group], stages: Sequence[Segment], multiple: int, frozen: Sequence[str]
) -> tuple[tuple[Segment, ...], tuple[int, ...]]:
    """Make the segments, each group's named for the first layer that makes its channels.

    A stage's segment scales the group that the stage puts out, if no stage before does.

    Args:
        groups: in the order in which they run.
        stages: segments whose blocks can be removed, in the same order.
        multiple: that channels are rounded to.
        frozen: names of segments that stay as they are.

    Returns:
        The segments in the order in which they run, and for each group the number of its segment.
    """
    streams = _streams(groups, stages, multiple)
    blocks = {
        stage.name: tuple(path for block in stage.blocks for path in block) for stage in stages
    }
    taken = {path for paths in blocks.values() for path in paths}
    alone = [stage for stage in stages if stage not in streams.values()]
    segments: list[Segment] = []
    owners = []
    for number, group in enumerate(groups):
        while alone and any(is_inside(path, blocks[alone[0].name]) for path in group.paths):
            segments.append(alone.pop(0))
        if not shrinks(group, multiple):
            owners.append(NO_SEGMENT)
            continue
        owners.append(len(segments))
        if number in streams:
            segments.append(streams[number])
            continue
        outside = (path for path in group.paths if path and not is_inside(path, tuple(taken)))
        block = tuple(dict.fromkeys(outside))
        taken.update(block)
        name = _unused(group.paths[0], [segment.name for segment in (*stages, *segments)])
        channels = Form(0, ((number, 1),))
        segments.append(Segment(name, (block,), channels, name in frozen, is_width=True))
    segments += alone
    return tuple(segments), tuple(owners)


def _streams(
    groups: Sequence[Group], stages: Sequence[Segment], multiple: int
) -> dict[int, Segment]:
    """Find for each stage the group that it puts out: its number, and the stage."""
    streams: dict[int, Segment] = {}
    for stage in stages:
        for number, _ in stage.channels.parts:
            if shrinks(groups[number], multiple):
                streams.setdefault(number, stage)
                break
    return streams


def shrinks(group: Group, multiple: int) -> bool:
    """Say whether a group is wider than one multiple."""
    return group.size > math.lcm(multiple, group.multiple)


def _unused(name: str, others: Sequence[str]) -> str:
    """Tell several groups of one layer apart: `conv`, `conv:2`, `conv:3`."""
    rank = 1 + sum(other.partition(":")[0] == name for other in others)
    return f"{name}:{rank}" if rank > 1 else name
