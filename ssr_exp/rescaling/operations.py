"""What all rules of a trace share: what an operation takes, where it runs, and giving up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from ssr_exp.rescaling.labels import fixed_like, shrink

if TYPE_CHECKING:
    from ssr_exp.rescaling.trace import Tracer


def unknown(tracer: Tracer, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Freeze what goes in, and call what comes out fixed."""
    reason = f"{where(tracer)} uses {name(func)}, which is not understood"
    for x in tensors(args, kwargs):
        tracer.trace.ledger.freeze(shrink(tracer.labels(x)).reshape(-1).numpy(), reason)
    for x in tensors(out):
        tracer.label(x, fixed_like(x))


def tensors(*values: Any) -> list[Tensor]:
    """List the tensors in nested arguments or results."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def name(func: Any) -> str:
    """Name an operation without its overload."""
    return str(func.overloadpacket.__name__)


def where(tracer: Tracer) -> str:
    """Name the module that is running."""
    return tracer.scope[-1]
