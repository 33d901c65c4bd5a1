from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torchmetrics.classification import MulticlassAccuracy

from ssr_exp.config import Optimizer, RecipeConf, Schedule
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.tasks import optimization
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.supervised import Diverged, Tally, distillation_loss

MEASURED = ("loss", "acc", "balanced_acc", "f1")

MakeTask = Callable[..., Classification]
MakeModule = Callable[..., TensorDataModule]
MakeTrainer = Callable[..., Trainer]


def factors(schedule: Schedule, *steps: int, warmup: int = 0, **fields: Any) -> list[float]:
    recipe = RecipeConf(schedule=schedule, **fields)
    return [
        optimization.lr_factor(step, total_steps=100, warmup_steps=warmup, recipe=recipe)
        for step in steps
    ]


# Schedule


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule.constant, [1, 1, 1, 1, 1]),
        (Schedule.step, [1, 1, 0.1, 0.01, 0.01]),
        (Schedule.cosine, [1, 0.8535533905932737, 0.5, 0.14644660940672627, 0]),
        (Schedule.linear, [1, 0.75, 0.5, 0.25, 0]),
    ],
)
def test_schedule_goldens(schedule: Schedule, expected: list[float]) -> None:
    assert factors(schedule, 0, 25, 50, 75, 100) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_warmup_rises_to_the_full_rate_and_the_schedule_follows(schedule: Schedule) -> None:
    found = factors(schedule, 0, 4, 9, 10, warmup=10)
    assert found == pytest.approx([0.1, 0.5, 1, 1])


@pytest.mark.parametrize("schedule", [Schedule.cosine, Schedule.linear])
def test_schedule_after_warmup_spans_what_is_left(schedule: Schedule) -> None:
    assert factors(schedule, 60, 100, 101, warmup=20) == pytest.approx([0.5, 0, 0])


def test_warmup_may_fill_the_training() -> None:
    assert factors(Schedule.cosine, 99, 100, warmup=100) == pytest.approx([1, 1])


def test_milestones_are_shares_of_the_whole_training() -> None:
    found = factors(Schedule.step, 29, 30, 59, 60, warmup=10, milestones=[0.3, 0.6], gamma=0.5)
    assert found == [1, 0.5, 0.5, 0.25]


# Optimizer


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


def test_all_parameters_decay_unless_norm_and_bias_are_spared() -> None:
    (group,) = optimization.optimizer(network(), RecipeConf()).param_groups
    assert (len(group["params"]), group["weight_decay"]) == (6, 1e-4)
    decayed, spared = optimization.optimizer(
        network(), RecipeConf(decay_norm_and_bias=False)
    ).param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (1e-4, 0)


def test_optimizers_take_the_recipe() -> None:
    (group,) = optimization.optimizer(network(), RecipeConf(lr=0.3, momentum=0.8)).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.3, 0.8, True)
    (group,) = optimization.optimizer(network(), RecipeConf(momentum=0.0)).param_groups
    assert not group["nesterov"]
    adamw = optimization.optimizer(
        network(), RecipeConf(optimizer=Optimizer.adamw, weight_decay=0.05)
    )
    assert isinstance(adamw, AdamW)
    assert adamw.param_groups[0]["weight_decay"] == 0.05


# Tally


def test_tally_equals_the_mean_over_all_images() -> None:
    logits, y = torch.randn(50, 7), torch.randint(7, (50,))
    tally = Tally({"acc": MulticlassAccuracy(7, average="micro")}, factor=100)
    for at in (slice(0, 32), slice(32, 50)):
        tally.add(logits[at], y[at], F.cross_entropy(logits[at], y[at]))
    assert tally.loss() == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-5)
    share = float((logits.argmax(1) == y).float().mean())
    assert tally.values()["acc"] == pytest.approx(100 * share)


def test_tally_sums_losses_of_half_precision_without_stalling() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        tally, loss = Tally({}), torch.tensor(2.25, dtype=dtype)
        for _ in range(600):
            tally.add(torch.zeros(1000, 1), torch.zeros(1000), loss)
        assert tally.loss() == pytest.approx(2.25)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["logits", "loss"])
def test_tally_remembers_what_was_not_finite(bad: float, where: str) -> None:
    logits, y, loss = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.tensor(1.0)
    tally = Tally({})
    assert tally.finite()
    spoilt = torch.full_like(logits, bad) if where == "logits" else logits
    tally.add(spoilt, y, torch.tensor(bad) if where == "loss" else loss)
    tally.add(logits, y, loss)
    assert not tally.finite()
    tally.reset()
    assert tally.finite()


