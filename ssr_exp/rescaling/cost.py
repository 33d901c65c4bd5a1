"""Exact cost in closed form: parameters, MACs and GeMMs of one network or of millions.

Every parameter and every product is a coefficient times lengths that depend on the widths of few
segments (mostly one, two where neighbours meet), present while its block is kept. So the cost of a
network is a sum of a few small tables over neighbouring segments, looked up by index. No network
is built, and the sums are exact in 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssr_exp.rescaling.plan import NO_SEGMENT, Architecture, Place, Plan
from ssr_exp.rescaling.tracing.channel_groups import Form

Points = NDArray[np.int32]
"""`n x S`: for each of `n` networks the option that each of `S` segments takes; see `encode`."""

Counts = NDArray[np.int64]

CHUNK = 1 << 16  # networks that are looked up at once: their indices stay in the cache
LARGEST_TABLE = 1 << 22  # entries
MANY = 100  # networks, from which tables of all options are made, and kept for the next call
N_METRICS = 3
WIDE = 3  # segments that a table may be of; what depends on more is split up


class Cost(NamedTuple):
    """Parameters, and for one image multiply-accumulates of convolutions and linear maps.

    `gemms` counts matrix products; a convolution with `g` groups is `g` of them.
    """

    params: Any
    macs: Any
    gemms: Any


@dataclass(frozen=True)
class GemmSize:
    """A matrix product of a network: `count` times M x N x K multiply-adds for one image."""

    path: str
    m: int
    n: int
    k: int
    count: int

    @property
    def load(self) -> int:
        """Multiply-adds of all its runs."""
        return self.m * self.n * self.k * self.count


def encode(plan: Plan, architectures: Sequence[Architecture]) -> Points:
    """Write architectures as points, `n x S`: width position times blocks, plus blocks less 1."""
    blocks = np.array([a.blocks for a in architectures], dtype=np.int32)
    widths = np.array([a.widths for a in architectures], dtype=np.int32)
    shape = len(architectures), len(plan.segments)
    points = (widths.reshape(shape) * _depths(plan) + blocks.reshape(shape) - 1).astype(np.int32)
    return canonical(plan, points)


def decode(plan: Plan, points: Points) -> list[Architecture]:
    """Read architectures from points, `n x S`."""
    widths, blocks = np.divmod(canonical(plan, points), _depths(plan))
    rows = zip((blocks + 1).tolist(), widths.tolist(), strict=True)
    return [Architecture(tuple(b), tuple(w)) for b, w in rows]


def gone(plan: Plan, points: Points) -> NDArray[np.bool_]:
    """Say which segments' block is left out, so that their width says nothing: `n x S`."""
    absent = np.zeros(points.shape, dtype=bool)
    for s, (segment, block) in plan.inner.items():
        absent[:, s] = points[:, segment] % len(plan.segments[segment].blocks) < block
    return absent


def canonical(plan: Plan, points: Points) -> Points:
    """Write each network one way, `n x S`: see `Plan.canonical`."""
    if plan.twins:
        points = points.copy()
        for s, options in _stand_ins(plan).items():
            points[:, s] = options[points[:, s]]
    return np.where(gone(plan, points), np.int32(0), points) if plan.inner else points


def is_within(plan: Plan, points: Points, other: Points) -> NDArray[np.bool_]:
    """Say which of `n x S` points have no more blocks and channels than another in any segment."""
    (widths, blocks), (most, longest) = (
        np.divmod(canonical(plan, p), _depths(plan)) for p in (points, other.reshape(1, -1))
    )
    if plan.twins:
        most = np.repeat(most, len(points), axis=0)
    for s, table in plan.twins.items():  # of a point's blocks, which are fewer
        most[:, s] = table[blocks[:, s], most[:, s]]
    within = (widths <= most) & (blocks <= longest)
    return np.asarray(within.all(axis=1), dtype=np.bool_)


def count_one(plan: Plan, architecture: Architecture) -> Cost:
    """Count the cost of one network."""
    counts = count(plan, encode(plan, [architecture]))
    return Cost(*(int(values[0]) for values in counts))


