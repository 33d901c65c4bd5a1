"""What all rules of a trace share: what an operation takes, where it runs, and giving up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from ssr_exp.rescaling import meta
from ssr_exp.rescaling.tracing.labels import fixed_like, shrink

if TYPE_CHECKING:  # the tracer runs the rules
    from ssr_exp.rescaling.tracing.tracer import Tracer as Tracer
else:
    Tracer = Any

LOOKUPS = """embedding index index_select gather index_put _unsafe_index copy_ mv scatter
take""".split()
FAMILIES = ("_fft_", "linalg_", "_linalg_", "_cdist", "_thnn_", "mkldnn_", "quantized_")


def unknown(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Freeze what goes in, call what comes out fixed; name products that are not counted."""
    reason = f"{tracer.named} uses {name(func)}, which is not understood"
    for x in tensors(args, kwargs):
        tracer.ledger.freeze(shrink(tracer.labels(x)).reshape(-1).numpy(), reason)
    for x in tensors(out):
        tracer.label(x, fixed_like(x))
    if not tracer.training and _multiplies(tracer, func, tensors(args, kwargs)):
        tracer.trace.uncounted[name(func)].add(tracer.path)


def _multiplies(tracer: Tracer, func: Any, inputs: list[Tensor]) -> bool:
    """Say whether an operation is a matrix product that is not counted: of a weight, or known."""
    if name(func) == "deform_conv2d":
        return False  # named by its rule
    if func.overloadpacket in flop_registry or all(map(tracer.is_parametric, inputs)):
        return False
    if name(func).startswith(FAMILIES):
        return True
    has_weight = any((o := tracer.origin(x)) is not None and o.leaf.is_weight for x in inputs)
    return has_weight and name(func) not in LOOKUPS and torch.Tag.pointwise not in func.tags


def tensors(*values: Any) -> list[Tensor]:
    """List the tensors in nested arguments or results."""
    return meta.tensors(values)


def name(func: Any) -> str:
    """Name an operation without its overload."""
    return str(func.overloadpacket.__name__)
