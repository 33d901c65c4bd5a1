"""What classes weigh in a loss that makes them count alike, and what a task refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssr_exp.datasets.images import IGNORED, Images, Target
from ssr_exp.errors import SsrError
from ssr_exp.training import learning
from tests.conftest import Compose

SIZES = [6, 0, 3, 1, 0]  # of classes a to e


def images(target: Target, sizes: list[int]) -> Images:
    """Make images, or pixels of masks, of which so many are of each class."""
    y = torch.repeat_interleave(torch.tensor(sizes))
    if target is Target.masks:
        y = torch.cat([y, torch.full((2,), IGNORED)]).byte()[None, :, None]
    if target is Target.labels:
        y = torch.nn.functional.one_hot(y, len(sizes)).float()
    names = tuple("abcdefgh"[: len(sizes)])
    return Images(torch.zeros(len(y), 1, 1, 1, dtype=torch.uint8), y, names, target=target)


@pytest.mark.parametrize("target", [Target.one_class, Target.masks])
def test_all_classes_that_there_are_count_alike(target: Target) -> None:
    sizes, weights = torch.tensor(SIZES), learning.balanced(images(target, SIZES))
    counts = (weights * sizes)[sizes > 0]
    torch.testing.assert_close(counts, torch.full_like(counts, 2.0))
    assert weights[sizes == 0].tolist() == [1, 1]


def test_a_label_counts_as_much_as_its_absence() -> None:
    sizes: Tensor = torch.tensor(SIZES).float()
    weights = learning.balanced(images(Target.labels, SIZES))
    torch.testing.assert_close((weights * sizes)[sizes > 0], (10 - sizes)[sizes > 0])
    assert weights[sizes == 0].tolist() == [1, 1]


@pytest.mark.parametrize("target", [Target.one_class, Target.masks, Target.labels])
def test_what_there_is_nothing_of_weighs_no_more_in_a_larger_set(target: Target) -> None:
    few, many = (images(target, [factor * size for size in SIZES]) for factor in (1, 100))
    torch.testing.assert_close(learning.balanced(few), learning.balanced(many))


@pytest.mark.parametrize("unit", [1.0, 1e-13, 1e13])
def test_in_any_unit_only_a_number_that_never_changes_has_the_deviation_1(unit: float) -> None:
    """Farads of small capacitors are numbers of 1e-13, and differ all the same."""
    rows = unit * torch.tensor([[3.0, 0.1, 0.0], [5.0, 0.1, 0.0], [8.0, 0.1, 0.0]])
    pixels = torch.zeros(3, 1, 1, 1, dtype=torch.uint8)
    moments = learning.target_moments(Images(pixels, rows, ("a", "b", "c"), target=Target.numbers))
    assert moments is not None
    assert moments[1] == (pytest.approx(unit * math.sqrt(38 / 9), rel=1e-6), 1, 1)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_numbers_are_not_learnt_in_half_precision(conf: Compose, precision: str) -> None:
    """1987 would be 1984, in targets and in errors."""
    words = ("task=regression", "dataset=csv", f"trainer.precision={precision}")
    with pytest.raises(SsrError, match="rounds the numbers that are to be learnt"):
        learning.check(conf(*words))
    learning.check(conf(*words[:2], "trainer.precision=bf16-mixed"))


MODULE = ("task=module", "task.target=a.B", "task.score.key=val/x", "task.score.direction=max")


@pytest.mark.parametrize(
    "word",
    [
        "task.score.key=val/x",
        "task.score.bounds=[0,1]",
        "task.arguments={lr:1}",
        "task.network=model",
        "task.copies=[ema]",
        "task.keep=[ema]",
        "task.example_inputs=a.b",
        "task.version=2",
        "task.study=other",
    ],
)
def test_what_only_a_module_of_ones_own_reads_is_refused_for_our_tasks(
    conf: Compose, word: str
) -> None:
    key = word.partition("=")[0]
    with pytest.raises(SsrError, match=f"^{key} is for task=module, .* it: leave it out"):
        learning.check(conf(word))
    learning.check(conf(*MODULE, word))


def test_arguments_of_the_trainer_that_are_decided_elsewhere_are_refused_for_any_task(
    conf: Compose,
) -> None:
    for words in ((), MODULE):
        with pytest.raises(SsrError, match=r"task\.trainer\.max_epochs is decided elsewhere"):
            learning.check(conf(*words, "+task.trainer.max_epochs=3"))
        learning.check(conf(*words, "+task.trainer.accumulate_grad_batches=2"))


def test_a_module_of_ones_own_balances_by_itself(conf: Compose) -> None:
    for balance in ("weights", "sampling"):
        with pytest.raises(SsrError, match=f"task.balance={balance} is not for task=module"):
            learning.check(conf(*MODULE, f"task.balance={balance}"))


def test_a_module_may_say_which_pixels_of_masks_count_nowhere(conf: Compose) -> None:
    learning.check(conf(*MODULE, "dataset=masks", "task.ignore_index=null"))
    for words in (("dataset=digits", "task.ignore_index=null"), ("dataset=masks", "task.dice=0")):
        with pytest.raises(SsrError, match="is for task=segmentation: leave it out"):
            learning.check(conf(*MODULE, *words))
