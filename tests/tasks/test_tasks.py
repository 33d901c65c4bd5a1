"""What each task measures, against sums by hand and torchmetrics; and that each of them learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.functional.regression import r2_score

from ssr_exp.config import RecipeConf
from ssr_exp.errors import SsrError
from ssr_exp.outputs import tensors
from ssr_exp.tasks.multilabel import Multilabel
from ssr_exp.tasks.regression import Regression
from ssr_exp.tasks.segmentation import IGNORED, SemanticSegmentation, dice_loss
from ssr_exp.tasks.supervised import Supervised, Tally

Batches = list[tuple[Tensor, Tensor]]
RECIPE = RecipeConf(lr=0.1, weight_decay=0.0)


def flat(outputs: int) -> nn.Module:
    first = nn.Conv2d(1, 8, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(128, outputs))


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_metrics_are_counted_in_a_table_where_training_is_deterministic() -> None:
    """torchmetrics compares each element with each pair of classes there, 30 GB for some masks."""
    seen = list[bool]()

    class Looks(MeanSquaredError):
        def update(self, *args: Tensor) -> None:
            seen.append(torch.are_deterministic_algorithms_enabled())
            super().update(*args)

    tally = Tally({"mse": Looks()})
    before = torch.get_deterministic_debug_mode()
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        tally.add(torch.zeros(3), torch.ones(3), torch.tensor(1.0))
        assert torch.get_deterministic_debug_mode() == 1
    finally:
        torch.set_deterministic_debug_mode(before)
    assert seen and not any(seen) and tally.values() == {"mse": 1.0}


def multilabel() -> tuple[Supervised, Batches]:
    x = images(60)
    return Multilabel(flat(3), RECIPE, 3), halves(x, (x[:, 0, 0, :3] > 0).float())


def regression() -> tuple[Supervised, Batches]:
    x = images(60)
    y = 50 + 20 * x[:, 0, 0, :2]
    return Regression(flat(2), RECIPE, [50.0, 50.0], [20.0, 20.0]), halves(x, y)


def segmentation() -> tuple[Supervised, Batches]:
    x = images(60)
    y = (x[:, 0] > 0).long() + (x[:, 0] > 1).long()
    y[:, 0, 0] = IGNORED
    network = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return SemanticSegmentation(network, RECIPE, 3), halves(x, y)


def halves(x: Tensor, y: Tensor) -> Batches:
    """Make two batches of unequal size."""
    return [(x[:40], y[:40]), (x[40:], y[40:])]


TASKS = {"multilabel": multilabel, "regression": regression, "segmentation": segmentation}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def measured(quiet_trainer: Callable[..., Trainer]) -> Callable[..., dict[str, float]]:
    """Train a task for some epochs, and return what it logged."""

    def measure(task: Supervised, batches: Batches, epochs: int) -> dict[str, float]:
        trainer = quiet_trainer(epochs)
        served = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        trainer.fit(task, served, served)
        return {name: float(value) for name, value in trainer.callback_metrics.items()}

    return measure


@pytest.mark.parametrize("name", TASKS)
def test_a_task_learns_and_logs_its_score(
    name: str, measured: Callable[..., dict[str, float]]
) -> None:
    task, batches = TASKS[name]()
    score = task.score
    before, after = (measured(TASKS[name]()[0], batches, epochs)[score.key] for epochs in (1, 12))
    assert score.drop(after, before) < 0
    score.check(after)
    score.check(before)


def outputs_and_targets(task: Supervised, batches: Batches) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        outputs = torch.cat([next(tensors(task(x))) for x, _ in batches])
    return outputs, torch.cat([y for _, y in batches])


def test_mean_average_precision_is_of_all_images_at_once(
    measured: Callable[..., dict[str, float]],
) -> None:
    task, batches = multilabel()
    found = measured(task, batches, 1)
    outputs, y = outputs_and_targets(task.eval(), batches)
    expected = multilabel_average_precision(outputs, y.long(), 3)
    assert found["val/mAP"] == pytest.approx(100 * float(expected), rel=1e-5)
    assert found["val/loss"] == pytest.approx(
        float(F.binary_cross_entropy_with_logits(outputs, y)), rel=1e-5
    )


def test_no_metric_depends_on_how_val_is_cut_into_batches() -> None:
    """A cut whose logits all lie from 0 to 1 is none of probabilities."""
    task, logits = Multilabel(flat(2), RECIPE, 2), torch.rand(12, 2)
    logits[0] = 5.0
    y, values = (torch.rand(12, 2) < 0.5).float(), []
    for size in (1, 5, 12):
        task.tally("val").reset()
        for outputs, targets in zip(logits.split(size), y.split(size), strict=True):
            loss = task.loss(outputs, targets)
            task.tally("val").add(*task.measurable(outputs, targets), loss)
        values.append(task.tally("val").values())
    assert values[0] == values[1] == values[2] and {"mAP", "f1"} == set(values[0])


def test_labels_may_be_mixed() -> None:
    task, ((x, y), _) = multilabel()
    outputs, mixed = task.network(x), 0.7 * y + 0.3 * y.roll(1, 0)
    expected = 0.7 * task.loss(outputs, y) + 0.3 * task.loss(outputs, y.roll(1, 0))
    torch.testing.assert_close(task.training_loss(outputs, mixed), expected)
    assert torch.equal(task.measurable(outputs, mixed)[1], y.long())


def test_errors_are_in_the_targets_unit_and_the_loss_is_not(
    measured: Callable[..., dict[str, float]],
) -> None:
    task, batches = regression()
    found = measured(task, batches, 1)
    outputs, y = outputs_and_targets(task.eval(), batches)
    assert found["val/rmse"] == pytest.approx(float((outputs - y).square().mean().sqrt()), rel=1e-5)
    assert found["val/mae"] == pytest.approx(float((outputs - y).abs().mean()), rel=1e-5)
    assert found["val/r2"] == pytest.approx(float(r2_score(outputs, y)), rel=1e-4)
    assert found["val/loss"] == pytest.approx(found["val/rmse"] ** 2 / 400, rel=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e5])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_r2_does_not_depend_on_where_the_numbers_lie(offset: float, scale: float) -> None:
    """A sum of their squares would, in single precision: 0.962 for 0.743 at 10,000 +- 1."""
    truth, guess = 2 * torch.randn(2, 500, 2)
    guess = truth + 0.5 * guess
    expected = float(r2_score(guess.double(), truth.double()))
    mean, std = [offset * scale] * 2, [2 * scale] * 2
    task = Regression(nn.Identity(), RECIPE, mean, std)
    for x, y in zip((guess / 2).split(64), (offset * scale + scale * truth).split(64), strict=True):
        task.validation_step((x, y), 0)
    assert task.tally("val").values()["r2"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("unit", [1.0, 2.0**-100, 2.0**100])
def test_rmse_is_to_the_last_digit_that_of_ordinary_numbers_in_any_unit(unit: float) -> None:
    """Squares of 1e30 are infinite in single precision, and those of 1e-30 are 0."""
    task = Regression(nn.Identity(), RECIPE, [0.0] * 2, [unit, 0.3 * unit])
    plain = MeanSquaredError(squared=False)
    for x, y in zip(*(torch.randn(70, 2).split(64) for _ in range(2)), strict=True):
        task.validation_step((x, unit * y), 0)
        plain.update(x * torch.tensor([1, 0.3]), y)
    assert task.tally("val").values()["rmse"] == unit * float(plain.compute())


def test_a_unit_of_targets_changes_no_training(measured: Callable[..., dict[str, float]]) -> None:
    _, batches = regression()
    losses = []
    for scale in (1.0, 1e4):
        torch.manual_seed(0)
        task = Regression(flat(2), RECIPE, [50 * scale] * 2, [20 * scale] * 2)
        losses.append(measured(task, [(x, scale * y) for x, y in batches], 2)["val/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_teacher_of_other_moments_teaches_its_own_numbers() -> None:
    """It learned from other rows, so the same output stands for another number there."""
    x, ours, theirs = images(6), ([50.0, 3.0], [20.0, 2.0]), ([40.0, 5.0], [10.0, 1.0])
    teacher = flat(2)
    numbers = torch.tensor(theirs[0]) + torch.tensor(theirs[1]) * teacher(x)
    task = Regression(flat(2), RECIPE, *ours, teacher=teacher, teacher_moments=theirs)
    assert float(task.distillation(numbers, teacher(x), 4.0).detach()) == 0
    plain = Regression(flat(2), RECIPE, *ours, teacher=teacher)
    same = Regression(flat(2), RECIPE, *ours, teacher=teacher, teacher_moments=ours)
    assert float(plain.distillation(numbers, teacher(x), 4.0).detach()) > 0
    assert torch.equal(*(t.distillation(numbers, teacher(x), 4.0) for t in (plain, same)))
    assert same.state_dict().keys() == plain.state_dict().keys()


def test_one_number_may_come_without_a_column() -> None:
    task = Regression(nn.Sequential(flat(1), nn.Flatten(0)), RECIPE, [3.0], [2.0])
    x = images(5)
    (outputs,) = task(x)
    torch.testing.assert_close(outputs, 3 + 2 * task.network(x)[:, None])
    assert float(task.loss(outputs, outputs[:, 0]).detach()) == 0


def test_mean_iou_leaves_ignored_pixels_out(measured: Callable[..., dict[str, float]]) -> None:
    task, batches = segmentation()
    found = measured(task, batches, 1)
    outputs, y = outputs_and_targets(task.eval(), batches)
    counts, guess = y != IGNORED, outputs.argmax(1)
    ious = [
        float(((guess == c) & (y == c)).sum() / (((guess == c) | (y == c)) & counts).sum())
        for c in range(3)
    ]
    assert found["val/mIoU"] == pytest.approx(100 * sum(ious) / 3, rel=1e-5)
    hits = float((guess == y)[counts].float().mean())
    assert found["val/pixel_acc"] == pytest.approx(100 * hits, rel=1e-5)


def test_the_table_says_the_iou_and_the_pixels_of_each_class(
    measured: Callable[..., dict[str, float]],
) -> None:
    task, batches = segmentation()
    found = measured(task, batches, 1)
    rows = task.tables()["iou"]
    y = torch.cat([y for _, y in batches])
    assert [pixels for _, pixels in rows] == [int((y == c).sum()) for c in range(3)]
    assert sum(iou for iou, _ in rows) / 3 == pytest.approx(found["val/mIoU"], rel=1e-5)


class OnAppleGpu(Tensor):
    """Stands for a tensor of a device without double precision."""

    def double(self, *_: object, **__: object) -> Tensor:
        raise TypeError("the MPS framework doesn't support float64")

    def cpu(self, *_: object, **__: object) -> Tensor:
        return self.as_subclass(Tensor)


def test_the_table_needs_no_doubles_of_the_device(
    measured: Callable[..., dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, batches = segmentation()
    measured(task, batches, 1)
    expected, tally = task.tables(), task.tally("val")
    table = tally.table("confusion").as_subclass(OnAppleGpu)
    monkeypatch.setattr(tally, "table", lambda _: table)
    assert task.tables() == expected


@pytest.mark.parametrize("ignored", [IGNORED, -100, 0])
def test_the_score_is_the_mean_of_the_table(ignored: int) -> None:
    """So a class that is nowhere, neither true nor predicted, has no value in it."""
    draw = torch.Generator().manual_seed(0)
    for size in range(1, 30):
        task = SemanticSegmentation(nn.Identity(), RECIPE, 6, ignore_index=ignored)
        logits = torch.randn(1, 6, 1, size, generator=draw)
        logits[:, 3] = -99
        y = torch.randint(0, 3, (1, 1, size), generator=draw)
        y[0, 0, 0] = 2
        task.validation_step((logits, y), 0)
        values = [iou for iou, _ in task.tables()["iou"]]
        kept = [iou for iou in values if iou is not None]
        assert values[3] is None
        assert sum(kept) / len(kept) == pytest.approx(task.tally("val").values()["mIoU"], rel=1e-5)


def test_a_teacher_of_pixels_counts_as_much_for_any_size() -> None:
    task, ((x, _), _) = segmentation()
    student, teacher = task.network(x), task.network(x.flip(0))
    one = task.distillation(student, teacher, 2.0)
    four = task.distillation(student.repeat(1, 1, 2, 2), teacher.repeat(1, 1, 2, 2), 2.0)
    torch.testing.assert_close(one, four)


def test_the_loss_of_pixels_is_cross_entropy_and_dice() -> None:
    task, ((x, y), _) = segmentation()
    outputs = task.network(x)
    entropy = F.cross_entropy(outputs, y, ignore_index=IGNORED)
    torch.testing.assert_close(task.loss(outputs, y), entropy)
    torch.testing.assert_close(
        task.training_loss(outputs, y), (entropy + dice_loss(outputs, y)) / 2
    )


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_classes_are_of_the_precision_in_which_pixels_are_summed(
    precision: torch.dtype,
) -> None:
    made, ((_, y), _) = segmentation()
    weights = torch.tensor([0.5, 1.0, 3.0])
    task = SemanticSegmentation(made.network, RecipeConf(), 3, class_weights=weights).to(precision)
    outputs = torch.randn(*y[:, None].shape).expand(-1, 3, -1, -1).to(precision)
    loss = task.training_loss(outputs, y)
    exact = SemanticSegmentation(made.network, RecipeConf(), 3, class_weights=weights)
    torch.testing.assert_close(loss, exact.training_loss(outputs.float(), y), check_dtype=False)


@pytest.mark.parametrize("dice", [0.0, 0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0])])
def test_a_batch_of_which_no_pixel_counts_teaches_nothing(
    dice: float, smoothing: float, weights: Tensor | None
) -> None:
    made, ((x, y), _) = segmentation()
    recipe = RecipeConf(label_smoothing=smoothing)
    task = SemanticSegmentation(made.network, recipe, 3, class_weights=weights, dice=dice)
    nowhere = torch.full_like(y, IGNORED)
    outputs = task.network(x)
    assert float(task.loss(outputs, nowhere).detach()) == 0
    loss = task.training_loss(outputs, nowhere)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert all((p.grad == 0).all() for p in task.parameters())
    spoilt = outputs.detach().clone()
    spoilt[0, 0, 0, 0] = float("inf")
    assert task.loss(spoilt, nowhere).isnan() and task.training_loss(spoilt, nowhere).isnan()


def test_a_training_goes_on_after_a_batch_of_which_no_pixel_counts(
    measured: Callable[..., dict[str, float]],
) -> None:
    task, ((x, y), more) = segmentation()
    found = measured(task, [(x, torch.full_like(y, IGNORED)), more], 2)
    assert all(map(math.isfinite, found.values()))


@pytest.mark.parametrize("ignored", [IGNORED, 0])
def test_the_loss_of_val_is_the_mean_over_its_pixels_however_it_is_cut_into_batches(
    ignored: int,
) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, y = (
        torch.randn(6, 3, 2, 4, generator=draw),
        torch.randint(0, 3, (6, 2, 4), generator=draw),
    )
    y[:2, :, 1:] = ignored  # few pixels of some images count
    for size in (1, 2, 4, 6):
        task = SemanticSegmentation(nn.Identity(), RECIPE, 3, ignore_index=ignored)
        for batch in zip(logits.split(size), y.split(size), strict=True):
            task.validation_step(batch, 0)
        expected = float(F.cross_entropy(logits, y, ignore_index=ignored))
        assert task.tally("val").loss() == pytest.approx(expected, rel=1e-5)
    task.tally("val").reset()
    task.validation_step((logits, torch.full_like(y, ignored)), 0)
    assert task.tally("val").loss() == 0


def test_dice_is_that_of_the_classes_that_are_there() -> None:
    y = torch.tensor([[[0, 0], [1, IGNORED]]])
    logits = 50 * F.one_hot(torch.tensor([[[0, 1], [1, 0]]]), 3).movedim(-1, 1).float()
    # Class 0: one of one guessed of two that are; class 1: two guessed of one that is.
    expected = 1 - (2 * 1 / (1 + 2) + 2 * 1 / (2 + 1)) / 2
    assert float(dice_loss(logits, y)) == pytest.approx(expected, abs=1e-6)
    assert float(dice_loss(50 * F.one_hot(y % 3, 3).movedim(-1, 1).float(), y)) < 1e-6


def test_masks_of_another_size_are_refused() -> None:
    task, ((x, y), _) = segmentation()
    with pytest.raises(SsrError, match=r"puts out 40 x 3 x 4 x 4 for masks of 40 x 2 x 4"):
        task.training_step((x, y[:, :2]), 0)


class Two(nn.Module):
    """As a network with an auxiliary head."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.main, self.aux, self.form = flat(3), flat(3), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.main(x), self.aux(x))


