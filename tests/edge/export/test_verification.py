"""A file counts if it gives, on real images, what the network gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ssr_exp.edge.export import verification
from ssr_exp.edge.export.formats import Model
from ssr_exp.edge.export.output_kinds import LOGITS
from ssr_exp.edge.export.verification import Agreement, Measure, Samples
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import ACCURACY, Direction, Score

EACH = torch.eye(3)[:, :, None, None]  # one image of each class
Change = Callable[[Tensor], Tensor]


def accuracy(*labels: int) -> Measure:
    """Count the images whose largest logit is that of their label, in percent."""

    def measure(_: Model, outputs: Iterator[Tensor]) -> float:
        hits = torch.cat(list(outputs)).argmax(1) == torch.tensor(labels)
        return 100 * float(hits.double().mean())

    return measure


VAL = Samples("val", EACH[[0, 1, 2, 1, 0]], accuracy(0, 1, 2, 0, 1))
TEST = Samples("test", EACH, accuracy(0, 1, 1))


def network(images: Tensor) -> Tensor:
    """Take an image of three pixels for its logits."""
    return images.flatten(1)


def agreement(change: Change, *parts: Samples, batch: int = 2) -> Agreement:
    """Compare what changes the outputs with what leaves them alone."""
    return verification.compare(
        lambda images: change(network(images)),
        [verification.reference(network, part, batch=batch) for part in parts],
        parts,
        batch=batch,
        predictions=LOGITS.predictions,
    )


def check(
    found: Agreement, *, tolerance: float = 0.0, drop: float | None = None, score: Score = ACCURACY
) -> None:
    drops = None if drop is None else dict.fromkeys(found.eager, drop)
    verification.check(found, score, tolerance=tolerance, drops=drops)


def joined(model: Model, part: Samples, *, batch: int) -> Tensor:
    return torch.cat(list(verification.outputs(model, part, batch=batch)))


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
    part = Samples("val", images)
    assert torch.equal(joined(model, part, batch=batch), images.flatten(1))
    assert seen == sizes


def test_pixels_are_normalised_a_batch_at_a_time() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 2, 1, 1)
    part = Samples("val", pixels, mean=(0.2, 0.5), std=(0.4, 0.25))
    expected = torch.tensor([[-0.5, -2.0], [0.0, -1.2], [2.0, 2.0]])
    torch.testing.assert_close(part.batch(0, 3).flatten(1), expected)
    found = joined(network, part, batch=2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, [*range(10)])]
)
def test_few_images_are_of_all_of_a_part_whose_classes_follow_each_other(
    count: int, kept: list[int]
) -> None:
    part = Samples("val", torch.arange(10).reshape(10, 1, 1, 1)).spread(count)
    assert part.images.flatten().tolist() == kept


def test_a_runtime_may_use_its_memory_again() -> None:
    memory = torch.empty(1, 3)

    def model(images: Tensor) -> Tensor:
        return memory.copy_(images.flatten(1))

    assert torch.equal(joined(model, VAL, batch=1), network(VAL.images))


def test_the_output_that_is_judged_is_compared() -> None:
    part = Samples("val", EACH)

    def several(images: Tensor) -> Any:
        return {"aux": images.new_ones(len(images), 7), "out": images.flatten(1)}

    assert torch.equal(joined(several, part, batch=2), network(EACH))


def test_what_does_the_same_agrees_with_pytorch() -> None:
    found = agreement(lambda logits: logits, VAL, TEST)
    assert (found.difference, found.agreement) == (0.0, 100.0)
    assert found.scores == found.eager == pytest.approx({"val": 60.0, "test": 200 / 3})
    check(found)
    check(found, drop=0)


def test_scores_and_agreement_are_in_percent() -> None:
    found = agreement(lambda logits: logits.flip(1), VAL)
    assert found.agreement == 40.0  # of the middle class
    assert found.scores == {"val": 20.0} and found.eager == {"val": 60.0}


@pytest.mark.parametrize("most_kept", [0, 2, 7, 2**20])
def test_outputs_that_are_not_kept_are_made_anew(
    monkeypatch: pytest.MonkeyPatch, most_kept: int
) -> None:
    monkeypatch.setattr(verification, "MOST_KEPT", most_kept)
    found = agreement(lambda logits: logits.flip(1), VAL, TEST)
    assert found.eager == pytest.approx({"val": 60.0, "test": 200 / 3})
    assert found.agreement == 100 * 3 / 8


def test_a_measure_may_run_the_model_by_itself_or_there_is_none() -> None:
    def validate(model: Model, _: Iterator[Tensor]) -> float:
        return float(model(EACH).sum())

    own, silent = Samples("val", EACH, validate), Samples("test", EACH)
    found = agreement(lambda logits: 2 * logits, own, silent)
    assert found.scores == {"val": 6.0} and found.eager == {"val": 3.0}
    assert (found.difference, found.agreement) == (1.0, 100.0)  # of outputs that it did not look at


def test_the_difference_is_a_share_of_the_largest_output() -> None:
    part = Samples("val", 8 * VAL.images)
    assert agreement(lambda logits: logits + 2, part).difference == 0.25
    assert agreement(lambda logits: logits + 2, VAL, part).difference == 0.25


def test_the_imaginary_part_of_outputs_counts() -> None:
    seen = verification._Comparison(None)
    expected = torch.complex(torch.ones(2, 1), torch.full((2, 1), 9.0))
    assert len(list(seen.watch([torch.complex(torch.ones(2, 1), torch.zeros(2, 1))], [expected])))
    assert seen.difference() == pytest.approx(9 / math.hypot(1, 9))


def test_a_difference_above_the_tolerance_is_refused() -> None:
    found = agreement(lambda logits: logits + 0.25, VAL)
    assert found.scores == found.eager
    check(found, tolerance=0.25)
    with pytest.raises(SsrError, match=r"differ from PyTorch's by 0\.25 .* tolerance=0\.2 is"):
        check(found, tolerance=0.2)


def test_of_int8_the_score_counts_and_not_the_difference() -> None:
    check(agreement(lambda logits: 100 * logits, VAL), drop=0)
    found = agreement(lambda logits: logits.flip(1), VAL)
    check(found, drop=40)
    with pytest.raises(SsrError, match=r"loses 40\.00 points of val acc, .* allows 39 points"):
        check(found, tolerance=9, drop=39)


def test_a_drop_is_in_the_scores_unit_and_direction() -> None:
    rmse = Score(key="val/rmse", direction=Direction.min, unit="cm", bounds=(0.0, None))
    check(Agreement(9.0, None, {"val": 1.0}, {"val": 2.0}), drop=0, score=rmse)
    worse = Agreement(9.0, None, {"test": 2.5}, {"test": 2.0})
    check(worse, drop=0.5, score=rmse)
    with pytest.raises(SsrError, match=r"loses 0\.5 cm of test rmse, .* allows 0\.4 cm"):
        check(worse, drop=0.4, score=rmse)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_outputs_that_are_no_numbers_are_refused(odd: float) -> None:
    def spoil(logits: Tensor) -> Tensor:
        return torch.where(logits == logits.max(), odd, logits)

    with pytest.raises(SsrError, match="no finite numbers"):
        agreement(spoil, VAL)


@pytest.mark.parametrize(
    ("change", "shape"), [(lambda x: x[:, :2], "1x2"), (lambda x: x[..., None], "1x3x1")]
)
def test_outputs_of_another_shape_are_refused(change: Change, shape: str) -> None:
    with pytest.raises(SsrError, match=f"its outputs are {shape}, and PyTorch's are 1x3"):
        agreement(change, VAL)


def test_what_is_no_number_is_never_good_enough() -> None:
    nothing = Agreement(math.nan, 100.0, {"val": math.nan}, {"val": 1.0})
    with pytest.raises(SsrError, match=r"differ from PyTorch's by nan"):
        check(nothing, tolerance=math.inf)
    with pytest.raises(SsrError, match="loses nan points"):
        check(nothing, tolerance=math.inf, drop=100)
    reference = [verification.reference(lambda x: network(x) * math.nan, TEST, batch=2)]
    found = verification.compare(network, reference, [TEST], batch=2)
    assert math.isnan(found.difference)
