"""A network of any signature as files have it: tensors go in and come out, in order, with names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.outputs import named
from ssr_exp.rescaling import input_examples
from ssr_exp.rescaling.inputs import Signature

Tensors = tuple[Tensor, ...]


class FlatNetwork(nn.Module):
    """Takes the tensors of a signature, and puts out a tuple of tensors.

    Args:
        network: in eval mode.
        signature: what it is called with.

    Attributes:
        names: of the outputs: keys of dictionaries, fields of named tuples and dataclasses; else
            `output`, `output_1` and so on. None is the name of an input.

    Raises:
        SsrError: if it puts out no tensor.
    """

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.network, self.signature = network, signature
        names = [name for name, _ in named(input_examples.outputs(network, signature, 2))]
        if not names:
            raise SsrError(f"{type(network).__name__} puts out no tensor that a file could give.")
        taken = {*signature.names}
        for number in range(len(names)):
            while names[number] in taken:
                names[number] = f"{names[number]}_out"
            taken.add(names[number])
        self.names = tuple(names)

    def forward(self, *tensors: Tensor) -> Tensors:
        """Call the network."""
        args, kwargs = self.signature.filled(tensors)
        return tuple(tensor for _, tensor in named(self.network(*args, **kwargs)))

    @property
    def batch_dims(self) -> tuple[int | None, ...]:
        """Where the batch is in each input."""
        return tuple(tensor.batch_dim for tensor in self.signature.tensors)

    def draw(self, batch: int, *, seed: int = 0) -> Tensors:
        """Draw inputs, always the same ones for a seed."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            tensor.make(batch, device="cpu", generator=generator)
            for tensor in self.signature.tensors
        )
