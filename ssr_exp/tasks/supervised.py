"""The LightningModule of all our tasks: a network, a recipe, and what an epoch measures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from ssr_exp.config import RecipeConf
from ssr_exp.errors import SsrError
from ssr_exp.outputs import tensors
from ssr_exp.runs.score import Score
from ssr_exp.tasks import processes
from ssr_exp.tasks.optimization import lr_factor, optimizer

TRAIN, VAL, TEST = PARTS = ("train", "val", "test")
AUXILIARY = 0.4  # weight of the loss of each auxiliary output, as of Inception-v3's
CHECK_EVERY = 50  # steps between two looks at whether the training still is finite


class Diverged(RuntimeError):
    """The loss or the network's outputs are no longer finite; the message says when."""


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


@contextmanager
def _counting() -> Iterator[None]:
    """Let metrics count by `torch.bincount`: of whole numbers that is the same in any order.

    Where training is deterministic, torchmetrics compares each pixel with each pair of classes.
    """
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


class Tally(nn.Module):
    """Mean loss and metrics over an epoch, summed on the device without waiting for it.

    What it returns is of all processes that train together, each of which has to ask for it;
    torchmetrics does so by itself.
    Its state is in no buffer, so that no average of weights touches it and no checkpoint holds it.

    Args:
        metrics: by name.
        factor: what values are multiplied with: 100 for percent.
    """

    def __init__(self, metrics: Mapping[str, Metric], factor: float = 1.0) -> None:
        super().__init__()
        for name, metric in metrics.items():
            self.add_module(f"metric_{name}", metric)
            metric.dist_sync_fn = processes.gathered_tensors
        self._metrics = dict(metrics)
        self._factor = factor
        self._loss: Tensor | float = 0.0
        self._finite: Tensor | bool = True
        self._count: Tensor | int = 0
        self._is_alone = processes.count() == 1

    def add(
        self, outputs: Tensor, y: Tensor, loss: Tensor, weight: Tensor | int | None = None
    ) -> None:
        """Count one batch.

        Args:
            outputs: as the metrics take them.
            y: targets, likewise.
            loss: the batch's mean.
            weight: how many it is the mean of; None: its images.
        """
        weight = len(y) if weight is None else weight
        outputs, loss = outputs.detach(), loss.detach().float()  # sums of half precision stall
        with _counting():
            for metric in self._metrics.values() if len(y) else ():
                metric.update(outputs, y)
        self._loss = loss * weight + self._loss
        self._finite = torch.isfinite(outputs).all() & torch.isfinite(loss) & self._finite
        self._count = weight + self._count

    def stay_alone(self) -> None:
        """Measure in this process what it sees itself, because that is everything."""
        self._is_alone = True
        for metric in self._metrics.values():
            metric.distributed_available_fn = lambda: False

    def loss(self) -> float:
        """Return the mean loss, 0 where nothing counts; waits for the device."""
        loss, count = float(self._loss), float(self._count)
        if not self._is_alone:
            loss, count = processes.summed(self._loss, self._count)
        return loss / max(count, 1)

    def values(self) -> dict[str, float]:
        """Return each metric that is one number; waits for the device."""
        computed = {name: _computed(metric) for name, metric in self._metrics.items()}
        return {n: self._factor * float(value) for n, value in computed.items() if value.ndim == 0}

    def table(self, name: str) -> Tensor:
        """Return a metric that is a table; waits for the device."""
        computed: Tensor = self._metrics[name].compute()
        return computed

    def finite(self) -> bool:
        """Tell whether every loss and output since the last reset was; waits for the device."""
        return bool(self._finite) if self._is_alone else not any(processes.summed(not self._finite))

    def reset(self) -> None:
        """Start a new epoch."""
        for metric in self._metrics.values():
            metric.reset()
        self._loss, self._finite, self._count = 0.0, True, 0


