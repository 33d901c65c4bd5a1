"""What each operation does to labels: one small rule for each kind of operation.

A new family of networks needs a rule here when it uses an operation that no rule knows; until
then the channels that meet it are frozen at full size, and named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ssr_exp.rescaling.labels import (
    BATCH,
    FIXED,
    FOLLOWS_OUTPUT,
    Vector,
    along,
    fixed_like,
    shrink,
    spread,
    varying,
)

if TYPE_CHECKING:
    from ssr_exp.rescaling.trace import Leaf, Tracer

Rule = Callable[["Tracer", Any, Sequence[Any], dict[str, Any], Any], None]

MOVES = """view _unsafe_view reshape permute transpose t unsqueeze squeeze expand slice select split
split_with_sizes unbind cat stack flip roll pixel_shuffle pixel_unshuffle repeat channel_shuffle
alias detach clone contiguous unfold narrow movedim index_select""".split()
SAME = """dropout native_dropout alpha_dropout feature_dropout _to_copy lift_fresh _softmax
_log_softmax""".split()
SPATIAL = """max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d
adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
_upsample_nearest_exact2d reflection_pad2d replication_pad2d""".split()
REDUCTIONS = "mean sum amax amin max min var var_mean std std_mean argmax prod".split()
NORMS = """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
cudnn_batch_norm _batch_norm_no_update""".split()
MAKERS = """empty zeros ones full arange rand randn scalar_tensor empty_like zeros_like
ones_like full_like rand_like randn_like new_empty new_zeros new_ones new_full empty_strided
bernoulli""".split()


def find(func: Any) -> Rule:
    """Choose the rule of an operation by its name, else by what PyTorch says of it."""
    name = func.overloadpacket.__name__
    if name in RULES:
        return RULES[name]
    return _pointwise if torch.Tag.pointwise in func.tags else _unknown


def _tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _pointwise(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Elements that meet belong together: tie their channels."""
    inputs = [x for x in _tensors(args, kwargs) if x.ndim]
    if any(source[0].is_weight for x in inputs if (source := tracer.origin(x))):
        return _unknown(tracer, func, args, kwargs, out)
    merged = None
    for x in inputs:
        labels = tracer.labels(x)
        merged = labels if merged is None else _merge(tracer, func, merged, labels)
    for x in _tensors(out):
        tracer.label(x, fixed_like(x) if merged is None else merged.expand(x.shape))


def _merge(tracer: Tracer, func: Any, one: Tensor, other: Tensor) -> Tensor:
    """Broadcast two label tensors, tie what meets, and keep the label that is there."""
    if _stretches(one, other) != _stretches(other, one):
        return one if _stretches(one, other) else other
    for mine, theirs in ((one, other), (other, one)):
        _freeze_on_fixed(tracer, func, mine, theirs)
    one, other = (shrink(labels) for labels in torch.broadcast_tensors(one, other))
    shape = torch.broadcast_shapes(one.shape, other.shape)
    one, other = (labels.expand(shape) for labels in (one, other))
    both = (one != FIXED) & (other != FIXED) & (one != other)
    if bool(both.any()):
        tracer.trace.ledger.ties.append((one[both].numpy(), other[both].numpy()))
    return torch.where(one == FIXED, other, one)


def _stretches(mine: Tensor, theirs: Tensor) -> bool:
    """Say whether `theirs` is repeated along all of `mine`'s channels: it fits any number."""
    dims = [dim - mine.ndim + theirs.ndim for dim in varying(mine)]
    return bool(dims) and all(dim < 0 or theirs.shape[dim] == 1 for dim in dims)


def _freeze_on_fixed(tracer: Tracer, func: Any, mine: Tensor, theirs: Tensor) -> None:
    """Freeze channels that meet elements of fixed number; a broadcast from size 1 fits any."""
    for dim in varying(mine):
        theirs_dim = dim - mine.ndim + theirs.ndim
        if theirs_dim >= 0 and theirs.shape[theirs_dim] > 1:
            reason = f"{_where(tracer)} meets a tensor of fixed size in {_name(func)}"
            met, fixed = torch.broadcast_tensors(shrink(mine), shrink(theirs) == FIXED)
            tracer.trace.ledger.freeze(met[fixed].numpy(), reason)


