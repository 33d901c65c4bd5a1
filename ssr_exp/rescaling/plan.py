"""The plan of a seed network: all that rescaling and counting need, and no weights.

An immutable description. What modifiers mean in whole blocks and channels is decided here and
nowhere else: builder, counter, lattice and codes all read the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.tracing.blocks import Block, holders_of
from ssr_exp.rescaling.tracing.channel_groups import Form, Group
from ssr_exp.rescaling.tracing.labels import Vector

CLOSE = 1e-9  # fractions this close to a rounding threshold count as reaching it
STEPS = 8  # widths in eighths are the usual ones, and stand for others of the same network
MOST_STEPS = 2**16  # between two widths; no network is as wide

NO_SEGMENT = -1

Place = tuple[int, int]
"""Which segment and which of its blocks something is in."""
OUTSIDE: Place = (NO_SEGMENT, 0)


@dataclass(frozen=True)
class Segment:
    """A logical group of blocks.

    Args:
        name: the path of the module that holds the blocks, or what they have in common.
        blocks: in the order in which depth keeps them.
        channels: how many channels the segment puts out.
        frozen: whether it stays as it is.
        least: how many blocks can not be removed.
        is_width: whether it is a group of channels: it has a width, and no blocks to count.
        parts: names and channels of what was merged into it, if anything.
    """

    name: str
    blocks: tuple[Block, ...]
    channels: Form
    frozen: bool
    least: int = 1
    is_width: bool = False
    parts: tuple[tuple[str, int], ...] = ()

    @property
    def fewest(self) -> int:
        """The fewest blocks that it can keep."""
        return len(self.blocks) if self.frozen else self.least


@dataclass(frozen=True)
class Gemm:
    """A convolution or linear map as a matrix product, its sizes as forms of the widths.

    It runs `count` times for one image, with M x N x K multiply-adds each time, and `kernel` times
    as many: its elements are summed up with K, or, `is_transposed`, put out with N.
    """

    path: str
    m: Form
    n: Form
    k: Form
    kernel: int
    count: Form
    is_transposed: bool = False


@dataclass(frozen=True)
class PlannedTensor:
    """A parameter or buffer of the seed network.

    Args:
        shape: as forms of the widths.
        is_parameter: whether it is learnt.
        channels: for each dimension the channels that stand along it (`Plan.channel_groups` says
            in which group each is; `FIXED` is in none), or None where it is fixed.
        out: the dimensions along which stand channels that it puts out, of the weight of a product:
            mostly the first, of a transposed convolution the second.
    """

    shape: tuple[Form, ...]
    is_parameter: bool
    channels: tuple[Vector | None, ...] = field(default=(), compare=False)
    out: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Widths:
    """The distinct widths that one segment can take, ascending; the last one is full.

    Args:
        thresholds: `k` smallest fractions that give each of them.
        groups: `g` numbers of the groups that the segment scales.
        sizes: `k x g` channels of each group.
        channels: `k` channels that the segment puts out.
    """

    thresholds: NDArray[np.float64]
    groups: tuple[int, ...]
    sizes: NDArray[np.int64]
    channels: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the widths."""
        return len(self.thresholds)

    def positions(self, fractions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Round fractions of any shape to widths: positions of the same shape."""
        below = np.searchsorted(self.thresholds, fractions + CLOSE, side="right") - 1
        return np.maximum(below, 0)


@dataclass(frozen=True, order=True)
class Architecture:
    """An effective architecture: two modifiers that give the same one are the same network.

    The width of a block that is left out says nothing: `Plan.canonical` gives it one position, and
    so it does to widths that differ only in blocks that are left out.

    Args:
        blocks: how many blocks each of `S` segments keeps.
        widths: which of its `Widths` each of them takes, as positions.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """A seed network's segments, channel groups, parameters and products.

    Args:
        inputs: what the network was called with when it was traced.
        multiple: channels are rounded to a multiple of this.
        segments: in the order in which they run.
        owners: for each group the segment that scales it, `NO_SEGMENT` if it keeps its size.
        leaves: parameters and buffers by name.
        gemms: in the order in which they run.
        attributes: integers in modules that follow a width: (path, attribute) to form, or to one
            form for each entry of a list.
        frozen: for each reason, how many channels stay at full size because of it.
        channel_groups: for each channel of the seed network its group, -1 if it is always kept.
        unlearnt: names of parameters that take part and are not learnt (`requires_grad=False`).
        remarks: what a user should know of it, each a sentence without its full stop.
        units: arrays `n x width`; the channels of a row are kept or dropped together.
    """

    inputs: Signature
    multiple: int
    segments: tuple[Segment, ...]
    groups: tuple[Group, ...]
    owners: tuple[int, ...]
    leaves: Mapping[str, PlannedTensor]
    gemms: tuple[Gemm, ...]
    attributes: Mapping[tuple[str, str], Form | tuple[Form, ...]]
    frozen: Mapping[str, int]
    channel_groups: NDArray[np.int64]
    unlearnt: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()
    units: tuple[Vector, ...] = ()

    @property
    def takes(self) -> str:
        """What it takes, in words: `images of 3x32x32`."""
        kind = "images" if self.inputs.is_one_image and len(self.input_shape) == 3 else "inputs"
        return f"{kind} of {self.inputs.text()}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the first input: channels, height and width of images, in pixels."""
        return self.inputs.shape

    @cached_property
    def widths(self) -> tuple[Widths, ...]:
        """The widths that each segment can take."""
        return tuple(map(self._widths, range(len(self.segments))))

    @cached_property
    def full_sizes(self) -> NDArray[np.int64]:
        """The size of each group in the seed network, `n_groups`."""
        return np.array([group.size for group in self.groups], dtype=np.int64)

    @cached_property
    def baseline(self) -> Architecture:
        """The seed network itself."""
        blocks = tuple(len(segment.blocks) for segment in self.segments)
        return Architecture(blocks, tuple(len(widths) - 1 for widths in self.widths))

    @cached_property
    def smallest(self) -> Architecture:
        """The fewest blocks and the fewest channels everywhere, left-out blocks included."""
        fewest = tuple(segment.fewest for segment in self.segments)
        return Architecture(fewest, (0,) * len(self.segments))

    @cached_property
    def _places(self) -> dict[str, Place]:
        return {
            path: (s, b)
            for s, segment in enumerate(self.segments)
            for b, block in enumerate(segment.blocks)
            for path in block
        }

    @cached_property
    def inner(self) -> Mapping[int, Place]:
        """The first block that each segment is an inner width of, where it can be left out.

        Nothing outside of that block and those after it knows the segment's channels.
        """
        places: dict[int, set[Place]] = {}
        for group, each in self._group_places.items():
            places.setdefault(self.owners[group], set()).update(each)
        widths = {s for s, segment in enumerate(self.segments) if segment.is_width}
        first = {s: min(places[s]) for s in widths & places.keys()}
        return {
            s: (segment, block)
            for s, (segment, block) in first.items()
            if segment >= 0 and block >= self.segments[segment].fewest
            if all(place[0] == segment for place in places[s])
        }

    @cached_property
    def _group_places(self) -> Mapping[int, set[Place]]:
        """The blocks that know each group's channels; nothing where no block can be left out."""
        if all(segment.fewest == len(segment.blocks) for segment in self.segments):
            return {}
        forms: list[tuple[str, tuple[Form, ...]]] = [
            *((gemm.path, (gemm.m, gemm.n, gemm.k, gemm.count)) for gemm in self.gemms),
            *((name, leaf.shape) for name, leaf in self.leaves.items()),
            *((p, f if isinstance(f, tuple) else (f,)) for (p, _), f in self.attributes.items()),
        ]
        places: dict[int, set[Place]] = {}
        for path, each in forms:
            for group in {group for form in each for group, _ in form.parts}:
                places.setdefault(group, set()).add(self.place(path) or OUTSIDE)
        return places

    @cached_property
    def twins(self) -> Mapping[int, NDArray[np.int64]]:
        """The segments that have twins: widths that differ only in blocks that are left out.

        For each of `n` kept blocks less 1 and `k` widths, `n x k`: which width stands for it.
        """
        tables = {s: self._twins(s) for s in range(len(self.segments))}
        return {s: table for s, table in tables.items() if (np.diff(table) != 1).any()}

    def _twins(self, number: int) -> NDArray[np.int64]:
        segment, widths = self.segments[number], self.widths[number]
        places = [self._group_places.get(group, {OUTSIDE}) for group in widths.groups]
        # What another segment's blocks know is taken for always there.
        inside = [all(s == number for s, _ in each) for each in places]
        first = [min(each)[1] if own else 0 for each, own in zip(places, inside, strict=True)]
        table: NDArray[np.int64] = np.tile(np.arange(len(widths)), (len(segment.blocks), 1))
        for kept in range(segment.fewest, max(first, default=0) + 1):
            known = [column for column, block in enumerate(first) if block < kept]
            table[kept - 1] = _stand_ins(widths, widths.sizes[:, known])
        return table

    def canonical(self, architecture: Architecture) -> Architecture:
        """Write a network one way: what only blocks that are left out know says nothing.

        Their inner widths are at the position 0, and of a segment's widths that differ in them
        alone one stands for all.
        """
        gone, widths = self.gone(architecture), list(architecture.widths)
        for s, table in self.twins.items():
            widths[s] = int(table[architecture.blocks[s] - 1, widths[s]])
        return Architecture(
            architecture.blocks, tuple(0 if s in gone else w for s, w in enumerate(widths))
        )

    def gone(self, architecture: Architecture) -> set[int]:
        """List the segments whose block is left out."""
        return {s for s, (at, block) in self.inner.items() if architecture.blocks[at] <= block}

    def place(self, path: str) -> Place | None:
        """Say which block a module or parameter stands in, if any."""
        holders = (each for each in (path, *holders_of(path)) if each in self._places)
        return self._places.get(next(holders, ""))

    def effective(self, modifiers: Modifiers) -> Architecture:
        """Round modifiers to whole blocks and channels.

        Blocks are rounded half up. Channels are rounded half up to the multiple, never below
        one multiple; at 1 nothing is rounded.

        Raises:
            SsrError: if there is not one modifier for each segment, if a depth keeps no block,
                or if a modifier other than 1 is asked of a frozen segment.
        """
        if len(modifiers) != len(self.segments):
            names = ", ".join(segment.name for segment in self.segments)
            raise SsrError(
                f"got modifiers for {len(modifiers)} segments, but this network has "
                f"{len(self.segments)} ({names}): give one depth and one width for each."
            )
        pairs = zip(modifiers.depth, modifiers.width, strict=True)
        rounded = [self._round(number, *pair) for number, pair in enumerate(pairs)]
        blocks, widths = zip(*rounded, strict=True)
        return self.canonical(Architecture(blocks, widths))

    def modifiers(self, architecture: Architecture) -> Modifiers:
        """Write an architecture as fractions that give it back: kept blocks, kept channels."""
        depth = [
            kept / len(segment.blocks)
            for kept, segment in zip(architecture.blocks, self.segments, strict=True)
        ]
        width = [_fraction(w, k) for w, k in zip(self.widths, architecture.widths, strict=True)]
        return Modifiers(depth, width)

    def channels(self, architecture: Architecture) -> tuple[int, ...]:
        """Count the channels that each segment puts out; 0 where its block is left out."""
        sizes = self.sizes(architecture)
        gone = self.gone(architecture)
        counts = (int(segment.channels(sizes)) for segment in self.segments)
        return tuple(0 if s in gone else count for s, count in enumerate(counts))

    def sizes(self, architecture: Architecture) -> NDArray[np.int64]:
        """Count the channels of each group, `n_groups`."""
        sizes = self.full_sizes.copy()
        for widths, position in zip(self.widths, architecture.widths, strict=True):
            sizes[list(widths.groups)] = widths.sizes[position]
        return sizes

    def _round(self, number: int, depth: float, width: float) -> tuple[int, int]:
        segment, widths = self.segments[number], self.widths[number]
        if segment.frozen and (depth, width) != (1.0, 1.0):
            raise SsrError(
                f"segment {segment.name} is frozen, but its modifiers are depth {depth:g} and "
                f"width {width:g}: give it 1 and 1, or take it out of segment.frozen."
            )
        total = len(segment.blocks)
        blocks = math.floor(depth * total + 0.5 + CLOSE)
        if blocks < segment.least:
            least, kept = segment.least, "none" if blocks == 0 else str(blocks)
            share = math.ceil(100 * (least - 0.5) / total) / 100
            raise SsrError(
                f"depth {depth:g} keeps {kept} of the {total} blocks of segment {segment.name}; "
                f"the least is {share:g} ({'one block' if least == 1 else f'{least} blocks'})."
            )
        return blocks, int(widths.positions(np.array([width]))[0])

    def _widths(self, number: int) -> Widths:
        segment = self.segments[number]
        groups = tuple(g for g, owner in enumerate(self.owners) if owner == number)
        if segment.frozen:
            groups = ()
        multiples = [math.lcm(self.multiple, self.groups[g].multiple) for g in groups]
        steps = [_steps(self.groups[g].size, m) for g, m in zip(groups, multiples, strict=True)]
        thresholds = np.unique(np.concatenate([[0.0], *(t for t, _ in steps)]).round(12))
        sizes = np.empty((len(thresholds), len(groups)), dtype=np.int64)
        for column, (at, size) in enumerate(steps):
            sizes[:, column] = size[np.searchsorted(at, thresholds + CLOSE, side="right") - 1]
        everything = dict(enumerate(self.full_sizes)) | dict(zip(groups, sizes.T, strict=True))
        channels = np.broadcast_to(segment.channels(everything), thresholds.shape)
        return Widths(thresholds, groups, sizes, channels)


def _steps(size: int, multiple: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """List the sizes that a group can take, and the smallest fraction that gives each."""
    thresholds, sizes = [0.0], [min(multiple, size)]
    while sizes[-1] < size:
        k = len(sizes) + 1
        threshold = (k - 0.5) * multiple / size
        thresholds.append(min(threshold, 1.0))
        sizes.append(size if threshold >= 1 else min(k * multiple, size))
    return np.array(thresholds), np.array(sizes, dtype=np.int64)


def _fraction(widths: Widths, position: int) -> float:
    """Choose the share of channels, or where that would round elsewhere, a share between."""
    if position == len(widths) - 1:
        return 1.0
    share = float(widths.channels[position] / widths.channels[-1])
    low, high = (float(t) for t in widths.thresholds[position : position + 2])
    return share if low + CLOSE < share < high - CLOSE and share > 0 else (low + high) / 2


def _stand_ins(widths: Widths, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Say which of `k` widths stands for all that have the same `sizes`, `k x groups`: `k`.

    The full width does, except for the narrowest; else the lowest of as few equal steps as tell
    them apart, from eighths on, so that widths keep the names that they have in eighths.
    """
    number = np.concatenate([[0], (np.diff(sizes, axis=0) != 0).any(axis=1).cumsum()])
    chosen, steps = np.full(number[-1] + 1, -1), STEPS
    chosen[1:][-1:] = len(widths) - 1
    while (chosen < 0).any() and steps <= MOST_STEPS:
        positions = widths.positions(np.arange(1, steps + 1) / steps)
        each, first = np.unique(number[positions], return_index=True)
        chosen[each] = np.where(chosen[each] < 0, positions[first], chosen[each])
        steps *= 2
    lowest = np.searchsorted(number, np.arange(len(chosen)))
    return np.asarray(np.where(chosen < 0, lowest, chosen)[number], dtype=np.int64)
