"""Any number of labels for each input: binary cross-entropy, and mean average precision."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

from ssr_exp.config import RecipeConf
from ssr_exp.runs.score import PERCENT, Score
from ssr_exp.tasks.supervised import PARTS, TRAIN, Supervised


class Multilabel(Supervised):
    """Train a network to say which of several labels hold.

    Args:
        network: maps `b x c x h x w` to logits, `b x num_labels`; above 0 a label is said to hold.
        recipe: optimizer, schedule and loss; label smoothing moves targets towards one half.
        num_labels: at least 1.
        channels_last: memory format of the network's weights; the batches' must be the same.
        teacher: maps the same images to logits of the same labels; see `Supervised`.
        label_weights: of what holds, against what does not, in the loss of training, `num_labels`.
    """

    score = Score(key="val/mAP", unit=PERCENT, bounds=(0.0, 100.0))
    label_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConf,
        num_labels: int,
        channels_last: bool = False,
        teacher: nn.Module | None = None,
        label_weights: Tensor | None = None,
    ) -> None:
        metrics = {part: _metrics(num_labels, part) for part in PARTS}
        super().__init__(
            network, recipe, metrics, factor=100, channels_last=channels_last, teacher=teacher
        )
        self.register_buffer("label_weights", label_weights, persistent=False)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, y.to(outputs.dtype))

    def training_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        smoothing = self.recipe.label_smoothing
        targets = y.to(outputs.dtype) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=self.label_weights)

    def measurable(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities: of logits a metric cannot know that they are some."""
        return outputs.float().sigmoid(), y.round().long()

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean cross-entropy of each label's softened probability."""
        theirs = (teacher / temperature).sigmoid()
        loss = F.binary_cross_entropy_with_logits(student / temperature, theirs)
        return loss * temperature**2


def _metrics(num_labels: int, part: str) -> dict[str, Metric]:
    if part == TRAIN:  # the exact mean average precision keeps all outputs of an epoch
        return {}
    return {
        "mAP": MultilabelAveragePrecision(num_labels, validate_args=False),
        "f1": MultilabelF1Score(num_labels, validate_args=False),
    }
