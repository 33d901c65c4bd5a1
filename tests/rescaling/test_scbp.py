"""SCBP keeps its constraints, spreads over the range, and repeats; without enumerating too much."""

from __future__ import annotations

import itertools
import logging
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from ssr_exp.config import ModifiersConf, Preference
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, rescale, scbp, set_product, sets
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from tests.rescaling import probes

RATIOS = [0.5, 0.625, 0.75, 0.875, 1.0]


def traced(name: str, kind: str = "superblock", *frozen: str) -> tuple[nn.Module, Plan]:
    return probes.seed_of(name, frozen=frozen, kind=kind)


def derived(plan: Plan, **values: object) -> list[Architecture]:
    conf = ModifiersConf(kind="scbp", **({"count": 6} | values))  # type: ignore[arg-type]
    return sets.expand(plan, conf)


def shares(plan: Plan, architecture: Architecture) -> tuple[float, float]:
    own, full = (cost.count_one(plan, a) for a in (architecture, plan.baseline))
    return own.params / full.params, own.macs / full.macs


def kept(plan: Plan, architecture: Architecture) -> list[tuple[int, int]]:
    """List the channels of each segment that has a width to choose, kept and full."""
    return [
        (int(own.sizes[at].max()), int(own.sizes[-1].max()))
        for own, at in zip(plan.widths, architecture.widths, strict=True)
        if len(own) > 1
    ]


def is_monotone(plan: Plan, architecture: Architecture) -> bool:
    pairs = itertools.pairwise(kept(plan, architecture))
    return all(one[0] <= other[0] for one, other in pairs if one[1] <= other[1])


def test_models_spread_over_macs_where_only_these_are_limited() -> None:
    _, plan = traced("resnet18")
    found = derived(plan, params=None, macs=[0.3, 0.7], count=4)[1:]
    macs = [shares(plan, architecture)[1] for architecture in found]
    assert macs[0] > 0.65 and macs[-1] < 0.35 and macs == sorted(macs, reverse=True)


def all_of(plan: Plan, ratios: list[float]) -> set[Architecture]:
    """Round every combination of ratios by the plan's own rule."""
    full = [1.0] * len(plan.segments)
    choices = [ratios if len(widths) > 1 else [1.0] for widths in plan.widths]
    return {plan.effective(Modifiers(full, list(w))) for w in itertools.product(*choices)}


