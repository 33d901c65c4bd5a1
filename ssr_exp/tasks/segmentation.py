"""A class for each pixel: cross-entropy and Dice, and mean intersection over union."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassJaccardIndex,
)

from ssr_exp.config import RecipeConf
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import PERCENT, Score
from ssr_exp.tasks.supervised import PARTS, TRAIN, VAL, Supervised, distillation_loss

IGNORED = 255  # the usual label of pixels that do not count


class SemanticSegmentation(Supervised):
    """Train a network to name the class of each pixel.

    Args:
        network: maps `b x c x h x w` to logits, `b x num_classes x h x w`.
        recipe: optimizer, schedule and loss.
        num_classes: at least 2, the background among them.
        channels_last: memory format of the network's weights; the batches' must be the same.
        teacher: maps the same images to logits of the same classes; see `Supervised`.
        class_weights: of each class in the cross-entropy of training, `num_classes`.
        dice: share of the loss in training that is Dice's, 0 to 1; cross-entropy is the rest.
        ignore_index: label of the pixels that do not count.
    """

    score = Score(key="val/mIoU", unit=PERCENT, bounds=(0.0, 100.0))
    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConf,
        num_classes: int,
        channels_last: bool = False,
        teacher: nn.Module | None = None,
        class_weights: Tensor | None = None,
        dice: float = 0.5,
        ignore_index: int = IGNORED,
    ) -> None:
        metrics = {part: _metrics(num_classes, ignore_index, part) for part in PARTS}
        super().__init__(
            network, recipe, metrics, factor=100, channels_last=channels_last, teacher=teacher
        )
        self._dice = dice
        self._ignore_index = ignore_index
        self.register_buffer("class_weights", class_weights, persistent=False)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        check_sizes(outputs, y)
        return self._entropy(outputs, y)

    def training_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        check_sizes(outputs, y)
        smoothing = self.recipe.label_smoothing
        entropy = self._entropy(outputs, y, weight=self.class_weights, label_smoothing=smoothing)
        if not self._dice:
            return entropy
        dice = dice_loss(outputs, y, ignore_index=self._ignore_index)
        return (1 - self._dice) * entropy + self._dice * dice

    def _entropy(
        self, outputs: Tensor, y: Tensor, weight: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Return the mean over the pixels that count; 0 where none does, as there is no mean."""
        options["ignore_index"], rows = self._ignore_index, _rows(outputs)
        weight = None if weight is None else weight.to(rows.dtype)
        entropy = F.cross_entropy(rows, y.flatten(), weight, **options)
        return torch.where((y != self._ignore_index).any(), entropy, (outputs * 0).sum())

    def counted(self, y: Tensor) -> Tensor:
        """Count the pixels that are learnt and measured."""
        return (y != self._ignore_index).sum()

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean over all pixels."""
        return distillation_loss(_rows(student), _rows(teacher), temperature)

    def tables(self) -> dict[str, Any]:
        """Say the intersection over union of each class, in percent, and its pixels in val.

        None for a class that is left out of their mean: it is nowhere, or does not count.
        """
        counts = self.tally(VAL).table("confusion").cpu().double()  # an Apple GPU has no doubles
        hits, pixels = counts.diagonal(), counts.sum(1)
        unions = pixels + counts.sum(0) - hits
        if self._ignore_index in range(len(unions)):
            unions[self._ignore_index] = 0
        rows = zip(hits.tolist(), unions.tolist(), pixels.tolist(), strict=True)
        return {"iou": [(100 * hit / union if union else None, n) for hit, union, n in rows]}


def dice_loss(logits: Tensor, y: Tensor, *, ignore_index: int = IGNORED) -> Tensor:
    """Return 1 minus the mean soft Dice coefficient of the classes that a batch holds.

    Milletari, Navab, Ahmadi 2016 (https://arxiv.org/abs/1606.04797), with plain sums below.

    Args:
        logits: `b x classes x h x w`.
        y: the class of each pixel, int64, `b x h x w`.
        ignore_index: label of the pixels that do not count.
    """
    counts = (y != ignore_index)[:, None]
    shares = _whole(logits).softmax(1) * counts
    held = F.one_hot(torch.where(counts[:, 0], y, 0), logits.shape[1]).movedim(-1, 1) * counts
    axes = [0, *range(2, logits.ndim)]
    overlap, total = (shares * held).sum(axes), (shares + held).sum(axes)
    present = held.sum(axes) > 0
    dice = 2 * overlap / total.clamp_min(1e-6)
    return 1 - (dice * present).sum() / present.sum().clamp_min(1)


def _rows(logits: Tensor) -> Tensor:
    """Write logits of pixels as rows: cross-entropy of these is deterministic on a GPU, too."""
    return _whole(logits).movedim(1, -1).flatten(0, -2)


def _whole(logits: Tensor) -> Tensor:
    """Have single precision at least: sums over pixels are beyond what half precision counts."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def check_sizes(outputs: Tensor, y: Tensor) -> None:
    """Refuse outputs that are not of the masks' size.

    Raises:
        SsrError: says both sizes.
    """
    if outputs.ndim != y.ndim + 1 or outputs.shape[2:] != y.shape[1:]:
        theirs, ours = (" x ".join(map(str, t.shape)) for t in (outputs, y))
        raise SsrError(
            f"the network puts out {theirs} for masks of {ours} (batch, rows, columns): "
            "task=segmentation needs logits of batch x classes x the masks' size."
        )


def _metrics(num_classes: int, ignore_index: int, part: str) -> dict[str, Metric]:
    options = {"ignore_index": ignore_index, "validate_args": False}
    iou = {"mIoU": MulticlassJaccardIndex(num_classes, **options)}  # type: ignore[arg-type]
    if part == TRAIN:
        return dict(iou)
    pixels = MulticlassAccuracy(num_classes, average="micro", **options)  # type: ignore[arg-type]
    further: dict[str, Metric] = {**iou, "pixel_acc": pixels}
    if part == VAL:
        further["confusion"] = MulticlassConfusionMatrix(num_classes, **options)  # type: ignore[arg-type]
    return further