def count(plan: Plan, points: Points) -> Cost:
    """Count the cost of the networks at `n x S` points: arrays of `n`, 24 bytes a network."""
    totals = np.zeros((N_METRICS, len(points)), dtype=np.int64)
    scopes, ready = _scopes(plan), dict[tuple[int, ...], Counts]()
    if len(points) >= MANY and max(options := _n_options(plan), default=0) ** 2 <= CHUNK:
        ready = _tables(plan)
        for scope, table in ready.items():
            _look_up(totals, table, points, scope, [options[s] for s in scope])
    rest = {scope: terms for scope, terms in scopes.items() if scope not in ready}
    compact, axes = _axes(plan, points) if rest else (points, {})
    for scope, terms in rest.items():
        sizes = [len(axes[s][0]) for s in scope]
        if prod(sizes) <= LARGEST_TABLE:
            _look_up(totals, _table(plan, terms, _meshed(scope, axes)), compact, scope, sizes)
            continue
        for part in _chunks(len(points)):
            chunk = {s: _split(plan, s, points[part, s]) for s in scope}
            totals[:, part] += _table(plan, terms, chunk).T
    return Cost(*totals)


def count_product(plan: Plan, options: Sequence[Points]) -> Cost:
    """Count all combinations of the `k_s` options of each of `S` segments: `k_1 x ... x k_S`."""
    everywhere = dict(enumerate(_split(plan, s, option) for s, option in enumerate(options)))
    shape = tuple(len(option) for option in options)
    totals = np.zeros((N_METRICS, *shape), dtype=np.int64)
    for scope, terms in _scopes(plan).items():
        table = _table(plan, terms, _meshed(scope, everywhere))
        wide = [shape[s] if s in scope else 1 for s in range(len(shape))]
        totals += np.moveaxis(table, -1, 0).reshape(N_METRICS, *wide)
    return Cost(*totals)


def by_segment(plan: Plan) -> list[Cost]:
    """Split the seed network's cost: one `Cost` for each segment's blocks, and one for the rest."""
    spent = np.zeros((len(plan.segments) + 1, N_METRICS), dtype=np.int64)
    for term in _terms(plan):
        row = term.place[0] if term.place else -1
        lengths = prod(int(form(plan.full_sizes)) for form in term.forms)
        spent[row, term.metric] += term.coefficient * lengths
    return [Cost(*map(int, row)) for row in spent]


def gemms(plan: Plan, architecture: Architecture) -> list[GemmSize]:
    """List the matrix products of one network, in the order in which they run."""
    sizes, products = plan.sizes(architecture), []
    for gemm in plan.gemms:
        place = plan.place(gemm.path)
        if place is None or place[1] < architecture.blocks[place[0]]:
            m, n, k, count = (int(form(sizes)) for form in (gemm.m, gemm.n, gemm.k, gemm.count))
            n, k = (n * gemm.kernel, k) if gemm.is_transposed else (n, k * gemm.kernel)
            products.append(GemmSize(gemm.path, m, n, k, count))
    return products


@dataclass(frozen=True)
class _Term:
    """A metric's summand: `coefficient x product of forms` while the block at `place` is kept."""

    metric: int
    coefficient: int
    forms: tuple[Form, ...]
    place: Place | None


_Axis = tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]
"""Width positions and kept blocks, of one shape."""


@lru_cache(maxsize=32)
def _scopes(plan: Plan) -> Mapping[tuple[int, ...], tuple[_Term, ...]]:
    """Gather the terms by the segments they depend on; a scope inside another joins it."""
    gathered: dict[tuple[int, ...], list[_Term]] = {}
    narrow = (part for term in _terms(plan) for part in _narrowed(plan, term))
    for term in _merged(narrow):
        owners = _owners(plan, term)
        gathered.setdefault(tuple(sorted(owners)), []).append(term)
    for scope in sorted(gathered, key=len):
        wider = [other for other in gathered if set(scope) < set(other) and len(other) <= 2]
        if wider:
            gathered[wider[0]] += gathered.pop(scope)
    return {scope: tuple(terms) for scope, terms in gathered.items()}


def _owners(plan: Plan, term: _Term) -> set[int]:
    """List the segments that a term depends on."""
    owners = {plan.owners[g] for form in term.forms for g, _ in form.parts}
    owners |= {term.place[0]} if term.place else set()
    return owners - {NO_SEGMENT}


def _narrowed(plan: Plan, term: _Term) -> Iterator[_Term]:
    """Write a product of sums of many segments' channels (concatenations) as a sum of products."""
    if len(_owners(plan, term)) <= WIDE or any(form.divisor > 1 for form in term.forms):
        yield term
        return
    summands = [
        [*([Form(form.fixed)] if form.fixed else []), *(Form(0, (part,)) for part in form.parts)]
        for form in term.forms
    ]
    for forms in product(*summands):
        yield replace(term, forms=forms)


