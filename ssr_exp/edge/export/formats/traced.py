"""A network as `torch.export` sees it: what every format starts from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ssr_exp.edge.export.formats.flat import FlatNetwork, Tensors
from ssr_exp.errors import SsrError, cause
from ssr_exp.outputs import tensors

ANY = 1 << 16  # images at once, where a runtime reserves nothing for them


def export(
    network: nn.Module,
    images: Tensor | Tensors,
    *,
    max_batch: int = ANY,
    dims: Sequence[int | None] | None = None,
) -> ExportedProgram:
    """Trace a network for any batch of 1 to `max_batch` images; for one only if that is 1.

    Args:
        network: in eval mode.
        images: two like those that it takes, `2 x c x h x w`; of one, torch.export assumes 1. Of a
            `FlatNetwork` its tensors.
        max_batch: images at once.
        dims: where the batch is in each tensor; None: first in the one that there is.

    Raises:
        SsrError: if torch.export cannot trace it so.
    """
    if isinstance(network, FlatNetwork):
        dims = network.batch_dims
    called: nn.Module = network if isinstance(images, tuple) else _Named(network)
    args = images if isinstance(images, tuple) else (images[:max_batch],)
    dynamic: Any = None
    if max_batch > 1:
        places = (0,) if dims is None else dims
        batch = Dim("batch", min=1, max=max_batch)
        dynamic = tuple({} if dim is None else {dim: batch} for dim in places)
    if isinstance(network, FlatNetwork):  # its tensors are one argument
        args = network.draw(1) if max_batch == 1 else args
        dynamic = dynamic and (dynamic,)
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            return torch.export.export(called, args, dynamic_shapes=dynamic)
    except Exception as error:
        raise SsrError(
            f"torch.export cannot trace the network for batches of 1 to {max_batch}: {cause(error)}"
        ) from error


class _Named(nn.Module):
    """Gives the argument the name of the files' input, `inputs.IMAGE`, and one output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output = next(tensors(self.network(image)))
        assert isinstance(output, Tensor)
        return output
