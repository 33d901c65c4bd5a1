"""Make the plan of a network: `planning.trace(network, example)` finds its segments."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from torch import nn

from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.errors import SsrError, only_ssr_errors
from ssr_exp.rescaling import channel_segments, merging, remarks, seeds, segmentations, validation
from ssr_exp.rescaling.inputs import Example
from ssr_exp.rescaling.plan import Gemm, Plan, PlannedTensor, Segment
from ssr_exp.rescaling.segmentations import SegmentDraft
from ssr_exp.rescaling.tracing import attributes, runner
from ssr_exp.rescaling.tracing.blocks import holders_of
from ssr_exp.rescaling.tracing.channel_groups import Form, Group, Grouping
from ssr_exp.rescaling.tracing.labels import FIXED, Ledger, Vector
from ssr_exp.rescaling.tracing.trace import Call, MatrixProduct, Trace, TracedTensor


def seed_and_plan(
    model: ModelConf,
    segment: SegmentConf,
    *,
    num_classes: int | None,
    input_shape: Sequence[int],
    inputs: Example | None = None,
) -> tuple[nn.Module, Plan]:
    """Construct a seed network, with weights from torch's global generator, and its plan.

    Channels are rounded as the network's family asks, where `segment.multiple` leaves that open.
    A network of the user's own that takes other `inputs` than one batch of images stays as it is
    made.

    Raises:
        SsrError: if the network cannot be built, or not be split like that.
    """
    network = seeds.build(
        model, num_classes=num_classes, input_shape=input_shape, takes_images=inputs is None
    )
    plan = trace(
        network,
        input_shape if inputs is None else inputs,
        multiple=seeds.multiple(model) if segment.multiple is None else segment.multiple,
        frozen=segment.frozen,
        kind=segment.kind,
        patterns=segment.patterns,
        depth=segment.depth,
        at_most=segment.at_most,
    )
    return network, plan


def trace(
    network: nn.Module,
    example: Example,
    *,
    multiple: int = 8,
    frozen: Sequence[str] = (),
    kind: str = "stage",
    patterns: Sequence[str] = (),
    depth: bool = False,
    at_most: int | None = None,
) -> Plan:
    """Trace a seed network once and split it into segments.

    The plan is tried: its smallest networks are built without data and must run, and have the
    products that the plan counts. What stands in the way is frozen at full size, and named.

    Args:
        network: any ConvNet; it is neither changed nor run on data.
        example: what it is called with: the shape of one input without the batch (channels, height
            and width of images, in pixels), or inputs with a batch: a tensor, a tuple, a
            dictionary, or `Inputs`. See `input_examples.read`.
        multiple: channels are rounded to a multiple of this.
        frozen: names of segments that stay as they are.
        kind: how to split it: `stage`, `superblock`, `block`, `channels`, `whole` or
            `manual`.
        patterns: for `manual`: names of modules, one pattern for each segment.
        depth: for `channels`: whether stages keep fewer of their blocks, too.
        at_most: how many segments may be left: the most alike ones are merged; see `merging`.

    Raises:
        SsrError: if the network does not run on such inputs, has no segment, nothing in it can be
            rescaled, it has no segment of a name in `frozen`, or `at_most` is too few.

    Example:
        >>> from ssr_exp.rescaling.resnet import CifarResNet
        >>> [segment.name for segment in trace(CifarResNet(20), (3, 32, 32)).segments]
        ['stage1', 'stage2', 'stage3']
    """
    if multiple < 1:
        raise SsrError(f"channels are rounded to a multiple of at least 1, not {multiple}.")
    if at_most is not None and at_most < 1:
        raise SsrError(
            f"segment.at_most is {at_most}; it must be 1 or more, or null for any number."
        )
    with only_ssr_errors(f"{type(network).__name__} cannot be split into segments"):
        traced = runner.run(network, example)
        drafts = segmentations.find(network, traced, kind, patterns, depth=depth)
        by_channels = kind == segmentations.channels.__name__
        if not by_channels:
            names = [draft.name for draft in drafts]
            _check_names(network, names, frozen if at_most is None else ())
        make = partial(_plan, network, traced, multiple, frozen, by_channels, at_most)
        plan = validation.settle(network, drafts, traced, make)
        if plan.segments:
            _check_names(network, [segment.name for segment in plan.segments], frozen)
        said = [*remarks.describe(network, traced, plan)]
        if depth and all(segment.is_width for segment in plan.segments):
            said.append("segment.depth=true changes nothing: no block of it can be left out")
        elif depth and (shared := _shared(traced, plan)):
            said.append(
                "segment.depth=true: a layer can be left out only where it is as wide as the one "
                f"before it, so layers of a stage share one width; there are {shared} widths fewer"
            )
        plan = dataclasses.replace(plan, remarks=tuple(said))
    if plan.baseline == plan.smallest and not (frozen and plan.segments):
        reasons = "; ".join(plan.frozen) or "its widths are below one multiple"
        raise SsrError(f"nothing of {type(network).__name__} can be rescaled: {reasons}.")
    return plan


def _shared(traced: Trace, plan: Plan) -> int:
    """Count the widths that are no longer their own, so that blocks can be left out."""
    own = Grouping(traced.ledger, _vectors(traced)).groups
    shrinks = partial(channel_segments.shrinks, multiple=plan.multiple)
    return sum(map(shrinks, own)) - sum(map(shrinks, plan.groups))


def _check_names(network: nn.Module, names: Sequence[str], frozen: Sequence[str]) -> None:
    if not names:
        raise SsrError(
            f"{type(network).__name__} has no segment: it has no convolution or linear map before "
            "its last, so there is nothing to rescale."
        )
    if unknown := sorted(set(frozen) - set(names)):
        raise SsrError(
            f"there is no segment {unknown[0]!r} to freeze; this network has {', '.join(names)}."
        )


def _plan(
    network: nn.Module,
    traced: Trace,
    multiple: int,
    frozen: Sequence[str],
    by_channels: bool,
    at_most: int | None,
    drafts: Sequence[SegmentDraft],
) -> Plan:
    ledger = copy.copy(traced.ledger)
    ledger.ties, ledger.frozen = list(ledger.ties), list(ledger.frozen)
    _tie(drafts, traced, ledger)
    grouping = Grouping(ledger, _vectors(traced))
    made = _segments(
        [d for d in drafts if d.has_depth or not by_channels], traced, grouping, frozen
    )
    if by_channels:
        segments, owners = channel_segments.make(grouping.groups, made, multiple, frozen)
        if narrow := sum(g.size for g, s in zip(grouping.groups, owners, strict=True) if s < 0):
            grouping.frozen[f"they are no wider than one multiple of {multiple}"] = narrow
    else:
        segments, owners = made, _owners(made, traced, grouping.groups)
    parameters = {name for name, _ in network.named_parameters()}
    plan = Plan(
        inputs=traced.inputs,
        multiple=multiple,
        segments=segments,
        groups=grouping.groups,
        owners=owners,
        leaves={
            name: PlannedTensor(
                _shape(leaf, grouping),
                name in parameters,
                _channels(leaf, grouping),
                tuple(sorted(leaf.out)),
            )
            for name, leaf in traced.leaves.items()
        },
        gemms=tuple(_gemm(product, grouping) for product in traced.products),
        attributes=attributes.find(network, traced, grouping),
        frozen=grouping.frozen,
        channel_groups=grouping.group_of,
        unlearnt=remarks.unlearnt(network, traced),
        units=tuple(_classes(v, grouping).reshape(-1, n) for v, n in ledger.units if n > 1),
    )
    if at_most is None or at_most >= len(segments):
        return plan
    merged = merging.merge(plan, traced, at_most)
    named = tuple(dataclasses.replace(s, frozen=s.name in frozen) for s in merged.segments)
    return dataclasses.replace(merged, segments=named)


def _vectors(traced: Trace) -> Iterator[Vector]:
    """All dimensions whose length must be a form of the groups' sizes."""
    for leaf in traced.leaves.values():
        yield from (labels for labels in leaf.dims if labels is not None)
    for product in (*traced.products, *traced.training_products):
        yield product.inp


