"""Caps: what they may say, and what they leave."""

from __future__ import annotations

import pytest
import torch

from ssr_exp.config import (
    Acquisition,
    BudgetConf,
    CapConf,
    Kernel,
    Objective,
    Outcome,
    SearchConfig,
    SurrogateConf,
)
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.search import caps as limits
from ssr_exp.search.space import Space

BASELINE = {"params": 1000.0, "macs": 5000.0, "gemms": 20.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [("350", 350), ("35%", 350), ("35.5 %", 355), ("0.35", 350), ("1e2", 100), ("100%", 1000)],
)
def test_a_cap_is_a_number_or_a_share(text: str, value: float) -> None:
    assert limits.absolute(CapConf(params=text), BASELINE) == {"params": pytest.approx(value)}


@pytest.mark.parametrize("text", ["0", "-5", "many", "", "nan", "inf", "5 M", "1e999", "%"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(SsrError, match=r"cap.macs=.*number above 0.*cap.macs=35%"):
        limits.absolute(CapConf(macs=text), BASELINE)


def test_a_share_of_what_is_not_known_is_refused() -> None:
    with pytest.raises(SsrError, match=r"cap.latency_ms=50%.*not known"):
        limits.absolute(CapConf(latency_ms="50%"), BASELINE)


def test_what_keeps_to_the_caps_keeps_to_each(small: Space) -> None:
    caps = {"params": 0.3 * small.baseline.params, "macs": 0.4 * small.baseline.macs}
    (points,) = small.lattice.enumerate()
    kept = limits.keeps(small, caps, points)
    counts = cost.count(small.plan, points)
    expected = (counts.params <= caps["params"]) & (counts.macs <= caps["macs"])
    assert torch.equal(kept, torch.from_numpy(expected))
    assert 0 < int(kept.sum()) < 512


def test_the_first_point_is_the_smallest_in_every_cost(small: Space) -> None:
    """So that caps which hold singly hold together."""
    (points,) = small.lattice.enumerate()
    counts = cost.count(small.plan, points)._asdict()
    assert all(values.min() == values[0] for values in counts.values())
    limits.check_caps(small, {name: float(values[0]) for name, values in counts.items()})


def test_a_cap_below_the_smallest_network_says_which_that_is(small: Space) -> None:
    (points,) = small.lattice.enumerate()
    fewest = int(cost.count(small.plan, points).params.min())
    with pytest.raises(SsrError, match=f"cap.params=10.*has {fewest:,} parameters"):
        limits.check_caps(small, {"params": 10})


def combined(**changes: object) -> SearchConfig:
    conf = SearchConfig()
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        setattr(getattr(conf, group) if group else conf, name, value)
    return conf


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        (
            combined(surrogate__outcome=Outcome.val_loss, objective__kind=Objective.smallest),
            "points of accuracy",
        ),
        (
            combined(surrogate__fidelity=True, surrogate__kernel=Kernel.additive),
            "surrogate.kernel=joint",
        ),
        (
            combined(surrogate__fidelity=True, acquisition__kind=Acquisition.qlognehvi),
            "does not know of fidelities",
        ),
        (combined(min_gain=0.1, acquisition__kind=Acquisition.random), "says nothing of a gain"),
        (
            combined(acquisition__prefilter=2, acquisition__kind=Acquisition.thompson),
            r"must lie between batch \(4\) and 10000",
        ),
        (
            combined(acquisition__prefilter=10**6, acquisition__kind=Acquisition.qlognehvi),
            "prefilter is 1000000",
        ),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    small: Space, conf: SearchConfig, words: str
) -> None:
    with pytest.raises(SsrError, match=words):
        limits.check(small, conf)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"rounds": -1}, "rounds is -1"),
        ({"batch": 0}, "batch is 0; it must be 1 or more"),
        ({"min_gain": float("nan")}, "min_gain is nan"),
        ({"budget": BudgetConf(runs=0)}, "budget.runs is 0"),
        ({"budget": BudgetConf(hours=-1.0)}, "budget.hours is -1"),
        ({"surrogate": SurrogateConf(Outcome.val_loss), "cap": CapConf(drop="2")}, "val_acc with"),
        ({"cap": CapConf(params="3")}, "no network keeps to cap.params=3"),
        ({"cap": CapConf(latency_ms="soon")}, "cap.latency_ms=soon is not a limit"),
        ({"cap": CapConf(drop="soon")}, "cap.drop=soon is not a limit"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_trained(
    small: Space, change: dict[str, object], key: str
) -> None:
    conf = SearchConfig()
    for name, value in change.items():
        setattr(conf, name, value)
    with pytest.raises(SsrError, match=key):
        limits.check(small, conf)


def test_shares_of_what_is_measured_later_pass(small: Space) -> None:
    conf = SearchConfig()
    conf.cap = CapConf(latency_ms="50%", drop="1%", params="50%")
    limits.check(small, conf)
