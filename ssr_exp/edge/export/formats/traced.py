"""A network as `torch.export` sees it: what every format starts from."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ssr_exp.errors import SsrError, cause
from ssr_exp.outputs import tensors

ANY = 1 << 16  # images at once, where a runtime reserves nothing for them


def export(network: nn.Module, images: Tensor, *, max_batch: int = ANY) -> ExportedProgram:
    """Trace a network for any batch of 1 to `max_batch` images; for one only if that is 1.

    Args:
        network: in eval mode.
        images: two like those that it takes, `2 x c x h x w`; of one, torch.export assumes 1.
        max_batch: images at once.

    Raises:
        SsrError: if torch.export cannot trace it so.
    """
    dynamic = ({0: Dim("batch", min=1, max=max_batch)},) if max_batch > 1 else None
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            return torch.export.export(
                _Named(network), (images[:max_batch],), dynamic_shapes=dynamic
            )
    except Exception as error:
        raise SsrError(
            f"torch.export cannot trace the network for batches of 1 to {max_batch}: {cause(error)}"
        ) from error


class _Named(nn.Module):
    """Gives the argument the name of the files' input, `formats.INPUT`, and one output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output = next(tensors(self.network(image)))
        assert isinstance(output, Tensor)
        return output
