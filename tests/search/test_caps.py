"""Caps: what they may say, and what they leave."""

from __future__ import annotations

import pytest
import torch

from ssr_exp.config import (
    Acquisition,
    CapConf,
    CostAxis,
    Kernel,
    Objective,
    Outcome,
    SearchConfig,
)
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.score import ACCURACY
from ssr_exp.search import caps, space
from ssr_exp.search.space import Space
from tests.search.conftest import asked

BASELINE = {"params": 1000.0, "macs": 5000.0, "gemms": 20.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [("350", 350), ("35%", 350), ("35.5 %", 355), ("0.35", 350), ("1e2", 100), ("100%", 1000)],
)
def test_a_cap_is_a_number_or_a_share(text: str, value: float) -> None:
    assert caps.read_caps(CapConf(params=text), BASELINE) == {"params": pytest.approx(value)}


@pytest.mark.parametrize("text", ["0", "-5", "many", "", "nan", "inf", "5 M", "1e999", "%"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(SsrError, match=r"cap.macs=.*number above 0.*cap.macs=35%"):
        caps.read_caps(CapConf(macs=text), BASELINE)


def test_a_share_of_what_is_not_known_is_refused() -> None:
    with pytest.raises(SsrError, match=r"cap.latency_ms=50%.*not known"):
        caps.read_caps(CapConf(latency_ms="50%"), BASELINE)


def test_what_keeps_to_the_caps_keeps_to_each(small: Space) -> None:
    limits = {"params": 0.3 * small.baseline.params, "macs": 0.4 * small.baseline.macs}
    (points,) = small.lattice.enumerate()
    kept = caps.keeps_exact_caps(small, limits, points)
    counts = cost.count(small.plan, points)
    expected = (counts.params <= limits["params"]) & (counts.macs <= limits["macs"])
    assert torch.equal(kept, torch.from_numpy(expected))
    assert 0 < int(kept.sum()) < 512


def test_the_first_point_is_the_smallest_in_every_cost(small: Space) -> None:
    """So that caps which hold singly hold together."""
    (points,) = small.lattice.enumerate()
    counts = cost.count(small.plan, points)._asdict()
    assert all(values.min() == values[0] for values in counts.values())
    caps.check_exact_caps(small, {name: float(values[0]) for name, values in counts.items()})


def test_a_cap_below_the_smallest_network_says_which_that_is(small: Space) -> None:
    (points,) = small.lattice.enumerate()
    fewest = int(cost.count(small.plan, points).params.min())
    with pytest.raises(SsrError, match=f"cap.params=10.*has {fewest:,} parameters"):
        caps.check_exact_caps(small, {"params": 10})


def test_what_takes_all_of_a_cap_on_latency_keeps_to_it_whatever_floating_point_makes_of_it(
    small: Space,
) -> None:
    for ms in (0.1 + 0.01 * n for n in range(300)):
        time = torch.tensor(ms, dtype=torch.float64).log()
        assert float(time) <= caps.log_limit(ms) < float(time) + 1e-8
        caps.check_latency_cap(small, ms, lambda points, time=time: time.repeat(len(points)))
    with pytest.raises(SsrError, match=r"takes about 3.09 ms"):
        caps.check_latency_cap(small, 3.08, lambda points: time.repeat(len(points)))


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        (
            asked(surrogate__outcome=Outcome.val_loss, objective__kind=Objective.smallest),
            "are of the score",
        ),
        (
            asked(surrogate__fidelity=True, surrogate__kernel=Kernel.additive),
            "surrogate.kernel=joint",
        ),
        (
            asked(surrogate__fidelity=True, acquisition__kind=Acquisition.qlognehvi),
            "does not know of fidelities",
        ),
        (asked(min_gain=0.1, acquisition__kind=Acquisition.random), "says nothing of a gain"),
        (asked(latency__file="phone.json"), "latency=file in a command"),
        (asked(runs__file="table.csv"), "runs=table in a command"),
        (
            asked(acquisition__prefilter=2, acquisition__kind=Acquisition.thompson),
            r"must lie between batch \(4\) and 10000",
        ),
        (
            asked(acquisition__prefilter=10**6, acquisition__kind=Acquisition.qlognehvi),
            "prefilter is 1000000",
        ),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    small: Space, conf: SearchConfig, words: str
) -> None:
    with pytest.raises(SsrError, match=words):
        caps.check(small, conf, ACCURACY)


@pytest.mark.parametrize(
    ("conf", "key"),
    [
        (asked(surrogate__outcome=Outcome.val_loss, cap__drop="2"), "outcome=score with"),
        (asked(cap__params="3"), "no network keeps to cap.params=3"),
        (asked(cap__latency_ms="soon"), "cap.latency_ms=soon is not a limit"),
        (asked(cap__drop="soon"), "cap.drop=soon is not a limit"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_trained(
    small: Space, conf: SearchConfig, key: str
) -> None:
    with pytest.raises(SsrError, match=key):
        caps.check(small, conf, ACCURACY)


def test_shares_of_what_is_measured_later_pass(small: Space) -> None:
    caps.check(small, asked(cap__latency_ms="50%", cap__drop="1%", cap__params="50%"), ACCURACY)


def test_a_cost_that_is_the_same_for_all_networks_is_refused() -> None:
    plan = planning.trace(CifarResNet(14), (3, 8, 8), kind="superblock", multiple=4)
    wide = space.from_plan(plan, width_steps=4)
    for axis in (CostAxis.params, CostAxis.macs, CostAxis.latency_ms):
        caps.check_cost_varies(wide, axis)
    with pytest.raises(SsrError, match=r"have 14 GeMMs, .* type objective.cost=params or macs"):
        caps.check_cost_varies(wide, CostAxis.gemms)


def test_gemms_that_depth_changes_may_be_traded(small: Space) -> None:
    caps.check_cost_varies(small, CostAxis.gemms)
