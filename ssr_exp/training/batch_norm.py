"""Batch norm of several devices: each has the statistics of its own rows, or of the whole batch."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssr_exp.config import Balance, Config, TaskKind
from ssr_exp.errors import SsrError

CONVERTED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def depends_on_devices(conf: Config, network: nn.Module) -> bool:
    """Say whether a training's result depends on how many devices share a batch.

    It does where something of a batch is no mean over its images: statistics that are not those of
    all devices, a loss that is divided by what the batch holds, or what a module of the user's own
    makes of it.
    """
    if conf.trainer.devices == 1:
        return False
    is_weighted = conf.task.balance is Balance.weights and conf.task.name is not TaskKind.multilabel
    by_batch = conf.task.name in (TaskKind.module, TaskKind.segmentation) or is_weighted
    is_own = conf.dataset.target is not None  # each device takes batches of the loader's size
    return is_own or by_batch or (not conf.trainer.sync_batch_norm and bool(kinds(network)))


def check(conf: Config, network: nn.Module) -> None:
    """Refuse to synchronise layers that PyTorch would replace by ones that do less.

    Raises:
        SsrError: names them.
    """
    odd = sorted(kind.__name__ for kind in kinds(network) - set(CONVERTED))
    if odd and conf.trainer.devices > 1 and conf.trainer.sync_batch_norm:
        raise SsrError(
            f"trainer.sync_batch_norm=true would replace {', '.join(odd)} by PyTorch's "
            "SyncBatchNorm, which is not the same: type trainer.sync_batch_norm=false."
        )


def kinds(network: nn.Module) -> set[type[nn.Module]]:
    """List the classes of batch norm in a network."""
    return {type(module) for module in network.modules() if isinstance(module, _BatchNorm)}