class Supervised(LightningModule):
    """Train a network on inputs and targets by a recipe; a task says how it is judged.

    Of outputs that are several tensors the first (of a dictionary `out`, where there is one) is
    measured, and the others of its shape add to the loss in training.
    A checkpoint's `state_dict` holds the network's own, each name after `network.`.

    Args:
        network: maps a batch of inputs to outputs.
        recipe: optimizer, schedule and loss.
        metrics: of each part, by name.
        factor: see `Tally`.
        channels_last: memory format of the network's weights; the batches' must be the same.
        teacher: maps the same inputs to outputs alike, and is learnt from in training alone; kept
            in eval mode and out of every state dict. None: there is none.
    """

    score: ClassVar[Score]

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConf,
        metrics: Mapping[str, Mapping[str, Metric]],
        *,
        factor: float = 1.0,
        channels_last: bool = False,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=layout)
        frozen = None if teacher is None else teacher.eval().requires_grad_(False)
        self._teacher = () if frozen is None else (frozen.to(memory_format=layout),)  # no submodule
        self.recipe = recipe
        self.tallies = nn.ModuleDict({f"{p}_tally": Tally(metrics[p], factor) for p in PARTS})

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, as it is measured."""
        raise NotImplementedError

    def training_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, as it is trained on."""
        return self.loss(outputs, y)

    def measurable(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and targets as the metrics take them."""
        return outputs, y

    def counted(self, y: Tensor) -> Tensor | int:
        """Count what the loss of a batch is the mean of."""
        return len(y)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return how far outputs are from the teacher's."""
        return distillation_loss(student, teacher, temperature)

    def measure_alone(self) -> None:
        """Measure val and test in each of several processes, each of which sees all of them."""
        for part in (VAL, TEST):
            self.tally(part).stay_alone()

    def tables(self) -> dict[str, Any]:
        """Say what val measured that is more than a number, as plain data."""
        return {}

    def tally(self, part: str) -> Tally:
        """What was measured of a part in this epoch."""
        one = self.tallies[f"{part}_tally"]
        assert isinstance(one, Tally)
        return one

    def forward(self, x: Tensor) -> Any:
        return self.network(x)

    def training_step(self, batch: Sequence[Tensor], _: int) -> Tensor:
        x, y = batch
        outputs, *others = tensors(self(x))
        loss = self.training_loss(outputs, y)
        for other in others:
            if other.shape == outputs.shape:
                loss = loss + AUXILIARY * self.training_loss(other, y)
        for teacher in self._teacher:
            loss = self._taught(loss, outputs, teacher, x)
        self.tally(TRAIN).add(*self.measurable(outputs, y), loss, self.counted(y))
        return loss

    def validation_step(self, batch: Sequence[Tensor], _: int) -> None:
        self._measured(batch, VAL)

    def test_step(self, batch: Sequence[Tensor], _: int) -> None:
        self._measured(batch, TEST)

    def _measured(self, batch: Sequence[Tensor], part: str) -> None:
        x, y = batch
        outputs = next(tensors(self(x)))[: len(y)]  # an image without a target is there for none
        loss = self.loss(outputs, y) if len(y) else outputs.new_zeros(())
        self.tally(part).add(*self.measurable(outputs, y), loss, self.counted(y))

    def _taught(self, loss: Tensor, outputs: Tensor, teacher: nn.Module, x: Tensor) -> Tensor:
        """Mix a batch's own loss with what the teacher says of it."""
        share, temperature = self.recipe.distill_weight, self.recipe.distill_temperature
        with torch.no_grad():
            theirs = next(tensors(teacher(x)))
        return (1 - share) * loss + share * self.distillation(outputs, theirs, temperature)

    def on_fit_start(self) -> None:
        """Bring the teacher where the network is, in the network's precision."""
        like = next(self.network.parameters())
        for teacher in self._teacher:
            teacher.to(like.device, like.dtype)

    def on_train_epoch_start(self) -> None:
        self.tally(TRAIN).reset()

    def on_validation_epoch_start(self) -> None:
        self.tally(VAL).reset()

    def on_test_epoch_start(self) -> None:
        self.tally(TEST).reset()

    def on_train_batch_end(
        self, outputs: Tensor | Mapping[str, object] | None, batch: object, batch_idx: int
    ) -> None:
        """Look every now and then, because each look waits for the device."""
        if (batch_idx + 1) % CHECK_EVERY == 0:
            self._check(TRAIN)

    def on_train_epoch_end(self) -> None:
        self._check(TRAIN)
        self._log(TRAIN)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self._check(VAL)
        self._log(VAL)

    def on_test_epoch_end(self) -> None:
        self._log(TEST)

    def _check(self, part: str) -> None:
        if not self.tally(part).finite():
            raise Diverged(
                f"the training diverged: loss or outputs are not finite in epoch "
                f"{self.current_epoch + 1}, by step {self.global_step}"
            )

    def _log(self, part: str) -> None:
        tally = self.tally(part)
        measured = {"loss": tally.loss(), **tally.values()}
        self.log_dict({f"{part}/{name}": v for name, v in measured.items()}, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        total_steps = int(self.trainer.estimated_stepping_batches)
        if total_steps < 1:
            raise SsrError(
                "the training data do not say how long they are, and the learning rate of a recipe "
                "falls by that: give the IterableDataset a __len__, or type task=module with a "
                "LightningModule of yours."
            )
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


def _computed(metric: Metric) -> Tensor:
    """Compute a metric; not a number where there are too few inputs for it, as for R2 of one."""
    try:
        value: Tensor = metric.compute()
    except ValueError:
        return torch.tensor(math.nan)
    return value