@pytest.mark.parametrize(
    ("name", "kind"), [("resnet8", "superblock"), ("resnet18", "stage"), ("resnet18", "superblock")]
)
def test_the_seed_comes_first_then_derived_models_from_large_to_small(name: str, kind: str) -> None:
    _, plan = traced(name, kind)
    seed, *found = derived(plan)
    assert seed == plan.baseline
    assert len(found) == len({*found, seed}) - 1 == 6
    sizes = [cost.count_one(plan, a).params for a in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(a.blocks == plan.baseline.blocks for a in found)


@pytest.mark.parametrize("exact", [set_product.EXACT, 0])
@pytest.mark.parametrize("name", ["resnet8", "resnet18"])
def test_all_constraints_hold(name: str, exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_product, "EXACT", exact)
    monkeypatch.setattr(set_product, "DRAWS", 1 << 15)
    _, plan = traced(name)
    for architecture in derived(plan, params=[0.4, 0.6], macs=[0.3, 0.5])[1:]:
        params, macs = shares(plan, architecture)
        assert 0.4 <= params <= 0.6 and 0.3 <= macs <= 0.5
        assert is_monotone(plan, architecture)
        assert all(channels / full in RATIOS for channels, full in kept(plan, architecture))


def test_the_exact_search_finds_what_brute_force_finds() -> None:
    _, plan = traced("resnet8")
    conf = ModifiersConf(kind="scbp", c_ratios=[0.5, 1.0])
    limits = scbp.Limits((0.3, 0.6), (0.0, 0.5))
    for monotone in (True, False):
        conf.monotone = monotone
        product = set_product.from_plan(plan, conf)
        found = scbp.search(product, limits, seed=0)
        expected = {
            a
            for a in all_of(plan, conf.c_ratios)
            if 0.3 <= shares(plan, a)[0] <= 0.6
            and shares(plan, a)[1] <= 0.5
            and (is_monotone(plan, a) or not monotone)
        }
        architectures = product.architectures(found.choices)
        assert len(architectures) == len(set(architectures))
        assert set(architectures) == expected
        costs = [cost.count_one(plan, a) for a in architectures]
        assert [(c.params, c.macs) for c in costs] == list(
            zip(found.params.tolist(), found.macs.tolist(), strict=True)
        )


def test_a_derived_model_has_the_cost_that_was_counted() -> None:
    network, plan = traced("resnet18")
    architecture = derived(plan, count=1)[1]
    built = rescale.skeleton(network, plan, architecture)
    widths = dict(zip((s.name for s in plan.segments), plan.channels(architecture), strict=True))
    assert widths["3x3:3-64"] == built.conv1.out_channels < 64
    assert widths["1x1:64-128"] == built.layer2[0].downsample[0].out_channels < 128
    probes.assert_exact(plan, architecture, built)


@pytest.mark.parametrize("prefer", Preference)
def test_sizes_go_in_equal_steps_over_the_whole_range(prefer: Preference) -> None:
    _, plan = traced("resnet18")
    found = [math.log(shares(plan, a)[0]) for a in derived(plan, prefer=prefer)[1:]]
    assert math.isclose(found[0], math.log(0.7), abs_tol=0.03)
    assert math.isclose(found[-1], math.log(0.3), abs_tol=0.03)
    steps = -np.diff(found)
    assert np.allclose(steps, steps.mean(), atol=2 * scbp.NEAR + 1e-9)


def test_of_the_networks_of_a_size_the_preferred_one_is_taken() -> None:
    _, plan = traced("resnet8")
    values = {"c_ratios": [0.5, 0.75, 1.0], "count": 1, "monotone": False}
    rivals = sorted(all_of(plan, values["c_ratios"]))  # type: ignore[arg-type]
    counts = cost.count(plan, cost.encode(plan, rivals))
    share = counts.params / cost.count_one(plan, plan.baseline).params
    inside = np.log(share[(share >= 0.3) & (share <= 0.7)])
    middle = (inside.min() + inside.max()) / 2
    near = [rivals[i] for i in np.flatnonzero(abs(np.log(share) - middle) <= scbp.NEAR)]
    (even,) = derived(plan, **values)[1:]
    (lean,) = derived(plan, **values, prefer=Preference.macs)[1:]
    assert even in near and lean in near

    def spread(architecture: Architecture) -> float:
        return round(float(np.std([c / full for c, full in kept(plan, architecture)])), 9)

    assert spread(even) == min(map(spread, near))
    assert cost.count_one(plan, lean).macs == min(cost.count_one(plan, a).macs for a in near)


def test_widths_may_fall_anywhere_if_asked_to() -> None:
    _, plan = traced("resnet18")
    values = {"params": [0.3, 0.7], "macs": [0.3, 0.35], "prefer": Preference.macs, "count": 20}
    assert all(is_monotone(plan, a) for a in derived(plan, **values))
    assert not all(is_monotone(plan, a) for a in derived(plan, **values, monotone=False))


@pytest.mark.slow
def test_draws_from_a_product_beyond_enumeration_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_product, "DRAWS", 1 << 16)
    _, plan = traced("resnet50")
    conf = ModifiersConf(kind="scbp", count=8)
    product = set_product.from_plan(plan, conf)
    assert product.size > 10**11 and not product.is_exact
    found = derived(plan, count=8)
    assert found == derived(plan, count=8)
    assert len(set(found)) == 9
    sizes = [shares(plan, a)[0] for a in found[1:]]
    assert np.allclose(sizes, np.geomspace(0.7, 0.3, 8), rtol=0.03)
    assert all(is_monotone(plan, a) for a in found)


def test_draws_differ_with_their_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_product, "EXACT", 0)
    monkeypatch.setattr(set_product, "DRAWS", 1 << 12)
    _, plan = traced("resnet18")
    lean = {"prefer": Preference.macs, "count": 3}
    assert derived(plan, **lean) == derived(plan, **lean)
    assert derived(plan, **lean) != derived(plan, **lean, draw_seed=1)


def test_nothing_that_was_drawn_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    _, plan = traced("resnet8")
    conf = ModifiersConf(kind="scbp", c_ratios=[0.5, 1.0], monotone=False)
    limits = scbp.Limits(scbp.NO_LIMIT, scbp.NO_LIMIT)
    every = scbp.search(set_product.from_plan(plan, conf), limits, seed=0)
    monkeypatch.setattr(set_product, "EXACT", 0)
    monkeypatch.setattr(set_product, "DRAWS", 1 << 14)
    drawn = scbp.search(set_product.from_plan(plan, conf), limits, seed=0)
    as_sets = [{tuple(row) for row in found.choices.tolist()} for found in (every, drawn)]
    assert len(drawn.params) == len(as_sets[1])
    assert as_sets[0] == as_sets[1]  # few enough that draws meet all of them


def test_c_ratios_that_round_alike_give_one_network() -> None:
    _, plan = traced("resnet8")
    same = derived(plan, c_ratios=[0.5, 0.51, 0.500001, 1.0], params=None, count=10**4)
    assert same == derived(plan, c_ratios=[1.0, 0.5], params=None, count=10**4)
    assert len(same) == len(set(same))


