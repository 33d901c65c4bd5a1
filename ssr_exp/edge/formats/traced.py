"""A network as `torch.export` sees it: what every format starts from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ssr_exp.errors import SsrError, cause

ANY = 1 << 16  # images at once, where a runtime reserves nothing for them


def export(
    network: nn.Module, input_shape: Sequence[int], *, max_batch: int = ANY
) -> ExportedProgram:
    """Trace a network for any batch of 1 to `max_batch` images; for one only if that is 1.

    It must be in eval mode.

    Raises:
        SsrError: if torch.export cannot trace it so.
    """
    dynamic = ({0: Dim("batch", min=1, max=max_batch)},) if max_batch > 1 else None
    images = torch.zeros(min(max_batch, 2), *input_shape)  # 2: of one image, torch.export assumes 1
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(_Named(network), (images,), dynamic_shapes=dynamic)
    except Exception as error:
        raise SsrError(
            f"torch.export cannot trace the network for batches of 1 to {max_batch}: {cause(error)}"
        ) from error


class _Named(nn.Module):
    """Gives the argument the name of the files' input, `formats.INPUT`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = self.network(image)
        assert isinstance(logits, Tensor)
        return logits
