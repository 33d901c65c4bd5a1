"""What the latency benchmark compares; no test looks at how long anything takes."""

from __future__ import annotations

import pytest

from benchmarks import latency
from benchmarks.latency import Claim
from benchmarks.measure import Figure
from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning, seeds
from ssr_exp.rescaling.plan import Plan


def planned(name: str) -> Plan:
    shape = latency.SHAPE
    return planning.seed_and_plan(
        ModelConf(name), SegmentConf(), num_classes=10, input_shape=shape
    )[1]


@pytest.mark.parametrize("name", ["resnet14", "resnet56", "resnet18"])
def test_three_ways_to_rescale_are_compared_at_equal_parameters(name: str) -> None:
    plan = planned(name)
    seed, found = plan.baseline, latency.chosen(plan, 0.35)
    assert list(found) == [latency.DEPTH, latency.WIDTH, latency.JOINT]
    depth, width, joint = found.values()
    assert depth.widths == seed.widths and depth.blocks != seed.blocks
    assert width.blocks == seed.blocks and width.widths != seed.widths
    assert joint.blocks != seed.blocks and joint.widths != seed.widths
    params = [cost.count_one(plan, own).params for own in found.values()]
    assert max(params) <= 1.05 * min(params)


def test_depth_comes_near_to_the_target_or_as_near_as_it_can() -> None:
    for name, blocks in (("resnet56", (3, 3, 3)), ("resnet18", (1, 1, 1, 1))):
        assert latency.chosen(planned(name), 0.35)[latency.DEPTH].blocks == blocks


def test_a_network_without_blocks_to_remove_is_refused() -> None:
    with pytest.raises(SsrError, match="more blocks"):
        latency.chosen(planned("resnet8"), 0.35)


def test_channels_are_of_their_multiple_and_not_of_the_next() -> None:
    seed = seeds.build(ModelConf("resnet14"), num_classes=10, input_shape=latency.SHAPE)
    for multiple in latency.Size().multiples:
        plan = planning.trace(seed, latency.SHAPE, multiple=multiple)
        own = latency.thinned(plan)
        assert own.blocks == plan.baseline.blocks
        assert all(channels % multiple == 0 for channels in plan.channels(own))
        assert multiple == 16 or all(channels % (2 * multiple) for channels in plan.channels(own))


def test_a_claim_is_held_against_its_own_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"a: seed over depth": 3.5, "b: seed over depth": 2.0, "b: other": 9.0}
    figures = [Figure("latency", name, value, "x", (1.0, 4.0)) for name, value in rows.items()]
    found = latency.held(Claim("three times", (": seed over depth",), 3.0), figures)
    assert (found.value, found.unit, found.met) == (1, "of 2", None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["holds", "not"]


def test_batches_take_their_own_number_of_turns() -> None:
    size = latency.Size(repeats=7, repeats_of_batches=2)
    assert [size.turns(batch) for batch in (1, 2, 64)] == [7, 2, 2]
