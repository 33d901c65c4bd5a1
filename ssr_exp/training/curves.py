"""The curves of a training in W&B, which may go away at any time and must not take it along."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from ssr_exp.errors import cause

log = logging.getLogger(__name__)


class Curves(WandbLogger):
    """Lightning's logger for an open W&B run; once W&B fails, it is told nothing any more.

    Args:
        run: the open run.
    """

    def __init__(self, run: Any) -> None:
        super().__init__(experiment=run)
        self._is_lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._tell(lambda: super(Curves, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        self._tell(lambda: super(Curves, self).log_hyperparams(params))

    def _tell(self, what: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            what()
        except Exception as error:  # of W&B's own process, or of the disk
            self._is_lost = True
            log.warning("W&B takes no curves any more (%s): training goes on", cause(error))
