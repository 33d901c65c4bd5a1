"""`segment.at_most=N`: segments that are most alike share their modifiers, until `N` are left.

Of all pairs, those are merged first whose dimensions differ least: octaves of channels and of the
sides of their maps. Of pairs that are as alike, those that run nearest to each other, then those of
the fewest parts. What parts of a merged segment keep is the same share of their widths, and their
last blocks go in turn, as those of stages do in `segment=whole`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from math import prod

import numpy as np

from ssr_exp.rescaling.plan import NO_SEGMENT, Segment
from ssr_exp.rescaling.tracing.blocks import is_inside
from ssr_exp.rescaling.tracing.channel_groups import Group
from ssr_exp.rescaling.tracing.trace import Call, Trace

ALIKE = 1e-6  # octaves
Dimensions = tuple[int, int]
"""Channels, and positions of the map (1 of a vector), that a segment puts out."""
Cluster = tuple[int, ...]
"""Numbers of segments that are merged, ascending."""


def merge(
    segments: Sequence[Segment],
    owners: Sequence[int],
    groups: Sequence[Group],
    trace: Trace,
    count: int,
) -> tuple[tuple[Segment, ...], tuple[int, ...]]:
    """Merge segments until `count` are left.

    Args:
        segments: in the order in which they run.
        owners: for each of the `groups` its segment.
        groups: of channels.
        trace: of the network.
        count: how many segments are asked for, 1 or more.

    Returns:
        The merged segments, none of them frozen, and the owners among them.
    """
    calls = {call.path: call for call in reversed(trace.calls)}  # the first of each
    dimensions = [_dimensions(segment, groups, calls) for segment in segments]
    found = clusters(dimensions, _homes(segments, groups), count)
    numbers = {s: number for number, cluster in enumerate(found) for s in cluster}
    numbers[NO_SEGMENT] = NO_SEGMENT
    rows = [[(segments[s], dimensions[s][0]) for s in cluster] for cluster in found]
    return tuple(map(_joined, rows)), tuple(numbers[owner] for owner in owners)


def _dimensions(segment: Segment, groups: Sequence[Group], calls: Mapping[str, Call]) -> Dimensions:
    is_group = segment.is_width
    path = groups[segment.channels.parts[0][0]].paths[0] if is_group else segment.blocks[-1][-1]
    channels = int(segment.channels([group.size for group in groups]))
    if path not in calls or not calls[path].out_shapes:
        return channels, 1
    shape, labels = calls[path].out_shapes[0], calls[path].out_labels[0]
    wide = shape[:1] if labels is None else [len(labels)]
    return channels, prod(shape) // max(prod(wide), 1)


def _homes(segments: Sequence[Segment], groups: Sequence[Group]) -> list[int]:
    """Find for each segment the one whose blocks it is an inner width of; else it is its own."""
    blocks = {
        s: tuple(path for block in segment.blocks for path in block)
        for s, segment in enumerate(segments)
        if not segment.is_width
    }

    def home(s: int, segment: Segment) -> int:
        if not segment.is_width:
            return s
        paths = groups[segment.channels.parts[0][0]].paths
        inside = (t for t, own in blocks.items() if all(is_inside(path, own) for path in paths))
        return next(inside, s)

    return [home(s, segment) for s, segment in enumerate(segments)]


def clusters(dimensions: Sequence[Dimensions], homes: Sequence[int], count: int) -> list[Cluster]:
    """Say which segments are merged; clusters are in the order of their first segments.

    Two clusters are as unlike as their most different segments (complete linkage). Inner widths of
    blocks of two segments are merged only where these segments are: else one network might be
    written in two ways.
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
        i, j = next(pair for pair in pairs if _may_meet(found, homes, *pair))
        for apart, linked in ((unlike, np.maximum), (away, np.minimum)):
            apart[i] = apart[:, i] = linked(apart[i], apart[j])
        unlike, away = (np.delete(np.delete(m, j, axis=0), j, axis=1) for m in (unlike, away))
        found[i] = tuple(sorted((*found[i], *found.pop(j))))
    return found


def _may_meet(found: Sequence[Cluster], homes: Sequence[int], i: int, j: int) -> bool:
    """Say whether two clusters hold inner widths of the blocks of at most one other segment."""
    at = {s: number for number, cluster in enumerate(found) for s in cluster}
    held = {at[homes[s]] for s in (*found[i], *found[j]) if homes[s] != s}
    return len(held - {i, j}) <= 1


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
