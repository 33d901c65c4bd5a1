"""Groups of channels as segments: every network once, whatever blocks are left out."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice, planning, rescale, sets
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.rescaling.unet import UNet
from tests.rescaling import probes

PROBES = ["Inverted", "Grouped", "Dense", "Squeeze", "Tapped", "hierarchy", "one_weight", "growing"]
DEEP = ["resnet14", "Inverted", "Squeeze"]


@cache
def planned(name: str, *, depth: bool = True) -> tuple[nn.Module, Plan]:
    if name in probes.names():
        network, shape = probes.planned(name)[0], probes.SHAPE
    else:
        with torch.device("meta"):
            network = UNet(num_classes=4, width=8) if name == "unet" else CifarResNet(14)
        shape = (3, 32, 32)
    return network, planning.trace(network, shape, multiple=4, kind="channels", depth=depth)


def drawn(plan: Plan, count: int) -> list[Architecture]:
    """Draw blocks and widths of each segment on their own, whatever is left out."""
    draw = random.Random(0)
    return [
        Architecture(
            tuple(draw.randint(s.fewest, len(s.blocks)) for s in plan.segments),
            tuple(draw.randrange(len(widths)) for widths in plan.widths),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", [*DEEP, "unet", *(p for p in PROBES if p not in DEEP)])
def test_what_is_counted_is_built_and_codes_parse_back(name: str) -> None:
    network, plan = planned(name)
    probes.assert_disjoint(plan)
    for architecture in drawn(plan, 3):
        one, code = plan.canonical(architecture), codes.write(plan, architecture)
        assert plan.canonical(one) == one
        assert codes.parse(plan, code) == codes.parse(plan, f"x_{code}") == one
        assert codes.write(plan, one) == code
        assert cost.count_one(plan, architecture) == cost.count_one(plan, one)
        assert plan.effective(plan.modifiers(one)) == one
        probes.assert_exact(plan, one, rescale.skeleton(network, plan, one))


@pytest.mark.parametrize("name", DEEP)
def test_the_width_of_a_block_that_is_left_out_says_nothing(name: str) -> None:
    network, plan = planned(name)
    assert plan.inner
    for segment, (stage, block) in plan.inner.items():
        blocks = list(plan.baseline.blocks)
        blocks[stage] = block
        full = Architecture(tuple(blocks), plan.baseline.widths)
        widths = list(full.widths)
        widths[segment] = 0
        narrow = Architecture(full.blocks, tuple(widths))
        assert plan.canonical(full) == plan.canonical(narrow)
        assert plan.channels(full)[segment] == 0
        shapes = [probes.shapes(rescale.skeleton(network, plan, a)) for a in (full, narrow)]
        assert shapes[0] == shapes[1]
        kept = Architecture((*blocks[:stage], block + 1, *blocks[stage + 1 :]), tuple(widths))
        assert plan.canonical(kept).widths[segment] == plan.channels(kept)[segment] * 0
        assert plan.channels(kept)[segment] > 0


@pytest.mark.parametrize("name", DEEP)
def test_the_lattice_holds_every_network_once(name: str) -> None:
    plan = planned(name)[1]
    own = lattice.from_plan(plan, width_steps=2)
    assert own.size < np.prod(own.shape)
    points = np.concatenate(list(own.enumerate(1000)))
    listed = cost.decode(plan, points)
    assert len(set(listed)) == len(listed) == own.size
    assert (own.numbers(points) == np.arange(own.size)).all() and own.hold(points).all()
    assert listed[-1] == plan.baseline and listed[0].blocks == plan.smallest.blocks
    grids = np.meshgrid(*(np.arange(k) for k in own.shape), indexing="ij")
    every = [o[grid.ravel()] for o, grid in zip(own.options, grids, strict=True)]
    if len(every[0]) < 1e6:
        assert set(cost.decode(plan, np.stack(every, axis=1))) == set(listed)
    assert len({codes.write(plan, a) for a in own.sample(50, seed=0)}) == 50


def test_each_number_of_blocks_is_as_likely_to_be_drawn_and_all_networks_are_in_the_end() -> None:
    own = lattice.from_plan(planned("resnet14")[1], width_steps=2)
    drawn = own.sample(200, seed=0)
    assert len(set(drawn)) == 200 and drawn == own.sample(200, seed=0) != own.sample(200, seed=1)
    assert 80 <= sum(one.blocks[0] == 1 for one in drawn) <= 120
    small = lattice.from_plan(planned("Squeeze")[1], width_steps=1)
    assert len(set(small.sample(small.size, seed=0))) == small.size


def test_depth_that_no_block_allows_is_said() -> None:
    plan = planning.trace(CifarResNet(8), (3, 8, 8), multiple=4, kind="channels", depth=True)
    assert "segment.depth=true changes nothing: no block of it can be left out" in plan.remarks
    assert codes.write(plan, plan.baseline).startswith("w16-")


@pytest.mark.parametrize(("name", "fewer"), [("unet", 10), ("resnet14", 0), ("Inverted", 0)])
def test_layers_of_a_plain_stage_share_their_width_and_that_is_said(name: str, fewer: int) -> None:
    own, shared = planned(name, depth=False)[1], planned(name)[1]
    assert len(own.segments) - len(shared.segments) == fewer
    said = [remark for remark in shared.remarks if "layers of a stage share one width" in remark]
    assert len(said) == bool(fewer) and all(f"{fewer} widths fewer" in remark for remark in said)


def test_numbers_beyond_64_bits_are_found_again() -> None:
    with torch.device("meta"):
        network = CifarResNet(56)
    plan = planning.trace(network, (3, 32, 32), multiple=4, kind="channels", depth=True)
    own = lattice.from_plan(plan)
    assert own.size > 2**63
    some = cost.encode(plan, own.sample(50, seed=0))
    assert (own.points(own.numbers(some)) == some).all()
    ends = own.points([0, own.size - 1])
    assert own.numbers(ends).tolist() == [0, own.size - 1]


def test_draws_that_fail_are_filled_up_in_the_order_of_a_lattice_beyond_64_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.device("meta"):
        network = CifarResNet(56)
    plan = planning.trace(network, (3, 32, 32), multiple=4, kind="channels", depth=True)
    own = lattice.from_plan(plan)
    monkeypatch.setattr(lattice, "TRIES", 0)
    assert own.sample(5, seed=0) == cost.decode(plan, own.points(range(5)))


def test_sentinels_of_blocks_and_widths_are_each_one_network() -> None:
    plan = planned("resnet14")[1]
    found = sets.sentinels(plan, depth=sets.FEWEST, width=0.25, together=1)
    assert [plan.canonical(a) for a in found] == found
    half = sets.sentinels(plan, depth=sets.FEWEST, width=0.5, together=1)
    assert "d2-2-2_w16-16-8-32-32-32-64-64-64" in [codes.write(plan, a) for a in half]
    assert "d1-2-2_w8-16-0-32-32-32-64-64-64" in [codes.write(plan, a) for a in half]


def test_a_network_that_no_code_names_says_what_is_possible() -> None:
    plan = planned("resnet14")[1]
    assert codes.write(plan, plan.baseline) == "d2-2-2_w16-16-16-32-32-32-64-64-64"
    shallow = codes.parse(plan, "d1-2-2_w16-16-0-32-32-32-64-64-64")
    assert codes.write(plan, shallow) == "d1-2-2_w16-16-0-32-32-32-64-64-64"
    for code, said in {
        "d2-2-2_w16-16-0-32-32-32-64-64-64": "stage1.1.conv1 cannot have 0 channels; it can",
        "d1-2-2_w16-16-4-32-32-32-64-64-64": "stage1.1.conv1 is the inner .* write 0 .* not 4",
        "d2-2_w16-16-16-32-32-32-64-64-64": "has 2 depths and 9 widths, .* have 3 depths and 9",
        "w16-16-16-32-32-32-64-64-64": "is not a network code",
    }.items():
        with pytest.raises(SsrError, match=said):
            codes.parse(plan, code)
    widths = planned("resnet14", depth=False)[1]
    with pytest.raises(
        SsrError, match=r"has 2 widths, but the codes of this network have 9 widths; the"
    ):
        codes.parse(widths, "w16-16")
    with pytest.raises(SsrError, match="none of its segments counts blocks; the baseline's is w16"):
        codes.parse(widths, "resnet14_d2-2-2_w16-16-16-32-32-32-64-64-64")


def test_depth_is_for_channels() -> None:
    with pytest.raises(SsrError, match=r"segment\.depth=true is for segment=channels"):
        planning.trace(CifarResNet(8), (3, 8, 8), depth=True)
