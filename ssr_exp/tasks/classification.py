"""The LightningModule: loss, optimizer, schedule and what is measured in each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy

from ssr_exp import config
from ssr_exp.config import RecipeConf, Schedule

TRAIN_LOSS, TRAIN_ACC = "train/loss", "train/acc"  # accuracies in percent
VAL_LOSS, VAL_ACC = "val/loss", "val/acc"
TEST_LOSS, TEST_ACC = "test/loss", "test/acc"

CHECK_EVERY = 50  # steps between two looks at whether the training still is finite


class Diverged(RuntimeError):
    """The loss or the network's outputs are no longer finite; the message says when."""


def lr_factor(step: int, *, total_steps: int, warmup_steps: int, recipe: RecipeConf) -> float:
    """Return what the learning rate is multiplied with at a step.

    It rises along a line to 1 at the last warm-up step, then follows `recipe.schedule`.

    Args:
        step: optimizer steps taken before, from 0.
        total_steps: of the whole training, warm-up included.
        warmup_steps: 0: none.
        recipe: `schedule`, and for `step` its `milestones` (shares of the whole training) and
            `gamma`.

    Example:
        >>> lr_factor(50, total_steps=100, warmup_steps=0, recipe=RecipeConf(schedule="cosine"))
        0.5
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    match recipe.schedule:
        case Schedule.constant:
            return 1.0
        case Schedule.step:
            passed = sum(step >= share * total_steps for share in recipe.milestones)
            return float(recipe.gamma**passed)
        case Schedule.cosine:
            return 0.5 * (1 + math.cos(math.pi * progress))
        case Schedule.linear:
            return 1 - progress


def optimizer(network: nn.Module, recipe: RecipeConf) -> Optimizer:
    """Build the optimizer; `decay_norm_and_bias=False` spares all one-dimensional parameters."""
    spared = [p for p in network.parameters() if p.ndim < 2 and not recipe.decay_norm_and_bias]
    ids = set(map(id, spared))
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if id(p) not in ids]},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == config.Optimizer.adamw:
        return AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean divergence of the softened outputs, in nats, times the temperature squared.

    The factor keeps the gradients as large at any temperature (Hinton, Vinyals, Dean 2015,
    https://arxiv.org/abs/1503.02531).

    Args:
        student: logits, `b x classes`.
        teacher: logits of the same images, likewise.
        temperature: both are divided by it, above 0.
    """
    ours, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return divergence * temperature**2


class Tally(nn.Module):
    """Mean loss and top-1 accuracy over an epoch, summed on the device without waiting for it.

    Its state is in no buffer, so that no average of weights touches it and no checkpoint holds it.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self._accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self._loss: Tensor | float = 0.0
        self._finite: Tensor | bool = True
        self._count = 0

    def add(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        """Count one batch: `logits` are `b x classes`, `y` is `b`, `loss` the batch's mean."""
        logits, loss = logits.detach(), loss.detach()
        self._accuracy.update(logits, y)
        self._loss = loss * len(y) + self._loss
        self._finite = torch.isfinite(logits).all() & torch.isfinite(loss) & self._finite
        self._count += len(y)

    def means(self) -> tuple[float, float]:
        """Return mean loss and accuracy in percent; waits for the device."""
        return float(self._loss) / self._count, 100 * float(self._accuracy.compute())

    def finite(self) -> bool:
        """Tell whether every loss and logit since the last reset was; waits for the device."""
        return bool(self._finite)

    def reset(self) -> None:
        """Start a new epoch."""
        self._accuracy.reset()
        self._loss, self._finite, self._count = 0.0, True, 0


class Classification(LightningModule):
    """Train a network to classify images.

    Label smoothing is part of the loss in training, not of what is measured in val and test.
    A checkpoint's `state_dict` holds the network's own, each name after `network.`.

    Args:
        network: maps `b x c x h x w` to logits, `b x num_classes`.
        recipe: optimizer, schedule and loss.
        num_classes: at least 2.
        channels_last: memory format of the network's weights; the batches' must be the same.
        teacher: maps the same images to logits of the same classes, and is learnt from in training
            alone; kept in eval mode and out of every state dict. None: there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConf,
        num_classes: int,
        channels_last: bool = False,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=layout)
        frozen = None if teacher is None else teacher.eval().requires_grad_(False)
        self._teacher = () if frozen is None else (frozen.to(memory_format=layout),)  # no submodule
        self.recipe = recipe
        self.train_tally = Tally(num_classes)
        self.val_tally = Tally(num_classes)
        self.test_tally = Tally(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)
        for teacher in self._teacher:
            loss = self._taught(loss, logits, teacher, x)
        self.train_tally.add(logits, y, loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._measured(batch, self.val_tally)

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._measured(batch, self.test_tally)

    def _measured(self, batch: tuple[Tensor, Tensor], tally: Tally) -> None:
        x, y = batch
        logits = self(x)
        tally.add(logits, y, F.cross_entropy(logits, y))

    def _taught(self, loss: Tensor, logits: Tensor, teacher: nn.Module, x: Tensor) -> Tensor:
        """Mix a batch's own loss with what the teacher says of it."""
        share, temperature = self.recipe.distill_weight, self.recipe.distill_temperature
        with torch.no_grad():
            theirs = teacher(x)
        return (1 - share) * loss + share * distillation_loss(logits, theirs, temperature)

    def on_fit_start(self) -> None:
        """Bring the teacher where the network is, in the network's precision."""
        like = next(self.network.parameters())
        for teacher in self._teacher:
            teacher.to(like.device, like.dtype)

    def on_train_epoch_start(self) -> None:
        self.train_tally.reset()

    def on_validation_epoch_start(self) -> None:
        self.val_tally.reset()

    def on_test_epoch_start(self) -> None:
        self.test_tally.reset()

    def on_train_batch_end(
        self, outputs: Tensor | Mapping[str, object] | None, batch: object, batch_idx: int
    ) -> None:
        """Look every now and then, because each look waits for the device."""
        if (batch_idx + 1) % CHECK_EVERY == 0:
            self._check(self.train_tally)

    def on_train_epoch_end(self) -> None:
        self._check(self.train_tally)
        self._log(self.train_tally, TRAIN_LOSS, TRAIN_ACC)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self._check(self.val_tally)
        self._log(self.val_tally, VAL_LOSS, VAL_ACC)

    def on_test_epoch_end(self) -> None:
        self._log(self.test_tally, TEST_LOSS, TEST_ACC)

    def _check(self, tally: Tally) -> None:
        if not tally.finite():
            raise Diverged(
                f"the training diverged: loss or outputs are not finite in epoch "
                f"{self.current_epoch + 1}, by step {self.global_step}"
            )

    def _log(self, tally: Tally, loss_key: str, accuracy_key: str) -> None:
        loss, accuracy = tally.means()
        self.log_dict({loss_key: loss, accuracy_key: accuracy}, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        total_steps = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        warmup_steps = round(self.recipe.warmup_epochs * total_steps / epochs)
        chosen = optimizer(self.network, self.recipe)
        schedule = LambdaLR(
            chosen,
            lambda step: lr_factor(
                step, total_steps=total_steps, warmup_steps=warmup_steps, recipe=self.recipe
            ),
        )
        return {
            "optimizer": chosen,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
