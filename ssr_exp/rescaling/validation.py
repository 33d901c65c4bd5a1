"""The proof of a plan: its smallest networks run, and have the shapes and products that it counts.

What the trace's rules do not know (integers that a module computed when it was made, code that
depends on a width) shows here. It is frozen at full size and named, and the plan is made anew.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import codes, cost, meta, nested, rescale
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.segmentations import SegmentDraft
from ssr_exp.rescaling.tracing import attributes
from ssr_exp.rescaling.tracing.blocks import PLAIN, holders_of, is_inside
from ssr_exp.rescaling.tracing.labels import BATCH, FIXED
from ssr_exp.rescaling.tracing.rules import dispatch
from ssr_exp.rescaling.tracing.trace import Shapes, Trace

ATTEMPTS = 40  # faults that are mended before a network is given up, if it is not large
LARGEST_INPUT = 3 * 512 * 512  # elements; on larger inputs no network is run with data


@dataclass(frozen=True)
class Fault:
    """A network that does not run as planned: in the module at `path`, on what `makers` made."""

    path: str
    reason: str
    makers: frozenset[str] = frozenset()


def settle(
    network: nn.Module,
    parts: Sequence[SegmentDraft],
    trace: Trace,
    make: Callable[[Sequence[SegmentDraft]], Plan],
) -> Plan:
    """Make a plan, and freeze what its networks stumble over until all of them run.

    What is frozen is added to the trace's ledger.

    Raises:
        SsrError: if no end is found.
    """
    tried: set[str] = set()
    own = [m for m in network.modules() if not type(m).__module__.startswith("torch.nn")]
    attempts = max(ATTEMPTS, 2 * len(own))  # each may be mended in two ways
    for attempt in range(attempts):
        plan = make(parts)
        trace.width_dependent.clear()
        if attempt == 0 and (fault := _run(network, plan, trace, plan.baseline)) is not None:
            raise SsrError(
                f"{type(network).__name__} cannot be counted, even at full size: in "
                f"{fault.path or 'the network'}, {fault.reason}. Does it treat images one by "
                "one, or does a hook or closure hold a part of it? A copy would use the original's."
            )
        narrow = shallow = _try(network, plan, trace, _narrow(plan))
        if narrow is not None:
            if not _mend_integers(network, trace, plan, narrow, tried):
                _freeze_for(network, trace, narrow, tried)
            continue
        shallow = _try(network, plan, trace, _shallow(plan))
        if shallow is None:
            _check_values(network, plan)
            return plan
        parts = _kept(network, plan, trace, parts)
    assert shallow is not None
    raise SsrError(
        f"{type(network).__name__} cannot be rescaled: after {attempts} attempts a smaller network "
        f"still does not run ({shallow.reason})."
    )


def check(network: nn.Module, plan: Plan, architecture: Architecture) -> None:
    """Run one rescaled network, without data: what is trained has the cost that is counted.

    The networks that `settle` runs say enough of all others, unless code compares widths.

    Raises:
        SsrError: if it does not run, or has other multiply-adds.
    """
    with meta.undrawn():
        rescaled = rescale.skeleton(network, plan, architecture).eval()
    fault = None
    for batch in (1, BATCH):  # some do not run on one image
        watch = meta.ModuleWatch(rescaled)
        if (fault := _forward(rescaled, plan, batch, watch)) is None:
            fault = _miscounted(plan, architecture, watch.macs, batch)
            break
    if fault is not None:
        raise SsrError(
            f"{codes.write(plan, architecture)} of {type(network).__name__} is not the network "
            f"that is counted: in {fault.path or 'the network'}, {fault.reason}. Its code seems to "
            "compare widths: leave it out, or keep one of those widths (segment.frozen=[NAME])."
        )


def _narrow(plan: Plan) -> Iterator[Architecture]:
    """List networks of full depth: the narrowest, and two whose widths are all in between."""
    blocks, full = plan.baseline.blocks, plan.baseline.widths
    yield Architecture(blocks, plan.smallest.widths)
    draw = random.Random(0)
    for _ in range(2):
        yield Architecture(blocks, tuple(draw.randint(0, width) for width in full))


def _shallow(plan: Plan) -> Iterator[Architecture]:
    """List shallow networks: the shallowest, and two in which each segment may stay as it is."""
    fewest, full, widths = plan.smallest.blocks, plan.baseline.blocks, plan.baseline.widths
    yield Architecture(fewest, widths)
    if sum(few < most for few, most in zip(fewest, full, strict=True)) > 1:
        draw = random.Random(0)
        for _ in range(2):
            blocks = (draw.randint(*ends) for ends in zip(fewest, full, strict=True))
            yield Architecture(tuple(blocks), widths)


def _try(
    network: nn.Module, plan: Plan, trace: Trace, candidates: Iterator[Architecture]
) -> Fault | None:
    smaller = (architecture for architecture in candidates if architecture != plan.baseline)
    faults = (_run(network, plan, trace, architecture) for architecture in smaller)
    return next((fault for fault in faults if fault is not None), None)


def _run(network: nn.Module, plan: Plan, trace: Trace, architecture: Architecture) -> Fault | None:
    """Run one network on the meta device, in each mode that the seed network runs in.

    What it puts out has the seed's shapes, and its multiply-adds for one image are the plan's.
    """
    rescaled = rescale.skeleton(network, plan, architecture)
    full, least = plan.baseline, plan.smallest
    is_between = architecture.blocks not in (full.blocks, least.blocks)
    for training, shapes in trace.outputs.items():
        if training and (
            architecture == full or architecture.widths not in (full.widths, least.widths)
        ):
            continue  # the extremes say enough of what only runs in training
        if not training and is_between and True in trace.outputs:
            continue  # train mode runs all that eval mode does, and what holds two blocks alike
        batch = BATCH if training else trace.batch
        watch = meta.ModuleWatch(rescaled.train(training))
        if (fault := _forward(rescaled, plan, batch, watch, shapes)) is not None:
            watch = meta.ModuleWatch(rescaled, names_makers=True)
            return _forward(rescaled, plan, batch, watch, shapes) or fault
        if not training and (fault := _miscounted(plan, architecture, watch.macs, batch)):
            return fault
        if not training and architecture.blocks == full.blocks:
            _compare_operations(trace, watch.operations, is_full=architecture == full)
    return None


def _compare_operations(
    trace: Trace, operations: Counter[tuple[str, str]], *, is_full: bool
) -> None:
    """Note the modules of a network that run other operations than those of full size do."""
    computing = Counter({key: n for key, n in operations.items() if key[1] not in dispatch.MOVING})
    if is_full:
        trace.operations = computing
    for path, name in (computing - trace.operations) + (trace.operations - computing):
        trace.width_dependent.setdefault(path, name)


def _forward(
    rescaled: nn.Module,
    plan: Plan,
    batch: int,
    watch: meta.ModuleWatch,
    shapes: Shapes | None = None,
) -> Fault | None:
    """Run a network once, and compare what it puts out with the seed network's shapes, if given."""
    args, kwargs = plan.inputs.make(batch, device="meta")
    try:
        with meta.undrawn(), torch.inference_mode(False), torch.no_grad(), watch:
            output = rescaled(*args, **kwargs)
    except Exception as error:  # whatever foreign code raises says that it does not fit
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        is_clear = watch.failed or not watch.path
        return Fault(watch.path, reason, watch.makers if is_clear else frozenset())
    outputs = nested.tensors(output)
    if shapes is None or nested.shapes(output) == shapes:
        return None
    pairs = zip(outputs, shapes, strict=False)
    wrong = next((pair for pair in pairs if tuple(pair[0].shape) != pair[1]), None)
    if wrong is None:
        return Fault("", f"it puts out {len(outputs)} tensors and not {len(shapes)}")
    reason = f"it puts out the shape {tuple(wrong[0].shape)} and not {wrong[1]}"
    return Fault("", reason, watch.made_by(wrong[0]))


