"""Networks that look at the values of their activations: a run without data cannot follow them."""

from __future__ import annotations

import re

from ssr_exp.errors import SsrError, cause

ASKED = re.compile(  # what PyTorch says when a tensor without data is asked for its values
    r"cannot be called on meta tensors|copy out of meta tensor|meta device type tensor to numpy"
    r"|register_meta function for torch\.nonzero|repeat_interleave a meta tensor"
    r"|aten::\w+: attempted to run this operator with Meta tensors|with unallocated storage"
)


def are_asked(error: Exception) -> bool:
    """Say whether a run on the meta device stopped because it was asked for values."""
    return ASKED.search(str(error)) is not None


def refusal(name: str, path: str, error: Exception) -> SsrError:
    """Say which module of a network decides by values, and what would help.

    Args:
        name: of the network.
        path: the module that was running; empty for the network itself.
        error: that its run ended with.
    """
    inside = f" in its module {path}" if path else ""
    said = cause(error).partition(". ")[0]
    return SsrError(
        f"{name} cannot be traced: it decides{inside} by the values of its activations ({said}), "
        "and all images must take the same way: replace the condition, for instance by torch.where."
    )
