"""A seed network whose trainings meet an accident, by the width of their first layer.

A file in the folder `$TRAPS` says which: `raise-8`, `kill-8`, `hang-8`, `slow-8`. All but `raise`
happen once, and all in the second epoch, so that there is a checkpoint to go on from.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from ssr_exp.rescaling.resnet import CifarResNet

STEPS = 14  # more than an epoch of digits has, fewer than two


class Net(CifarResNet):
    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__(8, num_classes=num_classes, in_channels=in_channels)
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type == "cpu" and torch.is_grad_enabled():
            self.steps += 1
            if self.steps > STEPS:
                _spring(self.conv.weight.shape[0])
        return super().forward(x)


def _spring(width: int) -> None:
    folder = Path(os.environ.get("TRAPS", "/nowhere"))
    if (folder / f"raise-{width}").exists():
        raise ValueError("it was a trap")
    for name in ("kill", "hang", "slow"):
        try:
            (folder / f"{name}-{width}").unlink()
        except FileNotFoundError:
            continue
        if name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600 if name == "hang" else 20)
