"""One class for each input: cross-entropy, and accuracy in percent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassStatScores,
)

from ssr_exp.config import RecipeConf
from ssr_exp.runs.score import ACCURACY
from ssr_exp.tasks.supervised import PARTS, TRAIN, VAL, Supervised

MOST_CLASSES = 50  # whose confusions are recorded


class Classification(Supervised):
    """Train a network to classify.

    Label smoothing and class weights are part of the loss in training, not of what is measured in
    val and test. Targets of training may be probabilities, `b x num_classes`, as of mixed images:
    its accuracy then counts the likeliest class. Further metrics of val: balanced accuracy and
    macro F1, in percent.

    Args:
        network: maps `b x c x h x w` to logits, `b x num_classes`.
        recipe: optimizer, schedule and loss.
        num_classes: at least 2.
        channels_last: memory format of the network's weights; the batches' must be the same.
        teacher: maps the same images to logits of the same classes; see `Supervised`.
        class_weights: of each class in the loss of training, `num_classes`; None: all are 1.
    """

    score = ACCURACY
    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConf,
        num_classes: int,
        channels_last: bool = False,
        teacher: nn.Module | None = None,
        class_weights: Tensor | None = None,
    ) -> None:
        metrics = {part: _metrics(num_classes, part) for part in PARTS}
        super().__init__(
            network, recipe, metrics, factor=100, channels_last=channels_last, teacher=teacher
        )
        self._has_table = num_classes <= MOST_CLASSES
        self.register_buffer("class_weights", class_weights, persistent=False)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs, y)

    def training_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        smoothing, weights = self.recipe.label_smoothing, self.class_weights
        loss = F.cross_entropy(outputs, y, weight=weights, label_smoothing=smoothing)
        if weights is None or y.ndim == 1:
            return loss
        return loss * (len(y) / (y @ weights).sum())  # as torch does where targets are classes

    def measurable(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest class of targets that are probabilities."""
        return outputs, y if y.ndim == 1 else y.argmax(1)

    def tables(self) -> dict[str, Any]:
        """Say how often each class was taken for each: a row for each true class."""
        if not self._has_table:
            return {}
        return {"confusion": self.tally(VAL).table("confusion").to(torch.int64).tolist()}


class BalancedAccuracy(MulticlassStatScores):
    """The mean recall of the classes that there are images of, as in scikit-learn.

    torchmetrics' own counts one without images as 0 as soon as it is predicted.
    """

    def compute(self) -> Tensor:
        hits, _, _, _, images = super().compute().unbind(1)
        return (hits / images)[images > 0].mean()


def _metrics(num_classes: int, part: str) -> dict[str, Metric]:
    accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
    if part == TRAIN:
        return {"acc": accuracy}
    further: dict[str, Metric] = {
        "balanced_acc": BalancedAccuracy(num_classes, average="none", validate_args=False),
        "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
    }
    if num_classes <= MOST_CLASSES and part == VAL:
        further["confusion"] = MulticlassConfusionMatrix(num_classes, validate_args=False)
    return {"acc": accuracy, **further}