def test_a_regression_leaves_outputs_of_other_shapes_out() -> None:
    network = Two(lambda a, b: {"out": a[:, :2], "features": b})
    task = Regression(network, RECIPE, [1.0, 2.0], [3.0, 4.0])
    x, y = multilabel()[1][0][0], torch.zeros(40, 2)
    loss = task.training_step((x, y[: len(x)]), 0)
    first = task.mean + task.std * network.main(x)[:, :2]
    torch.testing.assert_close(loss, task.loss(first, y[: len(x)]))


@pytest.mark.parametrize(
    "form",
    [
        lambda a, b: {"aux": b, "out": a},
        lambda a, b: (a, b),
        lambda a, b: {"logits": a, "more": [b]},
    ],
    ids=["dictionary", "tuple", "nested"],
)
def test_of_several_outputs_the_first_is_measured_and_the_others_are_trained(
    form: Callable[[Tensor, Tensor], Any],
) -> None:
    task, (x, y) = Multilabel(Two(form), RECIPE, 3), multilabel()[1][0]
    first, second = (task.loss(network(x), y) for network in (task.network.main, task.network.aux))
    loss = task.training_step((x, y), 0)
    torch.testing.assert_close(loss, first + 0.4 * second)
    loss.backward()
    assert all(p.grad is not None for p in task.parameters())
