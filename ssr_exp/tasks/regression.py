"""Numbers for each input: mean squared error, and its root in the targets' unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, R2Score

from ssr_exp.config import RecipeConf
from ssr_exp.outputs import tensors
from ssr_exp.runs.score import Direction, Score
from ssr_exp.tasks.supervised import PARTS, TRAIN, Supervised


class Regression(Supervised):
    """Train a network to predict numbers.

    The network's outputs are standardised: `mean + std * outputs` is a prediction in the targets'
    unit, and loss and learning rate do not depend on that unit. RMSE and MAE are in it.

    Args:
        network: maps `b x c x h x w` to `b x num_targets`, or `b` for one target.
        recipe: optimizer, schedule and loss.
        mean: of each target over the training images, `num_targets`.
        std: likewise the standard deviation, above 0.
        channels_last: memory format of the network's weights; the batches' must be the same.
        teacher: maps the same images to the same targets; see `Supervised`.
        teacher_moments: mean and standard deviation that the teacher's outputs are standardised
            by; None: they are not known, and taken for `mean` and `std`.
    """

    score = Score(key="val/rmse", direction=Direction.min, unit="", bounds=(0.0, None))
    mean: Tensor
    std: Tensor
    teacher_mean: Tensor
    teacher_std: Tensor

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConf,
        mean: Sequence[float],
        std: Sequence[float],
        channels_last: bool = False,
        teacher: nn.Module | None = None,
        teacher_moments: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        metrics = {part: _metrics(mean, std, part) for part in PARTS}
        super().__init__(network, recipe, metrics, channels_last=channels_last, teacher=teacher)
        theirs_mean, theirs_std = teacher_moments or (mean, std)
        moments = {"mean": mean, "std": std}
        moments |= {"teacher_mean": theirs_mean, "teacher_std": theirs_std}
        for name, values in moments.items():
            tensor = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Tensor) -> Any:
        """Predict in the targets' unit, `b x num_targets`; outputs of other shapes are left out."""
        first, *others = tensors(self.network(x))
        predicted = [first, *(one for one in others if one.shape == first.shape)]
        return [self.mean + self.std * _columns(one) for one in predicted]

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(outputs / self.std, _columns(y) / self.std)

    def measurable(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return outputs, _columns(y)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean squared difference; there is nothing to soften."""
        return self.loss(student, self.teacher_mean + self.teacher_std * _columns(teacher))


def _columns(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 1 else values


class StandardisedR2(R2Score):
    """R2, which depends on no unit, of standardised numbers: it sums squares in single precision.

    Args:
        mean: of each target, `num_targets`.
        std: likewise the standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(multioutput="uniform_average")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update((preds - self.mean) / self.std, (target - self.mean) / self.std)


class ScaledRMSE(MeanSquaredError):
    """RMSE, whose squares single precision holds in any unit.

    Args:
        std: of each target, `num_targets`: the largest one is about the unit of the sums.
    """

    def __init__(self, std: Sequence[float]) -> None:
        super().__init__(squared=False)
        self._unit = 2.0 ** (math.frexp(max(std))[1] - 1)  # by a power of 2 nothing is rounded

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds / self._unit, target / self._unit)

    def compute(self) -> Tensor:
        return self._unit * super().compute()


def _metrics(mean: Sequence[float], std: Sequence[float], part: str) -> dict[str, Metric]:
    if part == TRAIN:
        return {"rmse": ScaledRMSE(std)}
    return {
        "rmse": ScaledRMSE(std),
        "mae": MeanAbsoluteError(),
        "r2": StandardisedR2(mean, std),
    }
