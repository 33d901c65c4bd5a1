"""Files that run a network without this project: one module for each format.

Every file takes `image`, normalised images `b x c x h x w` in float32, and gives `logits`,
`b x num_classes`; what a user of it must know (labels, mean, standard deviation, size) is inside.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved

INPUT, OUTPUT = "image", "logits"
NAMES = ("onnx", "executorch", "torch_export")

Model = Callable[[Tensor], Tensor]
"""Maps normalised images, `b x c x h x w`, to logits, `b x num_classes`; float32, on the CPU."""


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Args:
        network: in eval mode, on the CPU.
        about: what it is.
        max_batch: images at once that the file must take, where its runtime reserves memory for
            them; others take any number.
        calibration: normalised images, `n x c x h x w`, to quantise by, to int8; None: float32.
    """

    network: nn.Module
    about: saved.Description
    max_batch: int = 8
    calibration: Tensor | None = None


class Format(Protocol):
    """What each module of this package has."""

    SUFFIX: str
    EXTRA: str | None
    NEEDS: Sequence[str]
    QUANTISES: bool

    def write(self, order: Order, path: Path) -> tuple[str, ...]:
        """Write a file; returns what its user should know of it, a sentence each.

        Raises:
            SsrError: if the runtime lacks an operator of the network.
        """

    def load(self, path: Path, *, threads: int) -> Model:
        """Load a file into its runtime, on the CPU."""

    def version(self) -> str:
        """Name the runtime and its version."""


def find(name: str) -> Format:
    """Find a format by its name.

    Raises:
        SsrError: if there is none, or what it takes is not installed.
    """
    if name not in NAMES:
        raise SsrError(f"format={name} is none; it can be {', '.join(NAMES)}.")
    found = importlib.import_module(f"{__name__}.{name}")
    missing = [package for package in found.NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        raise SsrError(
            f"{name} takes the package {missing[0]}, which is not installed: type "
            f"pip install 'ssr_exp[{found.EXTRA}]'."
        )
    return cast(Format, found)


def metadata(about: saved.Description) -> dict[str, object]:
    """Say what the user of a file must know, under the same keys in every format."""
    channels, height, width = about.input_shape
    return {
        "labels": list(about.classes),
        "mean": list(about.mean),
        "std": list(about.std),
        "channels": channels,
        "size": [height, width],
        "input": f"{INPUT}: batch x {channels} x {height} x {width}, float32, (pixel / 255 - mean) "
        "/ std",
        "output": f"{OUTPUT}: batch x {about.num_classes}, float32, one for each label",
        "model": about.model.name,
        "network": about.network,
    }
