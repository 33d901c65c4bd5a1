"""Which of a network's outputs counts, where it puts out several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def tensors(outputs: Any) -> Iterator[Any]:
    """List the tensors that a network puts out, the one that is judged first.

    It is the first one; of a dictionary, such as torchvision's segmentation networks return, `out`.
    What is no tensor is left out.
    """
    if hasattr(outputs, "shape"):
        yield outputs
    elif isinstance(outputs, Mapping):
        first = [outputs["out"]] if "out" in outputs else []
        yield from tensors([*first, *(v for key, v in outputs.items() if key != "out")])
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for one in outputs:
            yield from tensors(one)