def _miscounted(
    plan: Plan, architecture: Architecture, counted: Mapping[str, int], batch: int
) -> Fault | None:
    planned: dict[str, int] = {}
    for gemm in cost.gemms(plan, architecture):
        planned[gemm.path] = planned.get(gemm.path, 0) + gemm.load * batch
    if sum(planned.values()) == sum(counted.values()):
        return None
    paths = dict.fromkeys((*counted, *planned))  # a layer that did not run is in the second alone
    path = next((p for p in paths if planned.get(p, 0) != counted.get(p, 0)), "")
    has, should = (counts.get(path, 0) // batch for counts in (counted, planned))
    return Fault(path, f"it has {has} MACs and not {should}")


def _check_values(network: nn.Module, plan: Plan) -> None:
    """Build the smallest network with data, and look at its first output.

    Raises:
        SsrError: if it is not finite, where the seed network's weights are.
    """
    state = [*network.parameters(), *network.buffers()]
    elements = sum(math.prod(tensor.shape) for tensor in plan.inputs.tensors)
    if any(tensor.is_meta for tensor in state) or elements > LARGEST_INPUT:
        return
    with meta.undrawn(), torch.inference_mode(False), torch.no_grad():
        rescaled = rescale.build(network, plan, plan.smallest, inherits=True)
        args, kwargs = plan.inputs.make(BATCH)
        try:
            output = rescaled.eval()(*args, **kwargs)
        except Exception as error:  # of anyone's code: it ran without data
            raise SsrError(
                f"{type(network).__name__} cannot be rescaled: its smallest network runs on shapes "
                f"and not on data ({cause(error)})."
            ) from error
        if not nested.is_finite(output):
            full = rescale.build(network, plan, plan.baseline, inherits=True).eval()
            if nested.is_finite(full(*args, **kwargs)):
                raise SsrError(
                    f"{type(network).__name__} cannot be rescaled: the first output of its "
                    "smallest network is not finite, and the network's own is."
                )


def _mend_integers(
    network: nn.Module, trace: Trace, plan: Plan, fault: Fault, tried: set[str]
) -> bool:
    """Mend what a module stores: tie the widths that one integer stands for, or leave it alone.

    An integer may equal a width by chance. Where leaving it alone does not help, it follows again.
    """
    if attributes.tie(network, trace, plan, fault.path):
        return True
    stored = {key for key in plan.attributes if key[0] == fault.path}
    attempt = f"integers of {fault.path}"
    is_plain = isinstance(network.get_submodule(fault.path), PLAIN)
    if stored and not is_plain and attempt not in tried:
        tried.add(attempt)
        trace.left_alone |= stored
        return True
    trace.left_alone -= {key for key in trace.left_alone if key[0] == fault.path}
    return False


def _freeze_for(network: nn.Module, trace: Trace, fault: Fault, tried: set[str]) -> None:
    """Freeze what a network stumbles over: where code of its own does, only what ran into it.

    Else that code, such as a `view` of a fixed number of channels, would freeze all that it holds.
    """
    # A layer that fails even so was given what it does not take.
    is_own_code = any(network.get_submodule(fault.path).children()) or fault.path in tried
    makers = sorted(maker for maker in fault.makers if f"after {maker}" not in tried)
    if is_own_code and makers:
        tried |= {f"after {maker}" for maker in makers}
        if _freeze_output(trace, makers, f"cannot be narrower ({fault.reason})"):
            return
    # The module that failed, its holder if that was tried, and so on.
    path = next((each for each in (fault.path, *holders_of(fault.path)) if each not in tried), "")
    tried.add(path)
    _freeze(trace, path, f"{path or 'the network'} cannot be narrower ({fault.reason})")


def _freeze_output(trace: Trace, makers: Sequence[str], reason: str) -> bool:
    """Freeze the channels that modules make; returns whether any of them were free."""
    fixed = {label for labels, _ in trace.ledger.frozen for label in labels.tolist()}
    were_free = False
    for product in (*trace.products, *trace.training_products):
        if product.path in makers and not fixed.issuperset(product.out.tolist()):
            trace.ledger.freeze(product.out, f"what {product.path} puts out {reason}")
            were_free = were_free or bool((product.out != FIXED).any())
    return were_free


def _freeze(trace: Trace, path: str, reason: str) -> None:
    """Freeze all channels that a module reads, makes, or puts out."""
    for call in trace.calls:
        if not path or is_inside(call.path, (path,)):
            for labels in (*call.in_labels, *call.out_labels):
                if labels is not None:
                    trace.ledger.freeze(labels, reason)
    for product in (*trace.products, *trace.training_products):
        if not path or is_inside(product.path, (path,)):
            trace.ledger.freeze(product.out, reason)
            trace.ledger.freeze(product.inp, reason)


def _kept(
    network: nn.Module, plan: Plan, trace: Trace, parts: Sequence[SegmentDraft]
) -> list[SegmentDraft]:
    """Keep the blocks of all segments without which the network does not run."""
    kept = []
    for part in parts:
        if not part.has_depth:
            kept.append(part)
            continue
        number = next(
            s for s, segment in enumerate(plan.segments) if part.blocks[-1] in segment.blocks
        )
        blocks = list(plan.baseline.blocks)
        blocks[number] = plan.segments[number].fewest
        alone = Architecture(tuple(blocks), plan.baseline.widths)
        fault = None if alone == plan.baseline else _run(network, plan, trace, alone)
        if fault is not None:
            trace.stays[part.name] = f"without some of them it fails ({fault.reason})"
            part = dataclasses.replace(part, least=len(part.blocks))
        kept.append(part)
    if kept == list(parts):
        return [dataclasses.replace(part, least=len(part.blocks)) for part in parts]
    return kept
