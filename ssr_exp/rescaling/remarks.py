"""What a user should know of a plan: what no run reaches, what stays, what is not counted."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from torch import Tensor, fx, nn

from ssr_exp import terminal
from ssr_exp.rescaling import chosen_values, initialise
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.tracing.attributes import NOT_WIDTHS
from ssr_exp.rescaling.tracing.channel_groups import Form
from ssr_exp.rescaling.tracing.labels import FOLLOWS_INPUT, FOLLOWS_OUTPUT, PAIRS
from ssr_exp.rescaling.tracing.trace import Trace

LISTED = 4  # names in a sentence
LEAST_ROOT = 8  # widths whose root is a number that nobody would take otherwise
SCALES = re.compile("scale|gain|norm|temperature|sqrt|std")  # what multiplies is called


def unlearnt(network: nn.Module, traced: Trace) -> frozenset[str]:
    """Name the parameters that take part in a run and are not learnt."""
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    return frozenset(fixed & traced.reached)


def describe(network: nn.Module, traced: Trace, plan: Plan) -> Iterator[str]:
    """Write the remarks on a traced network, each a sentence without its full stop."""
    for segment in plan.segments:
        if segment.parts:
            yield f"merged (segment.at_most): {segment.name} is {_merged(segment.parts)}"
    if traced.untrained is not None:
        yield (
            f"it does not run in train mode on images alone ({traced.untrained}): what only runs "
            "in training was not looked at"
        )
    parameters = dict(network.named_parameters())
    if unreached := [name for name in parameters if name not in traced.reached]:
        yield (
            f"no run reaches {_listed(unreached)}: they stay as they are, and code that uses them "
            "may not fit a narrower network"
        )
    if fixed := unlearnt(network, traced):
        yield f"not learnt (requires_grad=False), and kept: {_listed(sorted(fixed))}"
    if patterned := sorted(_patterned(network, traced)):
        yield (
            f"of chosen or ordered values, and kept, cut where channels go: {_listed(patterned)}"
        )
    if marked := sorted(_marked(network, plan)):
        yield (
            f"not learnt, and other for each channel: {_listed(marked)}: of a mask, a table or "
            "shifts the first channels stay"
        )
    if scales := sorted(_made_of_a_width(network, traced, plan)):
        yield f"as large as the root of a width would make it, and kept: {_listed(scales)}"
    if counts := sorted(_equal_to_a_width(network, traced, plan)):
        yield (
            f"equal a width, and stay as they are: {_listed(counts)}: where one counts channels, "
            "let the forward read it off a tensor's shape"
        )
    for operation, paths in traced.uncounted.items():
        yield f"not counted in MACs: {operation} in {_listed(sorted(paths))}"
    for path, operation in traced.width_dependent.items():
        yield (
            f"{path or 'the network'} runs {operation} more or less often where it is narrower: "
            "its code looks at a width, and a narrower network may do what is not meant"
        )
    for holder, why in traced.stays.items():
        yield f"blocks in {holder or 'the network'} stay: {why}"
    if chosen := sorted(f"{path}.{name}".lstrip(".") for path, name in _chosen(network, plan)):
        yield f"follow a width, since they equal it: {_listed(chosen)}"
    for path, module in network.named_modules():
        if isinstance(module, fx.GraphModule):
            yield (
                f"blocks in {path or 'the network'} stay: it is an fx graph, which "
                "calls each layer by itself"
            )


def _chosen(network: nn.Module, plan: Plan) -> Iterator[tuple[str, str]]:
    """List the integers of modules of the user's own that follow a width and do not say so."""
    says = {*FOLLOWS_INPUT, *FOLLOWS_OUTPUT, *chain.from_iterable(PAIRS)}
    for (path, name), form in plan.attributes.items():
        module = network.get_submodule(path)
        if not any(one.parts for one in ((form,) if isinstance(form, Form) else form)):
            continue  # its channels are fixed
        if name not in says and not type(module).__module__.startswith("torch."):
            yield path, name


def _patterned(network: nn.Module, traced: Trace) -> Iterator[str]:
    for name in sorted(chosen_values.read(network).chosen):
        if network.get_parameter(name).requires_grad and name in traced.reached:
            yield name