def _tie(drafts: Sequence[SegmentDraft], traced: Trace, ledger: Ledger) -> None:
    """Keep what a removable block reads and writes of one size, so that it can be left out."""
    calls: dict[str, list[Call]] = {}
    for call in traced.calls:
        calls.setdefault(call.path, []).append(call)
    removable = [block for draft in drafts for block in draft.blocks[draft.least :]]
    ends = [pair for b in removable for pair in zip(calls[b[0]], calls[b[-1]], strict=False)]
    for first, last in ends:
        block = first.path
        for one, other in zip(first.in_labels, last.out_labels, strict=False):
            if one is not None and other is not None and len(one) == len(other):
                ledger.tie(one, other, reason=f"{block} passes fixed channels")
            else:
                for labels in (one, other):
                    if labels is not None:
                        ledger.freeze(labels, f"{block} changes what its channels mean")


def _segments(
    drafts: Sequence[SegmentDraft], traced: Trace, grouping: Grouping, frozen: Sequence[str]
) -> tuple[Segment, ...]:
    calls = {call.path: call for call in reversed(traced.calls)}  # the first of each
    order = [*reversed(calls)]
    segments = []
    for draft in drafts:
        ran = sorted((path for block in draft.blocks for path in block), key=order.index)
        forms = [_width(calls[path], grouping) for path in reversed(ran)]
        channels = next((form for form in forms if form.parts), forms[0])  # not an attention's map
        is_frozen = draft.name in frozen
        segments.append(Segment(draft.name, draft.blocks, channels, is_frozen, draft.least))
    return tuple(segments)