def test_state_dict_is_the_networks_own(small_task: MakeTask) -> None:
    made = small_task()
    own = {f"network.{name}" for name in made.network.state_dict()}
    assert set(made.state_dict()) == own


# A teacher


def softmax(logits: list[float], temperature: float) -> list[float]:
    raised = [math.exp(value / temperature) for value in logits]
    return [value / sum(raised) for value in raised]


def by_hand(student: list[float], teacher: list[float], temperature: float) -> float:
    ours, theirs = softmax(student, temperature), softmax(teacher, temperature)
    divergence = sum(q * math.log(q / p) for p, q in zip(ours, theirs, strict=True))
    return temperature**2 * divergence


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_the_divergence_of_the_teacher_from_the_student(temperature: float) -> None:
    student, teacher = [[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]], [[2.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]
    expected = [by_hand(*pair, temperature) for pair in zip(student, teacher, strict=True)]
    found = distillation_loss(torch.tensor(student), torch.tensor(teacher), temperature)
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-5)


class Remembering(nn.Module):
    """Logits that are the same for all images; it notes how it was run."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.arange(10.0))
        self.norm = nn.BatchNorm1d(10)
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return self.norm(self.logits.expand(len(x), 10))


def taught(made: Classification, **recipe: object) -> Classification:
    fields = RecipeConf(**recipe)  # type: ignore[arg-type]
    return Classification(made.network, fields, num_classes=10, teacher=Remembering())


def test_at_a_high_temperature_the_gradient_is_that_of_matched_logits() -> None:
    """Hinton et al. 2015, section 2.1: (student - teacher) / classes, for logits of mean 0."""
    student, teacher = (torch.randn(1, 6, dtype=torch.float64) for _ in range(2))
    student, teacher = (logits - logits.mean() for logits in (student, teacher))
    student.requires_grad_(True)
    distillation_loss(student, teacher, temperature=1e4).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 6, rtol=1e-2, atol=1e-4)


def test_a_teacher_is_no_part_of_the_network(small_task: MakeTask) -> None:
    made = taught(small_task())
    assert set(made.state_dict()) == set(small_task().state_dict())
    assert len(list(made.parameters())) == len(list(made.network.parameters()))
    assert not any(isinstance(module, Remembering) for module in made.modules())


def test_a_teacher_is_run_in_eval_mode_without_gradients_and_in_training_alone(
    small_task: MakeTask, digits_module: MakeModule, quiet_trainer: MakeTrainer
) -> None:
    made, module = taught(small_task()), digits_module()
    (teacher,) = made._teacher
    assert isinstance(teacher, Remembering)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    trainer = quiet_trainer(2)
    trainer.fit(made, module)
    module.setup("fit")
    assert teacher.seen == [(False, False)] * trainer.global_step
    trainer.test(made, module, verbose=False)
    assert len(teacher.seen) == trainer.global_step
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_loss_is_mixed_of_labels_and_teacher(small_task: MakeTask, share: float) -> None:
    made = taught(
        small_task(), distill_weight=share, distill_temperature=2.0, label_smoothing=0.1
    ).eval()
    x, y = torch.randn(6, 1, 8, 8), torch.randint(10, (6,))
    loss = made.training_step((x, y), 0)
    logits, (teacher,) = made(x), made._teacher
    own = F.cross_entropy(logits, y, label_smoothing=0.1)
    theirs = distillation_loss(logits, teacher(x), 2.0)
    torch.testing.assert_close(loss, (1 - share) * own + share * theirs)
    assert made.tally("train").loss() == pytest.approx(float(loss.detach()), rel=1e-5)


def test_a_student_comes_to_agree_with_its_teacher(
    small_task: MakeTask, digits_module: MakeModule, quiet_trainer: MakeTrainer
) -> None:
    """This one says 9 of every image, so the student does, too."""
    made, module = (
        taught(small_task(), distill_weight=1.0, distill_temperature=1.0),
        digits_module(),
    )
    quiet_trainer(3).fit(made, module)
    x, _ = next(iter(module.val_dataloader()))
    assert set(made.eval()(x).argmax(1).tolist()) == {9}


# Training


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_training_learns_and_reports_percent(
    optimizer: Optimizer,
    small_task: MakeTask,
    digits_module: MakeModule,
    quiet_trainer: MakeTrainer,
) -> None:
    lr = 0.1 if optimizer is Optimizer.sgd else 0.01
    made, module = small_task(optimizer=optimizer, lr=lr), digits_module()
    trainer = quiet_trainer(4)
    trainer.fit(made, module)
    found = dict(trainer.callback_metrics)
    trainer.test(made, module, verbose=False)
    found |= trainer.callback_metrics
    measured = {f"{part}/{name}" for part in ("val", "test") for name in MEASURED}
    assert set(found) == {"train/loss", "train/acc"} | measured
    assert 30 < found["val/acc"] <= 100  # chance: 10
    assert 30 < found["test/acc"] <= 100
    confusion = torch.tensor(made.tables()["confusion"])
    assert float(confusion.trace() / confusion.sum()) == pytest.approx(found["val/acc"] / 100)
    recalls = confusion.diagonal() / confusion.sum(1)
    assert 100 * float(recalls.mean()) == pytest.approx(float(found["val/balanced_acc"]), rel=1e-5)


def test_balanced_accuracy_is_of_the_classes_that_val_holds() -> None:
    """One without images has no recall, whether it is predicted or not."""
    task = Classification(nn.Identity(), RecipeConf(), num_classes=5)
    for held in range(1, 6):
        task.tally("val").reset()
        y, outputs = torch.randint(held, (40,)), torch.randn(40, 5)
        for part in (slice(0, 30), slice(30, 40)):
            task.validation_step((outputs[part], y[part]), 0)
        with warnings.catch_warnings(
            action="ignore"
        ):  # that y_pred has classes that y_true has not
            expected = balanced_accuracy_score(y, outputs.argmax(1))
        found = task.tally("val").values()["balanced_acc"]
        assert found == pytest.approx(100 * expected, rel=1e-5)


def test_warmup_is_counted_in_epochs_and_the_rate_ends_at_zero(
    small_task: MakeTask, digits_module: MakeModule, quiet_trainer: MakeTrainer
) -> None:
    rates: list[float] = []

    class Watched(Classification):
        def on_train_batch_start(self, *_: object) -> None:
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    trainer = quiet_trainer(4)
    made = Watched(small_task().network, RecipeConf(warmup_epochs=1.5), num_classes=10)
    trainer.fit(made, digits_module())
    steps = len(rates) // 4
    assert rates.index(max(rates)) + 1 == round(1.5 * steps)
    assert max(rates) == pytest.approx(0.1)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)


def test_not_a_number_ends_the_training_before_a_checkpoint(
    small_task: MakeTask, digits_module: MakeModule, quiet_trainer: MakeTrainer
) -> None:
    made = small_task(lr=1e30)
    with pytest.raises(Diverged, match=r"not finite in epoch 1, by step 2\d"):
        quiet_trainer(2).fit(made, digits_module())


def test_diverged_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(Diverged("in epoch 3")))
    assert isinstance(error, Diverged)
    assert str(error) == "in epoch 3"


def test_channels_last_sets_the_layout_of_the_weights() -> None:
    made = Classification(nn.Conv2d(3, 4, 3), RecipeConf(), num_classes=4, channels_last=True)
    (weight, _) = made.network.parameters()
    assert weight.is_contiguous(memory_format=torch.channels_last)


# Targets that are probabilities, as of mixed images


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_class_and_its_certainty_are_one_target(weights: Tensor | None, smoothing: float) -> None:
    recipe = RecipeConf(label_smoothing=smoothing)
    task = Classification(nn.Identity(), recipe, num_classes=3, class_weights=weights)
    outputs, y = torch.randn(7, 3), torch.arange(7) % 3
    certain = F.one_hot(y, 3).float()
    torch.testing.assert_close(task.training_loss(outputs, certain), task.training_loss(outputs, y))
    assert torch.equal(task.measurable(outputs, certain)[1], task.measurable(outputs, y)[1])


def test_the_loss_of_a_mixture_is_the_mixture_of_losses() -> None:
    task = Classification(nn.Identity(), RecipeConf(label_smoothing=0.1), num_classes=3)
    outputs, one, other = torch.randn(7, 3), torch.arange(7) % 3, torch.zeros(7).long()
    mixed = 0.7 * F.one_hot(one, 3) + 0.3 * F.one_hot(other, 3)
    losses = [task.training_loss(outputs, y) for y in (one, other)]
    expected = 0.7 * losses[0] + 0.3 * losses[1]
    torch.testing.assert_close(task.training_loss(outputs, mixed), expected)
    assert torch.equal(task.measurable(outputs, mixed)[1], one)


@pytest.mark.parametrize("fields", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_mixed_images_are_learnt_from(
    fields: dict[str, float],
    digits: Splits,
    small_task: MakeTask,
    quiet_trainer: MakeTrainer,
) -> None:
    wanted = Augmentation(**fields)  # type: ignore[arg-type]
    task, trainer = small_task(lr=0.1), quiet_trainer(4)
    trainer.fit(task, TensorDataModule(digits, batch_size=64, augmentation=wanted))
    assert float(trainer.callback_metrics["val/acc"]) > 60
    assert 0 < float(trainer.callback_metrics["train/acc"]) <= 100
