"""Several processes that train one network together: the first one asks, for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from ssr_exp.errors import SsrError


def rank() -> int:
    """Return this process's number; 0 where it trains alone.

    Raises:
        SsrError: if it is one of several that do not know each other yet.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    number = os.environ.get("RANK", os.environ.get("LOCAL_RANK"))  # the latter by Lightning
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and number is not None:
        raise SsrError(
            f"this is process {number} of {os.environ['WORLD_SIZE']} (RANK or LOCAL_RANK, "
            "WORLD_SIZE), and they have no process group: start them by torchrun, and call "
            "torch.distributed.init_process_group before you make the Study, so that all train the "
            "same network. A Trainer of Lightning that starts them itself takes devices=1."
        )
    return 0


def shared(work: Callable[[], Any]) -> Any:
    """Do something in the first process alone, and return in all what it returned.

    Args:
        work: returns what can be pickled.

    Raises:
        SsrError: in all processes, if it raised one in the first.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        rank()
        return work()
    said: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            said = [(True, work())]
        except SsrError as error:
            said = [(False, str(error))]
        except BaseException as error:
            dist.broadcast_object_list([(False, f"the first process failed: {error!r}")], src=0)
            raise
    dist.broadcast_object_list(said, src=0)
    is_fine, value = said[0]
    if not is_fine:
        raise SsrError(value)
    return value
