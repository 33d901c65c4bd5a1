"""The weights of a run, which lie beside its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssr_exp import archives
from ssr_exp.errors import SsrError
from ssr_exp.runs.store import FILE

LAST, BEST = "last.ckpt", "best.ckpt"


def network_weights(path: Path) -> dict[str, Tensor]:
    """Read the network's own `state_dict`, on the CPU, from a checkpoint.

    With averaged weights these are the averages, which are what `val` measured.

    Raises:
        SsrError: the file is missing, damaged or no checkpoint of a training.
    """
    try:
        archives.check(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        if not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items()):
            raise TypeError("it holds no state dict")
    except Exception as error:
        reason = str(error).partition("\n")[0]
        remedy = "name another one"
        if (path.parent / FILE).exists():
            remedy = f"remove {path.parent}, and repeat the command to train that network again"
        raise SsrError(f"{path} is not a readable checkpoint ({reason}): {remedy}") from error
    return {name.removeprefix("network."): value for name, value in state.items()}
