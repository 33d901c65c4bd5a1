"""Find the segments of a network: `segments.find(network, input_shape)` makes its plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import chains, trace
from ssr_exp.rescaling.groups import Form, Grouping
from ssr_exp.rescaling.labels import FOLLOWS_INPUT, FOLLOWS_OUTPUT, Vector
from ssr_exp.rescaling.plan import Gemm, Leaf, Plan, Segment
from ssr_exp.rescaling.trace import Product, Trace


def find(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    multiple: int = 8,
    frozen: Sequence[str] = (),
) -> Plan:
    """Trace a seed network once and split it into segments.

    Args:
        network: any ConvNet; it is neither changed nor run on data.
        input_shape: channels, height and width of its images, in pixels.
        multiple: channels are rounded to a multiple of this.
        frozen: names of segments that stay as they are.

    Raises:
        SsrError: if the network does not run on such images, has no segment, or has no segment
            of a name in `frozen`.

    Example:
        >>> from ssr_exp.rescaling.resnet import CifarResNet
        >>> [segment.name for segment in find(CifarResNet(20), (3, 32, 32)).segments]
        ['stage1', 'stage2', 'stage3']
    """
    if multiple < 1:
        raise SsrError(f"channels are rounded to a multiple of at least 1, not {multiple}.")
    traced = trace.run(network, input_shape)
    found = chains.find(network, traced)
    if not found:
        raise SsrError(
            f"{type(network).__name__} has no segment: no class of blocks is repeated in it, so "
            "there is nothing to rescale."
        )
    _tie(found, traced)
    grouping = Grouping(traced.ledger, _vectors(traced))
    segments = _segments(found, traced, grouping, frozen)
    parameters = {name for name, _ in network.named_parameters()}
    return Plan(
        input_shape=tuple(input_shape),
        multiple=multiple,
        segments=segments,
        groups=grouping.groups,
        owners=_owners(segments, traced, grouping),
        leaves={
            name: Leaf(_shape(leaf, grouping), name in parameters)
            for name, leaf in traced.leaves.items()
        },
        gemms=tuple(_gemm(product, grouping) for product in traced.products),
        attributes=dict(_attributes(network, traced, grouping)),
        frozen=grouping.frozen,
    )


def _vectors(traced: Trace) -> Iterator[Vector]:
    """All dimensions whose length must be a form of the groups' sizes."""
    for leaf in traced.leaves.values():
        yield from (labels for labels in leaf.dims if labels is not None)
    for product in traced.products:
        yield product.inp


def _tie(found: list[chains.Chain], traced: Trace) -> None:
    """Keep what a removable block reads and writes of one size, so that it can be left out."""
    calls = {call.path: call for call in traced.calls}
    for call in (calls[path] for chain in found for path in chain[1:]):
        ends = [labels for labels in (call.in_labels, call.out_labels) if labels is not None]
        if len(ends) == 2 and len(ends[0]) == len(ends[1]):
            traced.ledger.tie(*ends, reason=f"{call.path} passes fixed channels")
        else:
            for labels in ends:
                traced.ledger.freeze(labels, f"{call.path} changes what its channels mean")


def _segments(
    found: list[chains.Chain], traced: Trace, grouping: Grouping, frozen: Sequence[str]
) -> tuple[Segment, ...]:
    names = _names(found)
    unknown = sorted(set(frozen) - set(names))
    if unknown:
        raise SsrError(
            f"there is no segment {unknown[0]!r} to freeze; this network has {', '.join(names)}."
        )
    calls = {call.path: call for call in traced.calls}
    segments = []
    for name, chain in zip(names, found, strict=True):
        last = calls[chain[-1]]
        labels = last.out_labels
        form = Form(last.out_shape[0]) if labels is None else grouping.form(labels)
        segments.append(Segment(name, tuple(chain), form, name in frozen))
    return tuple(segments)


def _names(found: list[chains.Chain]) -> list[str]:
    """Name each chain by the module that holds it, and by its blocks if that holds several."""
    holders = [chain[0].rpartition(".")[0] for chain in found]
    names = []
    for holder, chain in zip(holders, found, strict=True):
        ends = [path.rpartition(".")[2] for path in (chain[0], chain[-1])]
        span = ends[0] if len(chain) == 1 else "-".join(ends)
        alone = holder and holders.count(holder) == 1
        names.append(holder if alone else f"{holder}.{span}".lstrip("."))
    return names


def _owners(segments: tuple[Segment, ...], traced: Trace, grouping: Grouping) -> tuple[int, ...]:
    """Give each group to the segment that produces it, else to the next one that runs."""
    order = {call.path: position for position, call in enumerate(traced.calls)}
    starts = [order[segment.blocks[0]] for segment in segments]
    inside = [tuple(f"{block}." for block in segment.blocks) for segment in segments]

    def owner(paths: tuple[str, ...]) -> int:
        for number, prefixes in enumerate(inside):
            if any(f"{path}.".startswith(prefixes) for path in paths):
                return number
        first = min(order.get(path, 0) for path in paths)
        return next((n for n, start in enumerate(starts) if first < start), len(segments) - 1)

    return tuple(owner(group.paths) for group in grouping.groups)


def _shape(leaf: trace.Leaf, grouping: Grouping) -> tuple[Form, ...]:
    shape = []
    for dim, (size, labels) in enumerate(zip(leaf.shape, leaf.dims, strict=True)):
        form = Form(size) if labels is None else grouping.form(labels)
        if dim == 1 and labels is not None and len(labels) != size:
            form = Form(form.fixed, form.parts, len(labels) // size)
        shape.append(form)
    return tuple(shape)


def _gemm(product: Product, grouping: Grouping) -> Gemm:
    """Write a product's N, K and count as forms; a narrow group keeps its width."""
    out, inp = grouping.form(product.out), grouping.form(product.inp)
    if product.narrow:
        width = len(product.out) // product.groups
        k, n = Form(len(product.inp) // product.groups), Form(width)
        count = Form(out.fixed, out.parts, width)
    else:
        n = Form(out.fixed, out.parts, product.groups)
        k = Form(inp.fixed, inp.parts, product.groups)
        count = Form(product.groups)
    return Gemm(product.path, product.positions, n, k, product.kernel, count)


def _attributes(
    network: nn.Module, traced: Trace, grouping: Grouping
) -> Iterator[tuple[tuple[str, str], Form]]:
    """Find integers that repeat a width: named after an end, and equal to the channels there."""
    modules = dict(network.named_modules())
    for call in traced.calls:
        ends = ((FOLLOWS_INPUT, call.in_labels), (FOLLOWS_OUTPUT, call.out_labels))
        for names, labels in ends:
            if labels is None or not grouping.fits(labels):
                continue
            for name in names:
                if vars(modules[call.path]).get(name) == len(labels):
                    yield (call.path, name), grouping.form(labels)
    for product in traced.products:
        if product.narrow:
            yield (product.path, "groups"), _gemm(product, grouping).count
