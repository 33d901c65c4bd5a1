"""Files that run a network without this project: one module for each format.

Every file takes `image`, normalised images `b x c x h x w` in float32 (or, if that was asked for,
their pixels as bytes), and gives the one output that is judged (see `ssr_exp.outputs`), by the name
that `OutputKind` says; what a user of it must know (labels, what is done to an image file) is
inside.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export.formats.flat import FlatNetwork, Tensors
from ssr_exp.edge.export.output_kinds import LOGITS, OutputKind
from ssr_exp.edge.export.predict_runtimes import Call
from ssr_exp.errors import SsrError
from ssr_exp.outputs import tensors
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.inputs import IMAGE, InputTensor

NAMES = ("onnx", "executorch", "torch_export")

Batch = Tensor | Tensors
"""Images, or all inputs of a `FlatNetwork`."""

Model = Callable[[Any], Any]
"""Maps images, `b x c x h x w`, to outputs in float32, on the CPU; of a `FlatNetwork` a tuple of
tensors to a tuple of tensors."""


@dataclass(frozen=True)
class Order:
    """What is to be written."""

    network: nn.Module  # in eval mode, on the CPU
    about: saved.Description  # what it is
    # images at once that the file must take, where its runtime reserves memory for them; others
    # take any number
    max_batch: int = 8
    # images, `n x c x h x w`, to quantise by, to int8; None: float32
    calibration: Tensor | None = None
    takes_bytes: bool = False  # whether the file takes pixels as bytes, and normalises them inside
    # what is done to an image file; None: it is not known
    preprocessing: Preprocessing | None = None
    kind: OutputKind = LOGITS  # what it puts out

    def module(self) -> nn.Module:
        """Make what the file holds: the network, behind its normalisation if that is inside."""
        if not self.takes_bytes:
            return self.network
        return Normalising(self.network, self.about.mean, self.about.std).eval()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the file's inputs."""
        flat = self.network
        return flat.signature.names if isinstance(flat, FlatNetwork) else (IMAGE,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the file's outputs."""
        flat = self.network
        return flat.names if isinstance(flat, FlatNetwork) else (self.kind.name,)

    @property
    def batch_dims(self) -> tuple[int | None, ...] | None:
        """Where the batch is in each input; None: first, in the one that there is."""
        return self.network.batch_dims if isinstance(self.network, FlatNetwork) else None

    def images(self, count: int) -> Batch:
        """Make images of the shape and kind that the file takes, all black; or other inputs."""
        if isinstance(self.network, FlatNetwork):
            return self.network.draw(count)
        floats = (p.dtype for p in self.network.parameters() if p.is_floating_point())
        dtype = torch.uint8 if self.takes_bytes else next(floats, torch.float32)
        return torch.zeros(count, *self.about.input_shape, dtype=dtype)


class Normalising(nn.Module):
    """A network that takes pixels as bytes: `(pixel / 255 - mean) / std` is its first step."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        means, stds = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (mean, std))
        self.register_buffer("scale", (1 / (255 * stds)).float())
        self.register_buffer("shift", (-means / stds).float())

    def forward(self, image: Tensor) -> Tensor:
        """Map pixels, uint8 `b x c x h x w`, to the output that counts."""
        output = next(tensors(self.network(image.float() * self.scale + self.shift)))
        assert isinstance(output, Tensor)
        return output


def model(call: Call) -> Model:
    """Call a file with a tensor, for its one output, or with a tuple, for a tuple of all."""

    def run(batch: Batch) -> Batch:
        tensors = batch if isinstance(batch, tuple) else (batch,)
        found = call([tensor.contiguous().numpy() for tensor in tensors])
        outputs = tuple(map(torch.from_numpy, found))
        return outputs if isinstance(batch, tuple) else outputs[0]

    return run


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
    module = importlib.import_module(f"{__name__}.{name}")
    missing = [package for package in module.NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        raise SsrError(
            f"{name} takes the package {missing[0]}, which is not installed: type "
            f"pip install 'ssr_exp[{module.EXTRA}]'."
        )
    return cast(Format, module)


def metadata(order: Order) -> dict[str, object]:
    """Say what the user of a file must know, under the same keys in every format."""
    about = order.about
    how, kind = order.preprocessing, order.kind
    known: dict[str, object] = {"labels": list(about.classes)} if about.classes else {}
    taken = "uint8, pixels" if order.takes_bytes else "as the network's own training had it"
    if how is not None or about.moments is not None:
        taken = taken if order.takes_bytes else "float32, (pixel / 255 - mean) / std"
        known |= {"mean": list(about.mean), "std": list(about.std)}
    if how is not None:
        known["preprocessing"] = asdict(how)
    both = {"target_mean": about.target_mean, "target_std": about.target_std}
    targets = {key: list(values) for key, values in both.items() if values is not None}
    if isinstance(order.network, FlatNetwork):
        flat = order.network.signature
        return {
            "inputs": {tensor.name: _spelled(tensor) for tensor in flat.tensors},
            "outputs": list(order.outputs),
            "model": about.model.name,
            "network": about.network,
        }
    return {
        **known,
        "channels": about.input_shape[0],
        "size": list(about.input_shape[1:]),
        "input": f"{IMAGE}: batch x {' x '.join(map(str, about.input_shape))}, {taken}",
        "output": f"{kind.name}: {kind.shape.format(n=about.num_classes)}, {kind.meaning}",
        **targets,
        "model": about.model.name,
        "network": about.network,
    }


def _spelled(tensor: InputTensor) -> str:
    sizes = [*map(str, tensor.shape)]
    if tensor.batch_dim is not None:
        sizes.insert(tensor.batch_dim, "batch")
    return f"{' x '.join(sizes) or 'one number'}, {tensor.dtype}"
