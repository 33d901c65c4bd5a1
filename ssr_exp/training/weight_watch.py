"""Which weights validation scores, in a module of the user's own: those that training leaves?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)


class WeightWatch(Callback):
    """Compares the weights of networks before a training, and around its first validation.

    It stands before callbacks that average weights.

    Args:
        networks: by the attribute of the module; the network first.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self._networks = networks
        self._made = {name: _weights(network) for name, network in networks.items()}
        self._left: dict[str, list[Tensor]] = {}
        self._hooks: list[Any] = []
        self._seen: dict[str, set[bool]] = {}  # whether calls were with the weights that were left
        self._swapped: list[str] = []
        self._changed: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        made = self._made.items()
        self._changed = [name for name, old in made if _differ(self._networks[name], old)]
        self._made.clear()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(one, WeightAveraging) for one in own):  # whose checkpoints hold them
            return
        for name, network in self._networks.items():
            self._left[name] = _weights(network)
            self._hooks.append(network.register_forward_pre_hook(partial(self._look, name)))

    def _look(self, name: str, network: nn.Module, _: Any) -> None:
        self._seen.setdefault(name, set()).add(not _differ(network, self._left[name]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._settle()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._settle()

    def _settle(self) -> None:
        """Look, after a validation, whether what all its calls were with is gone again."""
        others = [name for name, seen in self._seen.items() if seen == {False}]
        self._swapped += [n for n in others if not _differ(self._networks[n], self._left[n])]
        self._seen.clear()
        self._left.clear()

    def check(self, name: str) -> None:
        """Refuse that validation scores weights that nothing keeps; warn of those of setup.

        Args:
            name: of the module.

        Raises:
            SsrError: says how an average is kept.
        """
        if self._swapped:
            raise SsrError(
                f"validation of {name} scores other weights of {self._swapped[0]} than training "
                "leaves, such as an average that a callback puts there meanwhile, and the last "
                "checkpoint would not have them there: type recipe.ema_decay=0.999 in its place, "
                "or hold the average as a network of its own and type 'task.copies=[NAME]'."
            )
        if self._changed:
            log.warning(
                "%s changes the weights of %s in setup or configure_model: where trained ones are "
                "loaded there, smaller networks get few of them or none; load them in __init__, "
                "and type init=inherit checkpoint=target.",
                name,
                self._changed[0],
            )


def _weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().cpu().clone() for parameter in network.parameters()]


def _differ(network: nn.Module, before: Sequence[Tensor]) -> bool:
    """Say whether weights are others than before, but for their precision."""
    now = [parameter.detach().cpu() for parameter in network.parameters()]
    pairs = zip(now, before, strict=False)
    return any(a.shape != b.shape or not torch.equal(a, b.to(a.dtype)) for a, b in pairs)
