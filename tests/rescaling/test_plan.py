"""What modifiers mean in whole blocks and channels."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import planning
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

NETWORKS = ["resnet8", "resnet20", "resnet18", "Squeeze", "Inverted", "Dense", "Res2", "FlatHead"]
Fractions = st.floats(min_value=1e-6, max_value=1)
plan_of = probes.plan_of


def at(plan: Plan, segment: int, depth: float, width: float) -> Architecture:
    depths, widths = ([1.0] * len(plan.segments) for _ in range(2))
    depths[segment], widths[segment] = depth, width
    return plan.effective(Modifiers(depths, widths))


@pytest.mark.parametrize("name", NETWORKS)
def test_modifiers_of_any_option_of_any_segment_round_back_to_it(name: str) -> None:
    plan = plan_of(name)
    for s, segment in enumerate(plan.segments):
        options = itertools.product(range(1, len(segment.blocks) + 1), range(len(plan.widths[s])))
        for blocks, position in options:
            every, widths = list(plan.baseline.blocks), list(plan.baseline.widths)
            every[s], widths[s] = blocks, position
            architecture = Architecture(tuple(every), tuple(widths))
            own = plan.canonical(architecture)
            assert plan.effective(plan.modifiers(architecture)) == own
            assert plan.effective(plan.modifiers(own)) == own


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(Fractions, Fractions), min_size=4, max_size=4))
def test_rounding_twice_is_rounding_once(pairs: list[tuple[float, float]]) -> None:
    plan = plan_of("resnet18")
    least = [1 / len(segment.blocks) for segment in plan.segments]
    depth = [max(d, low) for (d, _), low in zip(pairs, least, strict=True)]
    once = plan.effective(Modifiers(depth, [w for _, w in pairs]))
    assert plan.effective(plan.modifiers(once)) == once


@settings(max_examples=50, deadline=None)
@given(Fractions, st.sampled_from([1, 3, 8, 24]))
def test_channels_round_half_up_to_the_multiple(fraction: float, multiple: int) -> None:
    plan = segments_of_resnet8(multiple)
    architecture = plan.effective(Modifiers([1] * 3, [fraction] * 3))
    for channels, full in zip(plan.channels(architecture), (16, 32, 64), strict=True):
        assert channels in (nearest(fraction, full, multiple, e) for e in (-1e-8, 0, 1e-8))


def nearest(fraction: float, full: int, multiple: int, nudge: float) -> int:
    if fraction + nudge >= 1:
        return full
    units = math.floor(fraction * full / multiple + 0.5 + nudge)
    return min(max(units, 1) * multiple, full)


@cache
def segments_of_resnet8(multiple: int) -> Plan:
    return planning.trace(CifarResNet(8), (3, 8, 8), multiple=multiple)


@settings(max_examples=50, deadline=None)
@given(Fractions, Fractions)
def test_a_larger_fraction_never_gives_less(one: float, other: float) -> None:
    plan = plan_of("resnet18")
    low, high = sorted((one, other))
    for s, segment in enumerate(plan.segments):
        least = 1 / len(segment.blocks)
        few, many = (at(plan, s, max(f, least), f) for f in (low, high))
        assert few.blocks[s] <= many.blocks[s]
        assert (plan.sizes(few) <= plan.sizes(many)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_widths_ascend_in_multiples_up_to_the_seeds(name: str) -> None:
    plan = plan_of(name)
    full = plan.effective(Modifiers.full(len(plan.segments)))
    assert full == plan.baseline
    assert (plan.sizes(full) == plan.full_sizes).all()
    for widths in plan.widths:
        assert (np.diff(widths.thresholds) > 0).all()
        assert (np.diff(widths.sizes, axis=0) >= 0).all()
        assert len(np.unique(widths.sizes, axis=0)) == len(widths)
        for column, number in enumerate(widths.groups):
            most = plan.groups[number].size
            multiple = math.lcm(plan.multiple, plan.groups[number].multiple)
            for size in widths.sizes[:, column].tolist():
                assert size == most or (size % multiple == 0 and multiple <= size < most)


def test_blocks_round_half_up() -> None:
    plan = plan_of("resnet56")
    shares = [1 / 18, 0.1, 1.5 / 9, 0.5, 4.5 / 9, 0.55, 1]
    assert [at(plan, 0, share, 1).blocks[0] for share in shares] == [1, 1, 2, 5, 5, 5, 9]


def test_tied_dimensions_share_one_group() -> None:
    plan = plan_of("resnet20")
    assert {group.size for group in plan.groups} == {16, 32, 64}
    for number, segment in enumerate(plan.segments):
        stream = [g for g, _ in segment.channels.parts]
        assert [plan.owners[g] for g in stream] == [number]


def test_things_in_blocks_are_placed_and_others_are_not() -> None:
    plan = plan_of("resnet20")
    assert plan.place("stage2.1.bn1.weight") == (1, 1)
    assert plan.place("stage2.1") == (1, 1)
    assert plan.place("stage2") is plan.place("fc.weight") is None


@pytest.mark.parametrize("count", [1, 2, 4])
def test_modifiers_of_the_wrong_length_name_the_segments(count: int) -> None:
    said = rf"modifiers for {count} segments.* has 3 \(stage1, stage2, stage3\)"
    with pytest.raises(SsrError, match=said):
        plan_of("resnet20").effective(Modifiers.full(count))


def test_a_depth_that_keeps_no_block_names_the_least_that_does() -> None:
    plan = plan_of("resnet56")
    with pytest.raises(SsrError, match=r"depth 0\.05 keeps none of the 9 blocks of segment stage2"):
        at(plan, 1, 0.05, 1)
    with pytest.raises(SsrError) as error:
        at(plan, 1, 0.05, 1)
    least = float(str(error.value).split("the least is ")[1].split(" ")[0])
    assert at(plan, 1, least, 1).blocks[1] == 1


@pytest.mark.parametrize(("depth", "width"), [(0.5, 1.0), (1.0, 0.5)])
def test_a_frozen_segment_takes_no_modifier_but_one(depth: float, width: float) -> None:
    plan = plan_of("resnet20", "stage2")
    with pytest.raises(SsrError, match=f"stage2 is frozen.*depth {depth:g} and width {width:g}"):
        at(plan, 1, depth, width)
    assert at(plan, 1, 1, 1) == plan.baseline