def _merged(terms: Iterator[_Term]) -> Iterator[_Term]:
    """Add up terms that differ only in their coefficient."""
    sums: dict[tuple[int, tuple[Form, ...], Place | None], int] = {}
    for term in terms:
        key = term.metric, term.forms, term.place
        sums[key] = sums.get(key, 0) + term.coefficient
    for (metric, forms, place), coefficient in sums.items():
        yield _Term(metric, coefficient, forms, place)


def _terms(plan: Plan) -> Iterator[_Term]:
    for name, leaf in plan.leaves.items():
        if leaf.is_parameter:
            yield _Term(0, 1, leaf.shape, plan.place(name))
    for gemm in plan.gemms:
        place = plan.place(gemm.path)
        yield _Term(1, gemm.kernel, (gemm.m, gemm.n, gemm.k, gemm.count), place)
        yield _Term(2, 1, (gemm.count,), place)


def _depths(plan: Plan) -> NDArray[np.int32]:
    return np.array([len(segment.blocks) for segment in plan.segments], dtype=np.int32)


@lru_cache(maxsize=32)
def _stand_ins(plan: Plan) -> dict[int, NDArray[np.int32]]:
    """Say for all options of the segments that have twins which option stands for it."""
    depths = _depths(plan)
    return {
        s: (table.T * depths[s] + np.arange(depths[s])).reshape(-1).astype(np.int32)
        for s, table in plan.twins.items()
    }


def _split(plan: Plan, segment: int, options: NDArray[Any]) -> _Axis:
    widths, blocks = np.divmod(options, len(plan.segments[segment].blocks))
    return widths, blocks + 1


@lru_cache(maxsize=8)
def _tables(plan: Plan) -> dict[tuple[int, ...], Counts]:
    """List for the scopes of few segments what all options of these cost."""
    axes = {s: _split(plan, s, np.arange(n)) for s, n in enumerate(_n_options(plan))}
    return {
        scope: _table(plan, terms, _meshed(scope, axes))
        for scope, terms in _scopes(plan).items()
        if prod(len(axes[s][0]) for s in scope) <= CHUNK
    }


def _axes(plan: Plan, points: Points) -> tuple[Points, dict[int, _Axis]]:
    """Number the options that occur: listing all of them would make the tables large."""
    points, axes = points.copy(), {}
    for s, n in enumerate(_n_options(plan)):
        occurs = np.bincount(points[:, s], minlength=n) > 0
        points[:, s] = (np.cumsum(occurs) - 1)[points[:, s]]
        axes[s] = _split(plan, s, np.flatnonzero(occurs))
    return points, axes


def _n_options(plan: Plan) -> list[int]:
    pairs = zip(plan.widths, plan.segments, strict=True)
    return [len(widths) * len(segment.blocks) for widths, segment in pairs]


def _meshed(scope: tuple[int, ...], axes: Mapping[int, _Axis]) -> dict[int, _Axis]:
    """Turn each segment's axis along a dimension of its own."""
    meshed = {}
    for position, s in enumerate(scope):
        shape = [1] * len(scope)
        shape[position] = -1
        meshed[s] = axes[s][0].reshape(shape), axes[s][1].reshape(shape)
    return meshed


def _table(plan: Plan, terms: Sequence[_Term], axes: Mapping[int, _Axis]) -> Counts:
    """Add up terms over axes that broadcast; returns `... x metrics`."""
    sizes: dict[int, Any] = dict(enumerate(plan.full_sizes))
    for s, (positions, _) in axes.items():
        for column, group in enumerate(plan.widths[s].groups):
            sizes[group] = plan.widths[s].sizes[:, column][positions]
    shape = np.broadcast_shapes(*(positions.shape for positions, _ in axes.values()))
    totals = np.zeros((*shape, N_METRICS), dtype=np.int64)
    for term in terms:
        value = term.coefficient * prod(form(sizes) for form in term.forms)
        if term.place is not None:
            segment, block = term.place
            value = value * (axes[segment][1] > block)
        totals[..., term.metric] += value
    return totals


def _look_up(
    totals: Counts, table: Counts, points: Points, scope: tuple[int, ...], sizes: Sequence[int]
) -> None:
    """Add a table's entries to the totals, a cache's worth of networks at a time."""
    rows = table.reshape(-1, N_METRICS)
    for part in _chunks(len(points)):
        index: Any = np.zeros(len(points[part]), dtype=np.int32)
        for s, size in zip(scope, sizes, strict=True):
            index = index * np.int32(size) + points[part, s]
        totals[:, part] += rows.take(index, axis=0).T


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