def _marked(network: nn.Module, plan: Plan) -> Iterator[str]:
    """Name fixed tensors that are cut along a dimension on which they are not the same."""
    small = plan.sizes(plan.smallest)
    for path, module in network.named_modules():
        fixed = dict(module.named_buffers(recurse=False))
        if not chosen_values.draws(module):  # that a layer's weights do not learn is said already
            parameters = module.named_parameters(recurse=False)
            fixed |= {name: p for name, p in parameters if not p.requires_grad}
        for own_name, tensor in fixed.items():
            name = f"{path}.{own_name}".lstrip(".")
            leaf = None if initialise.renews(module, own_name) else plan.leaves.get(name)
            if leaf is None or tensor.is_meta or len(leaf.shape) != tensor.ndim:
                continue
            sizes = [int(form(small)) for form in leaf.shape]
            cut = [dim for dim in range(tensor.ndim) if sizes[dim] != tensor.shape[dim]]
            if any(bool((tensor != tensor.narrow(dim, 0, 1)).any()) for dim in cut):
                yield name


def _made_of_a_width(network: nn.Module, traced: Trace, plan: Plan) -> Iterator[str]:
    """Name numbers of the user's own modules that look like `(k / width) ** 0.5`, or its root.

    Such as a scale of weights by their fan-in; those of standardised weights follow, see `rescale`.
    """
    small, full = plan.sizes(plan.smallest), plan.full_sizes
    changed = [
        name
        for name, leaf in plan.leaves.items()
        if any(int(form(small)) != int(form(full)) for form in leaf.shape)
    ]
    seen = _widths_at(traced)
    for path, module in network.named_modules():
        follows = isinstance(getattr(module, "gain", None), Tensor)  # see `rescale`
        if type(module).__module__.startswith("torch.") or follows:
            continue
        if not any(name.startswith(f"{path}." if path else "") for name in changed):
            continue
        inside = (module, *module.children())  # a wrapper scales what a layer of its own holds
        weights = [p for one in inside for p in one.parameters(recurse=False) if p.ndim > 1]
        widths = seen.get(path, set()) | {p[0].numel() for p in weights}
        for name, value in vars(module).items():
            if not (isinstance(value, float) and value > 0 and SCALES.search(name)):
                continue
            square = value**2
            if any(math.isclose(square * n, k) for n in widths for k in (1, 2)) or (
                square >= LEAST_ROOT and any(math.isclose(square, n) for n in widths)
            ):
                yield f"{path}.{name}".lstrip(".")


def _equal_to_a_width(network: nn.Module, traced: Trace, plan: Plan) -> Iterator[str]:
    """Name integers that a forward of the user's own reads, and that equal a width that changes."""
    small, full = plan.sizes(plan.smallest), plan.full_sizes
    changed: dict[str, set[int]] = {}  # of each layer: its widths, and its fan-in
    kept: dict[str, set[int]] = {}
    for name, leaf in plan.leaves.items():
        shape, new = ([int(form(sizes)) for form in leaf.shape] for sizes in (full, small))
        pairs = [*zip(shape, new, strict=True), (math.prod(shape[1:]), math.prod(new[1:]))]
        for before, after in pairs:
            where = kept if before == after else changed
            where.setdefault(name.rpartition(".")[0], set()).add(before)
    all_changed = set().union(*changed.values())
    seen = _widths_at(traced)
    for path, module in network.named_modules():
        if type(module).__module__.startswith("torch."):
            continue
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        inside = (path, *(f"{path}.{name}".lstrip(".") for name, _ in module.named_children()))
        near = (seen.get(path, set()) & all_changed).union(*(changed.get(p, ()) for p in inside))
        near = near.difference(*(kept.get(p, ()) for p in inside))  # else it may be one of those
        for name, value in vars(module).items():
            is_read = code is not None and name in code.co_names and name not in NOT_WIDTHS
            if not is_read or (path, name) in {*plan.attributes, *traced.left_alone}:
                continue
            if isinstance(value, int) and not isinstance(value, bool) and value in near:
                yield f"{path}.{name}".lstrip(".")


def _widths_at(traced: Trace) -> dict[str, set[int]]:
    """Gather how many channels each module reads and puts out."""
    seen: dict[str, set[int]] = {}
    for call in traced.calls:
        ends = (*call.in_labels, *call.out_labels)
        seen.setdefault(call.path, set()).update(
            len(labels) for labels in ends if labels is not None
        )
    return seen


def _merged(parts: Sequence[tuple[str, int]]) -> str:
    """List the parts of a merged segment, and how alike they are."""
    if len({channels for _, channels in parts}) == 1:
        return f"{', '.join(name for name, _ in parts)}, each of {parts[0][1]} channels"
    rows = ", ".join(f"{name} ({channels})" for name, channels in parts)
    return f"{rows}: they differ in their channels, and keep the same share of them"


def _listed(paths: Iterable[str]) -> str:
    """List paths, the first few of many."""
    names = [name or "the network" for name in paths]
    return terminal.first_of(names, LISTED)
