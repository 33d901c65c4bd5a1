"""A file counts if it gives, on real images, what the network gave."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssr_exp.edge.export import verification
from ssr_exp.edge.export.verification import Agreement, Labelled
from ssr_exp.errors import SsrError

EACH = torch.eye(3)[:, :, None, None]  # one image of each class
VAL = Labelled("val", EACH[[0, 1, 2, 1, 0]], torch.tensor([0, 1, 2, 0, 1]))
TEST = Labelled("test", EACH, torch.tensor([0, 1, 1]))

Change = Callable[[Tensor], Tensor]


def network(images: Tensor) -> Tensor:
    """Take an image of three pixels for its logits."""
    return images.flatten(1)


def agreement(change: Change, *parts: Labelled, batch: int = 2) -> Agreement:
    """Compare what changes the outputs with what leaves them alone."""
    expected = [network(part.images) for part in parts]
    return verification.compare(
        lambda images: change(network(images)), expected, parts, batch=batch
    )


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [(1, 4, [1]), (2, 4, [1, 1]), (5, 4, [1, 4]), (6, 4, [1, 4, 1]), (4, 1, [1, 1, 1, 1])],
)
def test_all_run_once_in_order_the_first_alone(count: int, batch: int, sizes: list[int]) -> None:
    seen: list[int] = []

    def model(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flatten(1)

    images = torch.arange(3.0 * count).reshape(count, 3, 1, 1)
    part = Labelled("val", images, torch.zeros(count))
    assert torch.equal(verification.logits(model, part, batch=batch), images.flatten(1))
    assert seen == sizes


def test_pixels_are_normalised_a_batch_at_a_time() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 2, 1, 1)
    part = Labelled("val", pixels, torch.zeros(3), mean=(0.2, 0.5), std=(0.4, 0.25))
    expected = torch.tensor([[-0.5, -2.0], [0.0, -1.2], [2.0, 2.0]])
    torch.testing.assert_close(part.batch(0, 3).flatten(1), expected)
    found = verification.logits(lambda images: images.flatten(1), part, batch=2)
    torch.testing.assert_close(found, expected)


def test_a_runtime_may_use_its_memory_again() -> None:
    memory = torch.empty(1, 3)

    def model(images: Tensor) -> Tensor:
        return memory.copy_(images.flatten(1))

    assert torch.equal(verification.logits(model, VAL, batch=1), network(VAL.images))


def test_what_does_the_same_agrees_with_pytorch() -> None:
    found = agreement(lambda logits: logits, VAL, TEST)
    assert (found.difference, found.agreement) == (0.0, 100.0)
    assert found.accuracy == found.eager == pytest.approx({"val": 60.0, "test": 200 / 3})
    verification.check(found, [VAL], tolerance=0, most_drop=None)
    verification.check(found, [VAL], tolerance=0, most_drop=0)


def test_accuracies_and_agreement_are_in_percent() -> None:
    found = agreement(lambda logits: logits.flip(1), VAL)
    assert found.agreement == 40.0  # of the middle class
    assert found.accuracy == {"val": 20.0} and found.eager == {"val": 60.0}


def test_the_difference_is_a_share_of_the_largest_logit() -> None:
    part = Labelled("val", 8 * VAL.images, VAL.labels)
    assert agreement(lambda logits: logits + 2, part).difference == 0.25
    assert agreement(lambda logits: logits + 2, VAL, part).difference == 0.25


def test_a_difference_above_the_tolerance_is_refused() -> None:
    found = agreement(lambda logits: logits + 0.25, VAL)
    assert found.accuracy == found.eager
    verification.check(found, [VAL], tolerance=0.25, most_drop=None)
    with pytest.raises(SsrError, match=r"differ from PyTorch's by 0\.25 .* tolerance=0\.2 is"):
        verification.check(found, [VAL], tolerance=0.2, most_drop=None)


def test_of_int8_accuracy_counts_and_not_the_difference() -> None:
    verification.check(agreement(lambda logits: 100 * logits, VAL), [VAL], tolerance=0, most_drop=0)
    found = agreement(lambda logits: logits.flip(1), VAL)
    verification.check(found, [VAL], tolerance=9, most_drop=40)
    with pytest.raises(SsrError, match=r"loses 40\.00 points of accuracy on val, and int8_drop=39"):
        verification.check(found, [VAL], tolerance=9, most_drop=39)


def test_accuracy_counts_on_the_part_that_is_named() -> None:
    broken = Agreement(0.0, 0.0, {"val": 50.0, "test": 0.0}, {"val": 50.0, "test": 99.0})
    verification.check(broken, [VAL], tolerance=0, most_drop=0)
    with pytest.raises(SsrError, match="on test"):
        verification.check(broken, [TEST], tolerance=0, most_drop=50)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_outputs_that_are_no_numbers_are_refused(odd: float) -> None:
    def spoil(logits: Tensor) -> Tensor:
        return torch.where(logits == logits.max(), odd, logits)

    with pytest.raises(SsrError, match="no finite numbers"):
        agreement(spoil, VAL)


@pytest.mark.parametrize(
    ("change", "shape"), [(lambda x: x[:, :2], "5x2"), (lambda x: x[..., None], "5x3x1")]
)
def test_outputs_of_another_shape_are_refused(change: Change, shape: str) -> None:
    with pytest.raises(SsrError, match=f"its outputs are {shape}, and PyTorch's are 5x3"):
        agreement(change, VAL)


def test_what_is_no_number_is_never_good_enough() -> None:
    nothing = Agreement(math.nan, 100.0, {"val": math.nan}, {"val": 1.0})
    with pytest.raises(SsrError, match=r"differ from PyTorch's by nan"):
        verification.check(nothing, [VAL], tolerance=math.inf, most_drop=None)
    with pytest.raises(SsrError, match="loses nan points"):
        verification.check(nothing, [VAL], tolerance=math.inf, most_drop=100)
