from __future__ import annotations

import math

import pytest
import torch

from ssr_exp.tasks import distillation


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
    found = distillation.loss(torch.tensor(student), torch.tensor(teacher), temperature=temperature)
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    logits = torch.randn(8, 5)
    shifted = logits + torch.randn(8, 1)  # the same after a softmax
    assert float(distillation.loss(shifted, logits, temperature=2.0)) == pytest.approx(0, abs=1e-6)
    assert float(distillation.loss(logits + torch.randn(8, 5), logits, temperature=2.0)) > 0


def test_at_a_high_temperature_the_gradient_is_that_of_matched_logits() -> None:
    """Hinton et al. 2015, section 2.1: (student - teacher) / classes, for logits of mean 0."""
    student, teacher = (torch.randn(1, 6, dtype=torch.float64) for _ in range(2))
    student, teacher = (logits - logits.mean() for logits in (student, teacher))
    student.requires_grad_(True)
    distillation.loss(student, teacher, temperature=1e4).backward()  # type: ignore[no-untyped-call]
    expected = (student.detach() - teacher) / 6
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected, rtol=1e-2, atol=1e-4)
