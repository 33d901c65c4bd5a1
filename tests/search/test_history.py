"""What counts of the records."""

from __future__ import annotations

import logging

import pytest
import torch

from ssr_exp.config import CostAxis, Outcome
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.runs.record import Status
from ssr_exp.search import costs, history
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell


def test_only_finished_records_with_an_accuracy_count(
    small: Space, tell: Tell, first: First
) -> None:
    records = [
        tell(first[0]),
        tell(first[1], status=Status.failed, val_acc=None, error="it broke"),
        tell(first[2], status=Status.diverged, val_acc=None, error="nan"),
        tell(first[3], val_acc=None),
    ]
    assert history.from_records(small, records).networks == (first[0],)
    assert history.unusable(records) == {small.code(first[2])}


def test_a_network_that_diverged_once_and_finished_with_another_seed_is_usable(
    tell: Tell, first: First
) -> None:
    records = [tell(first[0], status=Status.diverged, val_acc=None), tell(first[0], seed=1)]
    assert history.unusable(records) == set()


def test_the_order_of_records_does_not_change_a_history(
    small: Space, tell: Tell, first: First
) -> None:
    records = [tell(a, seed=seed) for a in first[:5] for seed in (0, 1)]
    forwards, backwards = (
        history.from_records(small, records),
        history.from_records(small, records[::-1]),
    )
    assert forwards.records == backwards.records
    assert torch.equal(forwards.X, backwards.X)


def test_the_same_training_from_two_sources_counts_once_and_repeats_are_kept(
    small: Space, tell: Tell, first: First
) -> None:
    one, repeat = tell(first[0]), tell(first[0], val_acc=81.5)
    found = history.from_records(small, [one, one.model_copy(), repeat])
    assert len(found) == 2
    assert found.accuracies() == {first[0]: pytest.approx(((one.val_acc or 0) + 81.5) / 2)}
    assert sorted(found.values(Outcome.val_acc).tolist()) == sorted([one.val_acc, 81.5])


def test_a_record_of_another_network_is_left_out_with_a_warning(
    small: Space, tell: Tell, first: First, caplog: pytest.LogCaptureFixture
) -> None:
    records = [tell(first[0]), tell(first[1], network="d9-9-9_w16-32-64")]
    with caplog.at_level(logging.WARNING):
        assert len(history.from_records(small, records)) == 1
    assert "left out 1 records, such as d9-9-9_w16-32-64" in caplog.text


def test_latency_is_predicted_from_the_records_that_have_it(
    small: Space, tell: Tell, first: First
) -> None:
    records = [
        tell(a, latency_ms=float(sum(a.blocks)), latency_device="a phone") for a in first[:15]
    ] + [tell(a) for a in first[15:]]
    trained = history.from_records(small, records)
    price = costs.price(CostAxis.latency_ms, trained)
    times = price(cost.encode(small.plan, first)).exp()
    for architecture, time in zip(first, times.tolist(), strict=True):
        assert time == pytest.approx(sum(architecture.blocks), rel=0.15)


def test_too_few_latencies_or_those_of_two_devices_are_refused(
    small: Space, tell: Tell, first: First
) -> None:
    few = history.from_records(
        small, [tell(a, latency_ms=1.0, latency_device="x") for a in first[:4]]
    )
    with pytest.raises(SsrError, match=r"4 records have a latency.*5 networks"):
        costs.price(CostAxis.latency_ms, few)
    devices = ("a phone", "a watch")
    records = [tell(a, latency_ms=1.0, latency_device=devices[n % 2]) for n, a in enumerate(first)]
    with pytest.raises(SsrError, match=r"different devices .a phone, a watch"):
        costs.price(CostAxis.latency_ms, history.from_records(small, records))
