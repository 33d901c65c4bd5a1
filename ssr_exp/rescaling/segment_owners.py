"""Who scales what: each group of channels belongs to one segment."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from ssr_exp.rescaling.plan import Segment
from ssr_exp.rescaling.tracing.channel_groups import Group
from ssr_exp.rescaling.tracing.trace import Trace


def owners(segments: Sequence[Segment], trace: Trace, groups: Sequence[Group]) -> tuple[int, ...]:
    """Give each group to the segment with most of its producers, else to the next that runs.

    Of several with as many, it is the first one's.

    Args:
        segments: of the network.
        trace: of it.
        groups: its channels.
    """
    order = {call.path: position for position, call in [*enumerate(trace.calls)][::-1]}
    paths_of = [[path for block in segment.blocks for path in block] for segment in segments]
    starts = [min(order[path] for path in paths) for paths in paths_of]
    number_of = {path: number for number, paths in enumerate(paths_of) for path in paths}

    def owner(paths: tuple[str, ...]) -> int:
        inside = [number_of[held] for path in paths if (held := _innermost(path, number_of))]
        if inside:
            return max(sorted(inside), key=inside.count)
        first = min(order.get(path, 0) for path in paths)
        later = [(start, number) for number, start in enumerate(starts) if first < start]
        return min(later)[1] if later else int(np.argmax(starts))

    return tuple(owner(group.paths) for group in groups)


def _innermost(path: str, known: Container[str]) -> str | None:
    """Find the innermost of the known modules that a module is, or stands in."""
    while path and path not in known:
        path = path.rpartition(".")[0]
    return path or None