def _move(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Data movement: do to the labels what was done to the data."""
    source = tracer.origin(args[0]) if isinstance(args[0], Tensor) else None
    if source is not None and _name(func) in REORDERS:
        _reorder(tracer, func, args, kwargs, out)
    if source is not None and source[0].is_weight:
        return None if _name(func) in REORDERS else _unknown(tracer, func, args, kwargs, out)
    if _name(func) in ("slice", "split", "split_with_sizes"):
        _divide(tracer, func, args[0], _tensors(out))
    inputs = tree_map(lambda x: tracer.labels(x) if isinstance(x, Tensor) else x, (args, kwargs))
    moved = _on_labels(func, *inputs)
    for x, labels in zip(_tensors(out), _tensors(moved), strict=True):
        tracer.label(x, labels)


def _divide(tracer: Tracer, func: Any, x: Tensor, out: Sequence[Tensor]) -> None:
    """Keep equal parts of the channels equal; freeze what is cut at numbers of channels."""
    labels, ledger = tracer.labels(x), tracer.trace.ledger
    for dim in varying(labels):
        sizes = {part.shape[dim] for part in out}
        whole = along(labels, dim)
        if sizes == {x.shape[dim]}:
            continue
        if _name(func) == "split" and len(sizes) == 1 and whole is not None:
            ledger.splits.append(np.split(whole, len(out)))
            ledger.multiples.append((whole, len(out)))
        else:
            reason = f"{_where(tracer)} takes a slice of the channels"
            ledger.freeze(shrink(labels).reshape(-1).numpy(), reason)


def _on_labels(func: Any, args: Any, kwargs: Any) -> Any:
    if _name(func) in ("view", "_unsafe_view"):
        return args[0].reshape(args[1])
    if _name(func) in ("clone", "contiguous"):
        return args[0]
    return func(*args, **kwargs)


def _reorder(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Follow a weight through a permutation of its dimensions."""
    leaf, order = tracer.origin(args[0])  # type: ignore[misc]
    probe = torch.empty([2 + dim for dim in order], device="meta")
    tracer.derive(out, leaf, tuple(size - 2 for size in func(probe, *args[1:], **kwargs).shape))


REORDERS = ("t", "transpose", "permute", "alias", "detach", "clone", "contiguous")


def _same(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    for x in _tensors(out):
        tracer.label(x, tracer.labels(args[0]).expand(x.shape))


def _spatial(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Pooling, up-sampling, padding of space: channels pass."""
    channels = along(tracer.labels(args[0]), args[0].ndim - 3)
    if channels is None:
        return _unknown(tracer, func, args, kwargs, out)
    for x in _tensors(out):
        tracer.label(x, spread(channels, x.shape, x.ndim - 3))


def _reduce(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Keep the labels that are constant over what is summed up, drop the others."""
    labels = tracer.labels(args[0])
    dims = args[1] if len(args) > 1 and args[1] is not None else kwargs.get("dim")
    dims = range(labels.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {dim % labels.ndim for dim in dims} if labels.ndim else set()
    if gone & set(varying(labels)):
        labels = fixed_like(args[0])
    for x in _tensors(out):
        kept = labels
        for dim in sorted(gone, reverse=True):
            kept = kept.narrow(dim, 0, 1) if x.ndim == labels.ndim else kept.select(dim, 0)
        tracer.label(x, kept.expand(x.shape))


def _norm(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Batch norm: its parameters and statistics have one entry for each channel."""
    x, *parameters = args[:5]
    channels = along(tracer.labels(x), 1)
    if channels is None:
        return _unknown(tracer, func, args, kwargs, out)
    for parameter in _tensors(parameters):
        _fit(tracer, parameter, channels)
    tracer.label(_tensors(out)[0], tracer.labels(x))


def _fit(tracer: Tracer, parameter: Tensor, channels: Vector) -> None:
    labels = tracer.labels(parameter).reshape(-1).numpy()
    tracer.trace.ledger.tie(labels, channels, reason=f"{_where(tracer)} normalises fixed channels")


def _convolution(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Make new channels; remember which ones were read."""
    x, weight, bias, *_, transposed, _, groups = args
    source, channels = tracer.origin(weight), along(tracer.labels(x), 1)
    kernel = int(np.prod(weight.shape[2:]))
    if source is None or channels is None or transposed:
        positions = (x if transposed else out)[0, 0].numel()
        _fixed_product(tracer, positions, out.shape[1], x.shape[1], kernel, groups)
        return _unknown(tracer, func, args, kwargs, out)
    labels = _product(tracer, source[0], channels, out.shape[1], kernel, groups, out)
    tracer.label(out, spread(labels, out.shape, 1))
    if bias is not None:
        _fit(tracer, bias, labels)


def _linear(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Matrix products whose second factor is a weight: `addmm`, `mm`."""
    bias, x, weight = (None, *args) if len(args) == 2 else args[:3]
    source, channels = tracer.origin(weight), along(tracer.labels(x), 1)
    if source is None or channels is None or source[1] != (1, 0):
        _fixed_product(tracer, out.shape[0] // BATCH, weight.shape[1], weight.shape[0], 1, 1)
        return _unknown(tracer, func, args, kwargs, out)
    labels = _product(tracer, source[0], channels, out.shape[1], 1, 1, out)
    tracer.label(out, spread(labels, out.shape, 1))
    if bias is not None:
        _fit(tracer, bias, labels)


def _batched(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Products of activations (attention): counted, and their channels frozen."""
    one, other = args[-2:]
    count, n, k = len(out) // BATCH, other.shape[2], one.shape[2]
    _fixed_product(tracer, one.shape[1], n * count, k * count, 1, count)
    _unknown(tracer, func, args, kwargs, out)


def _fixed_product(
    tracer: Tracer, positions: int, n: int, k: int, kernel: int, groups: int
) -> None:
    """Count a product whose channels are frozen."""
    from ssr_exp.rescaling.trace import Product

    out, inp = (np.full(size, FIXED, dtype=np.int64) for size in (n, k))
    product = Product(_where(tracer), positions, out, inp, kernel, groups, narrow=False)
    tracer.trace.products.append(product)


def _product(
    tracer: Tracer, leaf: Leaf, inp: Vector, size: int, kernel: int, groups: int, out: Tensor
) -> Vector:
    from ssr_exp.rescaling.trace import Product

    ledger = tracer.trace.ledger
    labels = ledger.produce(size, _where(tracer))
    narrow = _is_narrow(len(inp) // groups, size // groups, groups)
    if narrow:
        repeat = size // len(inp)
        ledger.tie(labels, np.repeat(inp, repeat), reason=f"{_where(tracer)} groups fixed channels")
        ledger.multiples.append((inp, len(inp) // groups))
    elif groups > 1:
        ledger.multiples += [(labels, groups), (inp, groups)]
    _claim(tracer, leaf, labels, None if narrow else inp)
    positions = out.numel() // size // BATCH
    product = Product(_where(tracer), positions, labels, inp, kernel, groups, narrow)
    tracer.trace.products.append(product)
    return labels


def _is_narrow(in_width: int, out_width: int, groups: int) -> bool:
    """Say whether a grouped convolution keeps its groups' width: many and narrow, or depthwise."""
    return groups > 1 and (in_width == 1 or (in_width == out_width and in_width <= groups))


def _claim(tracer: Tracer, leaf: Leaf, out: Vector, inp: Vector | None) -> None:
    """Label a weight's dimensions; a weight that is used twice ties both uses."""
    for dim, labels in ((0, out), (1, inp)):
        known = leaf.dims[dim]
        if known is not None and labels is not None:
            tracer.trace.ledger.tie(known, labels, reason=f"{leaf.name} is shared")
        elif labels is not None:
            leaf.dims[dim] = labels


def _pad(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Padding of space passes channels; padding of channels adds fixed ones.

    A module that says how many channels it puts out pads to fit, so its output is tied to nothing.
    """
    x, padding = args[0], args[1]
    labels = tracer.labels(x)
    padded = {x.ndim - 1 - k // 2 for k, amount in enumerate(padding) if amount}
    channels = varying(labels)
    if padded & set(channels) and not _pads_to_fit(tracer, out.shape[channels[0]]):
        tracer.label(out, torch.nn.functional.pad(labels, padding, value=FIXED))
    elif padded & set(channels) and len(channels) == 1:
        fresh = tracer.trace.ledger.produce(out.shape[channels[0]], _where(tracer))
        tracer.label(out, spread(fresh, out.shape, channels[0]))
    elif len(channels) == 1:
        vector = along(labels, channels[0])
        assert vector is not None
        tracer.label(out, spread(vector, out.shape, channels[0]))
    else:
        tracer.label(out, fixed_like(out))


def _pads_to_fit(tracer: Tracer, size: int) -> bool:
    module = tracer.modules[_where(tracer)]
    return any(vars(module).get(name) == size for name in FOLLOWS_OUTPUT)


def _nothing(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Constants belong to no channel."""


def _unknown(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Freeze what goes in, and call what comes out fixed."""
    reason = f"{_where(tracer)} uses {_name(func)}, which is not understood"
    for x in _tensors(args, kwargs):
        tracer.trace.ledger.freeze(shrink(tracer.labels(x)).reshape(-1).numpy(), reason)
    for x in _tensors(out):
        tracer.label(x, fixed_like(x))


def _name(func: Any) -> str:
    return str(func.overloadpacket.__name__)


def _where(tracer: Tracer) -> str:
    return tracer.scope[-1]


RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(NORMS, _norm),
    **dict.fromkeys(MAKERS, _nothing),
    "convolution": _convolution,
    "addmm": _linear,
    "mm": _linear,
    "bmm": _batched,
    "baddbmm": _batched,
    "constant_pad_nd": _pad,
}