def _owners(segments: Sequence[Segment], traced: Trace, groups: Sequence[Group]) -> tuple[int, ...]:
    """Give each group to the segment with most of its producers, else to the next that runs.

    Of several with as many, it is the first one's.
    """
    order = {call.path: position for position, call in [*enumerate(traced.calls)][::-1]}
    paths_of = [[path for block in segment.blocks for path in block] for segment in segments]
    starts = [min(order[path] for path in paths) for paths in paths_of]
    number_of = {path: number for number, paths in enumerate(paths_of) for path in paths}

    def owner(paths: tuple[str, ...]) -> int:
        holders = [[path, *holders_of(path)] for path in paths]
        inside = [next((number_of[h] for h in each if h in number_of), None) for each in holders]
        if numbers := [number for number in inside if number is not None]:
            return max(sorted(numbers), key=numbers.count)
        first = min(order.get(path, 0) for path in paths)
        later = [(start, number) for number, start in enumerate(starts) if first < start]
        return min(later)[1] if later else int(np.argmax(starts))

    return tuple(owner(group.paths) for group in groups)


def _width(call: Call, grouping: Grouping) -> Form:
    """Write the channels that a module puts out; those of all tensors if it has several."""
    forms = [
        Form(shape[0] if shape else 1) if labels is None else grouping.form(labels)
        for shape, labels in zip(call.out_shapes, call.out_labels, strict=True)
    ]
    return forms[0] if len(forms) == 1 else forms[-1] if forms else Form(0)


def _shape(leaf: TracedTensor, grouping: Grouping) -> tuple[Form, ...]:
    shape = []
    for size, labels in zip(leaf.shape, leaf.dims, strict=True):
        form = Form(size) if labels is None else grouping.form(labels)
        if labels is not None and len(labels) != size:
            form = form / (len(labels) // size)
        shape.append(form)
    return tuple(shape)


def _channels(leaf: TracedTensor, grouping: Grouping) -> tuple[Vector | None, ...]:
    return tuple(None if labels is None else _classes(labels, grouping) for labels in leaf.dims)


def _classes(labels: Vector, grouping: Grouping) -> Vector:
    """Look up the channels, under the one name that they have in a plan."""
    return np.where(labels == FIXED, FIXED, grouping.class_of[labels])


def _gemm(product: MatrixProduct, grouping: Grouping) -> Gemm:
    """Write a product's M, N, K and count as forms; a narrow group keeps its width."""
    out, inp = grouping.form(product.out), grouping.form(product.inp)
    m = Form(product.positions)
    if product.rows is not None:
        m = grouping.form(product.rows) * product.positions
    if product.narrow:
        width = len(product.out) // product.groups
        k, n = Form(len(product.inp) // product.groups), Form(width)
        count = out / width
    else:
        n, k = out / product.groups, inp / product.groups
        count = Form(product.groups)
    count = count * product.times
    return Gemm(product.path, m, n, k, product.kernel, count, product.is_transposed)
