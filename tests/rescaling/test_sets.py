"""Sets hold each effective architecture once, in a fixed order."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from ssr_exp.config import ModifiersConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, planning, sets
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

THREE = ("depth", "width", "joint")


plan_of = probes.plan_of


def expanded(plan: Plan, kind: str, **values: object) -> list:
    return sets.expand(plan, ModifiersConf(kind=kind, **values))  # type: ignore[arg-type]


def written(plan: Plan, kind: str, **values: object) -> list[str]:
    return [codes.write(plan, architecture) for architecture in expanded(plan, kind, **values)]


@pytest.mark.parametrize(("name", "count"), [("resnet20", 7), ("resnet18", 15)])
@pytest.mark.parametrize("kind", THREE)
def test_sentinels_are_the_non_empty_subsets_of_segments(name: str, count: int, kind: str) -> None:
    plan = plan_of(name)
    found = expanded(plan, f"sentinel_{kind}")
    lowered = [tuple(map(int.__lt__, a.blocks, plan.baseline.blocks)) for a in found]
    thinned = [tuple(map(int.__lt__, a.widths, plan.baseline.widths)) for a in found]
    assert len(found) == len(set(found)) == count
    subsets = set(itertools.product([False, True], repeat=len(plan.segments)))
    full = {(False,) * len(plan.segments)}
    assert set(lowered) == (full if kind == "width" else subsets - full)
    assert set(thinned) == (full if kind == "depth" else subsets - full)
    if kind == "joint":
        assert lowered == thinned


@pytest.mark.parametrize(("name", "count"), [("resnet20", 22), ("resnet18", 46)])
def test_all_sentinels_are_the_baseline_and_the_three_sets(name: str, count: int) -> None:
    plan = plan_of(name)
    found = expanded(plan, "sentinel_all")
    assert len(found) == len(set(found)) == count
    assert found[0] == plan.baseline
    assert found[1:] == [a for kind in THREE for a in expanded(plan, f"sentinel_{kind}")]


def test_sentinels_of_resnet56_keep_one_block_or_a_quarter_of_the_channels() -> None:
    plan = plan_of("resnet56")
    assert written(plan, "sentinel_joint") == [
        "d1-9-9_w4-32-64",
        "d9-1-9_w16-8-64",
        "d9-9-1_w16-32-16",
        "d1-1-9_w4-8-64",
        "d1-9-1_w4-32-16",
        "d9-1-1_w16-8-16",
        "d1-1-1_w4-8-16",
    ]


def test_low_modifiers_can_be_chosen() -> None:
    plan = plan_of("resnet56")
    chosen = written(plan, "sentinel_joint", low_depth=1 / 3, low_width=0.5)
    assert chosen[0] == "d3-9-9_w8-32-64"


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_some_sentinel_has_at_least_65_percent_fewer_parameters(name: str) -> None:
    plan = plan_of(name)
    full, *others = (cost.count_one(plan, a).params for a in expanded(plan, "sentinel_all"))
    assert sum(n <= 0.35 * full for n in others) >= 3


def test_a_network_of_single_blocks_has_no_depth_sentinels() -> None:
    plan = plan_of("resnet8")
    with pytest.raises(SsrError, match="no segment of this network can get lower in depth"):
        expanded(plan, "sentinel_depth")
    assert len(expanded(plan, "sentinel_width")) == 7
    assert expanded(plan, "sentinel_joint") == expanded(plan, "sentinel_width")
    assert len(expanded(plan, "sentinel_all")) == 8


@pytest.mark.parametrize("kind", [k for k in sets.KINDS if k != "explicit"])
def test_frozen_segments_stay_full_in_every_set(kind: str) -> None:
    plan = plan_of("resnet20", "stage2")
    architectures = expanded(plan, kind)
    assert kind != "sentinel_all" or len(architectures) == 1 + 3 * 3  # half as many, and one
    for architecture in architectures:
        assert architecture.blocks[1] == plan.baseline.blocks[1]
        assert architecture.widths[1] == plan.baseline.widths[1]
        assert plan.channels(architecture)[1] == 32


@pytest.mark.parametrize(("together", "count"), [(1, 13), (2, 22), (3, 22), (None, 22)])
def test_few_sentinels_are_each_segment_and_all_together(together: int | None, count: int) -> None:
    plan = plan_of("resnet20")
    found = sets.expand(plan, ModifiersConf(kind="sentinel_all", together=together))
    assert len(found) == count and plan.baseline in found
    assert sets.expand(plan, ModifiersConf(kind="sentinel_joint"))[-1] in found


@pytest.mark.parametrize("kind", sets.LOWERED)
def test_a_search_of_few_segments_begins_with_all_subsets(kind: str) -> None:
    plan = plan_of("resnet20")
    assert sets.expand(plan, ModifiersConf(kind), few=True) == expanded(plan, kind)


def test_a_search_of_many_segments_begins_with_each_alone_and_all_together() -> None:
    plan = planning.trace(CifarResNet(20), (3, 8, 8), multiple=4, kind="block")
    conf = ModifiersConf("sentinel_all")
    few = sets.expand(plan, conf, few=True)
    assert few == sets.expand(plan, ModifiersConf("sentinel_all", together=1))
    assert len(few) == 1 + 9 + 1  # nine blocks of one width each
    all_subsets = ModifiersConf("sentinel_width", together=9)
    assert len(sets.expand(plan, all_subsets, few=True)) == 2**9 - 1


def test_of_very_many_segments_neighbours_are_low_together() -> None:
    plan = planning.trace(CifarResNet(56), (3, 8, 8), multiple=4, kind="block")
    few = sets.expand(plan, ModifiersConf("sentinel_all"), few=True)
    assert few[0] == plan.baseline and len(few) == 1 + 16 + 1
    changed = [[w != full for w, full in zip(a.widths, few[0].widths, strict=True)] for a in few]
    assert np.sum(changed[1:-1], axis=0).tolist() == [1] * 27 and all(changed[-1])
    with pytest.raises(SsrError, match=r"get lower in depth; try modifiers=sentinel_width"):
        sets.expand(plan, ModifiersConf("sentinel_depth"), few=True)
    with pytest.raises(SsrError, match=r"12 are the most: type modifiers.together=1"):
        sets.expand(plan, ModifiersConf("sentinel_all"))


def test_nothing_is_left_of_a_network_that_is_all_frozen() -> None:
    plan = plan_of("resnet20", "stage1", "stage2", "stage3")
    with pytest.raises(SsrError, match="all of them are frozen"):
        expanded(plan, "sentinel_all")
    assert expanded(plan, "baseline") == [plan.baseline]


def test_uniform_sets_scale_all_segments_alike() -> None:
    plan = plan_of("resnet56")
    fractions = [0.25, 0.5, 1]
    assert written(plan, "uniform_width", fractions=fractions) == [
        "d9-9-9_w4-8-16",
        "d9-9-9_w8-16-32",
        "d9-9-9_w16-32-64",
    ]
    assert written(plan, "uniform_depth", fractions=fractions) == [
        "d2-2-2_w16-32-64",
        "d5-5-5_w16-32-64",
        "d9-9-9_w16-32-64",
    ]


def test_fractions_that_round_alike_give_one_network() -> None:
    plan = plan_of("resnet20")
    same = [0.25, 0.26, 0.251, 1e-9]
    assert written(plan, "uniform_width", fractions=same) == ["d3-3-3_w4-8-16", "d3-3-3_w4-4-4"]
    assert written(plan, "uniform_depth", fractions=[1e-9, 0.3]) == ["d1-1-1_w16-32-64"]


def test_compound_networks_take_about_their_share_of_the_macs() -> None:
    plan = plan_of("resnet56")
    fractions = [0.25, 0.5, 0.75]
    full = cost.count_one(plan, plan.baseline).macs
    for share, architecture in zip(
        fractions, expanded(plan, "compound", fractions=fractions), strict=True
    ):
        assert math.isclose(cost.count_one(plan, architecture).macs / full, share, rel_tol=0.3)
    assert expanded(plan, "compound", fractions=[1.0]) == [plan.baseline]


@pytest.mark.parametrize("kind", [k for k in sets.KINDS if k != "explicit"])
@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_every_set_repeats_and_names_each_network_once(name: str, kind: str) -> None:
    plan = plan_of(name)
    found = written(plan, kind)
    assert found == written(plan, kind)
    assert len(found) == len(set(found)) > 0
    if kind == "random":
        assert found != written(plan, kind, draw_seed=2)


def test_explicit_networks_are_asked_for_by_code_or_by_modifiers() -> None:
    plan = plan_of("resnet56")
    code = "d9-1-9_w16-8-64"
    by_shares = {"depth": [1.0, 0.1, 1.0], "width": [1.0, 0.25, 1.0]}
    assert written(plan, "explicit", network=code) == [code]
    assert written(plan, "explicit", network=f"resnet56_{code}") == [code]
    assert written(plan, "explicit", **by_shares) == [code]
    assert written(plan, "explicit", width=[1, 0.25, 1]) == ["d9-9-9_w16-8-64"]
    assert written(plan, "explicit", depth=[1, 0.1, 1]) == ["d9-1-9_w16-32-64"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "sentinels"}, "modifiers.kind=sentinels is unknown; choose one of baseline, "),
        ({"kind": "sentinels"}, "random, scbp, proposed."),
        ({"kind": "baseline", "file": "a.json"}, "type modifiers=proposed with it, not modifiers"),
        ({"kind": "explicit", "file": "a.json"}, "not modifiers=explicit"),
        ({"kind": "proposed", "network": "d3-3-3_w16-32-64"}, "type modifiers=explicit with them"),
        ({"kind": "proposed", "width": [1.0, 1.0, 1.0]}, "not modifiers=proposed"),
        ({"kind": "explicit"}, "needs modifiers.network=CODE"),
        ({"kind": "explicit", "width": [1.0]}, "3 depths and 1 widths"),
        ({"kind": "explicit", "depth": [1.0], "width": [1.0]}, "modifiers for 1 segments"),
        ({"kind": "explicit", "width": [1.0, -0.5, 1.0]}, "segment 2 is -0.5"),
        ({"kind": "explicit", "depth": [0.0, 1.0, 1.0]}, "depth modifier of segment 1 is 0"),
        ({"kind": "explicit", "depth": [0.01, 1.0, 1.0]}, "keeps none of the 3 blocks"),
        ({"kind": "explicit", "network": "d3_w16"}, "has 1 depth and 1 width, but"),
        ({"kind": "sentinel_width", "low_width": 0.0}, "width modifier of segment 1 is 0"),
        ({"kind": "sentinel_width", "low_width": 1.5}, "width modifier of segment 1 is 1.5"),
        ({"kind": "sentinel_all", "low_width": 0.0}, "width modifier of segment 1 is 0"),
        ({"kind": "sentinel_all", "low_depth": -1.0}, "modifiers.low_depth is -1"),
        ({"kind": "sentinel_all", "low_depth": 2.0}, "modifiers.low_depth is 2"),
        ({"kind": "sentinel_width", "low_width": 1.0}, "change nothing"),
        ({"kind": "sentinel_depth", "low_depth": 1.0}, "change nothing"),
        ({"kind": "uniform_width", "fractions": []}, "not []"),
        ({"kind": "uniform_depth", "fractions": [0.5, 0.0]}, "not [0.5, 0.0]"),
        ({"kind": "compound", "fractions": [1.5]}, "not [1.5]"),
        ({"kind": "compound", "fractions": [math.nan]}, "not [nan]"),
        ({"kind": "random", "count": 10**6}, "cannot draw 1000000 different networks"),
        ({"kind": "random", "params": [0.1, 0.3]}, "bound the networks of SCBP alone"),
        ({"kind": "random", "count": 0}, "cannot draw 0 different networks"),
    ],
)
def test_what_cannot_be_met_is_said_in_a_sentence(values: dict[str, object], said: str) -> None:
    with pytest.raises(SsrError, match=re.escape(said)):
        expanded(plan_of("resnet20"), **values)  # type: ignore[arg-type]


def test_subsets_of_too_many_segments_are_refused_and_not_listed() -> None:
    plan = probes.seed_of("resnet32", kind="block")[1]
    for kind in ("sentinel_width", "sentinel_all"):
        with pytest.raises(
            SsrError, match=r"this network has 15, and 12 are the most: .*at_most=12.*whole"
        ):
            expanded(plan, kind)
    assert len(set(expanded(plan, "random", count=3))) == 3


def test_segments_that_cannot_get_lower_are_in_no_subset() -> None:
    """Of channels, stages alone have blocks to leave out."""
    plan = planning.trace(CifarResNet(32), (3, 8, 8), multiple=4, kind="channels", depth=True)
    assert len(plan.segments) > sets.MOST_SENTINELS
    assert len(expanded(plan, "sentinel_depth")) == 7


def test_proposed_networks_are_those_of_the_codes_each_once() -> None:
    plan = plan_of("resnet20")
    wanted = ["d3-1-3_w16-32-64", "d1-1-1_w4-8-16"]
    conf = ModifiersConf(kind="proposed", file="it is not read here")
    found = sets.expand(plan, conf, proposed=[*wanted, wanted[0]])
    assert [codes.write(plan, architecture) for architecture in found] == wanted
    with pytest.raises(SsrError, match="is not a network code"):
        sets.expand(plan, conf, proposed=["resnet20"])
