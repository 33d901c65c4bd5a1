"""`segment.at_most=N`: segments that are most alike share their modifiers, until `N` are left.

Of all pairs, those are merged first whose dimensions differ least: octaves of channels and of the
sides of their maps. Of pairs that are as alike, those that run nearest to each other, then those of
the fewest parts. What parts of a merged segment keep is the same share of their widths, and their
last blocks go in turn, as those of stages do in `segment=whole`.

The inner width of a block that can be left out is merged only where what stays longer still tells
all shares apart: else two shares would be one network once that block is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import zip_longest
from math import prod
from operator import or_

import numpy as np

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import NO_SEGMENT, Plan, Segment
from ssr_exp.rescaling.tracing.channel_groups import Group
from ssr_exp.rescaling.tracing.trace import Call, Trace

ALIKE = 1e-6  # octaves
Dimensions = tuple[int, int]
"""Channels, and positions of the map (1 of a vector), that a segment puts out."""
Cluster = tuple[int, ...]
"""Numbers of segments that are merged, ascending."""
Turn = tuple[int, int]
"""When a block is left out, the smallest last, and the segment that counts it."""


def merge(plan: Plan, trace: Trace, count: int) -> Plan:
    """Merge a plan's segments until `count` are left, 1 or more; none of them is frozen.

    Raises:
        SsrError: if inner widths of blocks that can be left out do not allow so few.
    """
    segments = [replace(segment, frozen=False) for segment in plan.segments]
    plan = replace(plan, segments=tuple(segments))
    calls = {call.path: call for call in reversed(trace.calls)}  # the first of each
    dimensions = [_dimensions(segment, plan.groups, calls) for segment in segments]
    turns = {s: (block - segments[t].least, t) for s, (t, block) in plan.inner.items()}
    found = clusters(dimensions, _shares(plan), turns, count)
    numbers = {s: number for number, cluster in enumerate(found) for s in cluster}
    numbers[NO_SEGMENT] = NO_SEGMENT
    rows = [[(segments[s], dimensions[s][0]) for s in cluster] for cluster in found]
    owners = tuple(numbers[owner] for owner in plan.owners)
    return replace(plan, segments=tuple(map(_joined, rows)), owners=owners)


def _shares(plan: Plan) -> list[int]:
    """Mark for each segment the shares at which its width changes: one bit for each."""
    thresholds = [widths.thresholds.tolist() for widths in plan.widths]
    every = sorted({share for row in thresholds for share in row})
    bits = {share: 1 << number for number, share in enumerate(every)}
    return [sum(bits[share] for share in row) for row in thresholds]


def _dimensions(segment: Segment, groups: Sequence[Group], calls: Mapping[str, Call]) -> Dimensions:
    is_group = segment.is_width
    path = groups[segment.channels.parts[0][0]].paths[0] if is_group else segment.blocks[-1][-1]
    channels = int(segment.channels([group.size for group in groups]))
    if path not in calls or not calls[path].out_shapes:
        return channels, 1
    shape, labels = calls[path].out_shapes[0], calls[path].out_labels[0]
    wide = shape[:1] if labels is None else [len(labels)]
    return channels, prod(shape) // max(prod(wide), 1)


def clusters(
    dimensions: Sequence[Dimensions], shares: Sequence[int], turns: Mapping[int, Turn], count: int
) -> list[Cluster]:
    """Say which segments are merged; clusters are in the order of their first segments.

    Two clusters are as unlike as their most different segments (complete linkage).

    Args:
        dimensions: of each segment.
        shares: of each, at which its width changes: one bit for each share.
        turns: of those that are inner widths of a block that can be left out.
        count: how many are asked for.

    Raises:
        SsrError: if no two of more than `count` clusters may be merged.
    """
    logs = np.log2(np.maximum(np.array(dimensions, dtype=np.float64).reshape(-1, 2), 1))
    unlike = (np.abs(logs[:, None] - logs) * (1, 0.5)).sum(axis=2) // ALIKE
    away = np.abs(np.arange(len(logs))[:, None] - np.arange(len(logs)))
    found: list[Cluster] = [(s,) for s in range(len(logs))]
    while len(found) > count:
        sizes = np.array(list(map(len, found)))
        one, other = np.triu_indices(len(found), k=1)
        keys = sizes[one] + sizes[other], away[one, other], unlike[one, other]
        pairs = ((int(one[at]), int(other[at])) for at in np.lexsort(keys))
        at = {s: number for number, cluster in enumerate(found) for s in cluster}
        allowed = (p for p in pairs if _tell((*found[p[0]], *found[p[1]]), at, shares, turns))
        i, j = next(allowed, (0, 0))
        if i == j:
            raise SsrError(_too_few(count, len(found)))
        for apart, linked in ((unlike, np.maximum), (away, np.minimum)):
            apart[i] = apart[:, i] = linked(apart[i], apart[j])
        unlike, away = (np.delete(np.delete(m, j, axis=0), j, axis=1) for m in (unlike, away))
        found[i] = tuple(sorted((*found[i], *found.pop(j))))
    return found


def _tell(
    cluster: Cluster, at: Mapping[int, int], shares: Sequence[int], turns: Mapping[int, Turn]
) -> bool:
    """Say whether what stays longest in a cluster tells all shares of it apart.

    It is what no block takes along; else that of the block that goes last, where the stages of all
    these blocks are one, so that all of the cluster is gone after it.
    """
    longest = [s for s in cluster if s not in turns]
    if not longest:
        last = min(turns[s] for s in cluster)
        longest = [s for s in cluster if turns[s] == last]
        if len({at[turns[s][1]] for s in cluster}) > 1:
            return False
    return _union(shares[s] for s in cluster) == _union(shares[s] for s in longest)


def _union(bits: Iterable[int]) -> int:
    return reduce(or_, bits, 0)


def _too_few(count: int, fewest: int) -> str:
    return (
        f"segment.at_most={count} is too few with segment.depth=true: a block that can be left out "
        "has widths that no other layer has, and a width shared with it would then name one "
        f"network twice; type segment.at_most={fewest} or more, or segment.depth=false."
    )


def _joined(parts: Sequence[tuple[Segment, int]]) -> Segment:
    """Make one segment of several, with their channels; of one, itself."""
    segments = [segment for segment, _ in parts]
    if len(segments) == 1:
        return segments[0]
    deep = [segment for segment in segments if not segment.is_width]
    names = [segment.name for segment in segments]
    layers = tuple(path for s in segments if s.is_width for block in s.blocks for path in block)
    stay = [block for segment in deep for block in segment.blocks[: segment.least]]
    turns = zip_longest(*(segment.blocks[segment.least :] for segment in deep))
    rest = [block for turn in turns for block in turn if block is not None]
    stay[:1] = [(*stay[0], *layers) if stay else layers]
    widest = max(range(len(parts)), key=lambda number: parts[number][1])
    return replace(
        segments[widest],
        name="+".join(names) if len(names) == 2 else f"{names[0]}+{len(names) - 1}",
        blocks=(*stay, *rest),
        frozen=False,
        least=len(stay),
        is_width=not deep,
        parts=tuple((segment.name, channels) for segment, channels in parts),
    )