def test_a_superblock_may_have_c_ratios_of_its_own() -> None:
    _, plan = traced("resnet18")
    (name,) = [s.name for s in plan.segments if s.name.startswith("3x3:512-512")]
    number = [s.name for s in plan.segments].index(name)
    for pattern in (name, "3x3:512-5*"):
        own = {"3x3*": [0.75], pattern: [0.25]}
        (only,) = derived(plan, c_ratios_of=own, params=None, monotone=False, count=1)[1:]
        widths = [round(c / full, 2) for c, full in kept(plan, only)]
        assert widths.count(0.25) == 1 and set(widths) == {0.25, 0.75}
        assert only.widths[number] < plan.baseline.widths[number]


def test_frozen_segments_stay_full() -> None:
    _, plan = traced("resnet20", "stage", "stage2")
    found = derived(plan, count=4)
    assert len(found) > 1
    assert {a.widths[1] for a in found} == {plan.baseline.widths[1]}


def test_fewer_networks_than_asked_for_are_said(caplog: pytest.LogCaptureFixture) -> None:
    _, plan = traced("resnet8", "stage")
    with caplog.at_level(logging.WARNING):
        found = derived(plan, c_ratios=[0.5, 1], params=None, count=50)
    assert len(found) < 51
    assert f"modifiers.count=50, but only {len(found) - 1} networks" in caplog.text


def test_the_nearest_network_is_named_where_none_meets_the_constraints() -> None:
    _, plan = traced("resnet18")
    with pytest.raises(SsrError) as error:
        derived(plan, params=[0.6, 0.7], macs=[0.01, 0.1])
    said = str(error.value)
    assert "has 60% to 70% of the parameters and 1% to 10% of the MACs" in said
    assert "widen modifiers.params or modifiers.macs" in said
    found = re.search(r"nearest is (\S+) with (\S+)% of the parameters and (\S+)% of the M", said)
    assert found
    code, params, macs = found.groups()
    own = shares(plan, codes.parse(plan, code))
    assert [f"{100 * share:.1f}" for share in own] == [params, macs]
    with pytest.raises(SsrError, match=r"has 1% to 2% of the parameters; .*: widen modifiers.par"):
        derived(plan, params=[0.01, 0.02])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"c_ratios": []}, "modifiers.c_ratios needs shares of channels"),
        ({"c_ratios": [0.0, 1.0]}, "above 0 and at most 1"),
        ({"c_ratios": [1.5]}, "not [1.5]"),
        ({"c_ratios": [math.nan]}, "not [nan]"),
        ({"c_ratios_of": {"3x3*": [2.0]}}, "modifiers.c_ratios_of for 3x3"),
        ({"c_ratios_of": {"3x3*": 0.5}}, "for instance [0.5,0.75,1], not 0.5."),
        ({"c_ratios_of": {"3x3*": ["a"]}}, "not ['a']"),
        ({"c_ratios_of": {"5x5*": [0.5]}}, "no segment is named '5x5*'; there are 3x3:3-16, "),
        ({"params": [0.5]}, "modifiers.params is [0.5]; it must be the least and the most"),
        ({"params": [0.7, 0.3]}, "modifiers.params is [0.7, 0.3]"),
        ({"macs": [0.5, 1.5]}, "modifiers.macs is [0.5, 1.5]"),
        ({"macs": [-0.5, 0.5]}, "or null for no limit"),
        ({"count": 0}, "modifiers.count is 0"),
        ({"c_ratios_of": {"3x3:64-64": [0.25]}, "c_ratios": [1.0]}, "modifiers.monotone=false"),
        ({"c_ratios": [1.0], "monotone": False}, "leave nothing but the seed network"),
    ],
)
def test_what_cannot_be_met_is_said_in_a_sentence(values: dict[str, object], said: str) -> None:
    with pytest.raises(SsrError, match=re.escape(said)):
        derived(traced("resnet8")[1], **values)


def test_a_network_without_a_width_to_choose_is_refused() -> None:
    _, plan = traced("resnet8", "stage", "stage1", "stage2", "stage3")
    with pytest.raises(SsrError, match="no segment of this network has a width to choose"):
        derived(plan)


def test_more_superblocks_than_numpy_has_axes_are_all_looked_at() -> None:
    plan = probes.plan_of("resnet20")
    count = 70  # options: two of the first and the last superblock, and one of all others
    blocks = [SimpleNamespace(options=range(2 if at in (0, 69) else 1)) for at in range(count)]
    product = set_product.SetProduct(plan, tuple(blocks), monotone=False)  # type: ignore[arg-type]
    columns = np.stack(product._numbered(np.arange(product.size)), axis=1)
    assert columns.shape == (4, count) and len({*map(tuple, columns.tolist())}) == 4
    assert columns[:, 1:69].sum() == 0
