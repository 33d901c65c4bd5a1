"""Merged segments: as many as asked for, the most alike first, and still exact."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice, merging, planning, rescale
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.rescaling.unet import UNet
from tests.rescaling import probes

SAME = [1] * 6  # shares at which widths change


def planned(network: nn.Module, at_most: int, kind: str = "stage", *, depth: bool = False) -> Plan:
    return planning.trace(network, (3, 32, 32), multiple=4, kind=kind, depth=depth, at_most=at_most)


def small(name: str) -> nn.Module:
    with torch.device("meta"):
        return UNet(num_classes=4, width=8) if name == "unet" else CifarResNet(14)


def test_the_most_alike_are_merged_first_then_the_nearest_then_the_smallest() -> None:
    same = [(16, 64), (32, 16), (64, 4), (32, 16), (16, 64)]
    assert merging.clusters(same, SAME, {}, 3) == [(0, 4), (1, 3), (2,)]
    assert merging.clusters(same, SAME, {}, 4) == [(0,), (1, 3), (2,), (4,)]
    row = [(16, 64)] * 6
    assert merging.clusters(row, SAME, {}, 3) == [(0, 1), (2, 3), (4, 5)]
    maps = [(16, 64), (16, 16), (16, 64)]
    assert merging.clusters(maps, SAME, {}, 2) == [(0, 2), (1,)]
    assert merging.clusters(same, SAME, {}, 1) == [(0, 1, 2, 3, 4)]
    assert merging.clusters([], [], {}, 1) == []


def test_inner_widths_of_two_stages_meet_only_after_the_stages() -> None:
    """Stages 0 and 3, with inner widths 1, 2 and 4, 5."""
    dimensions = [(64, 16), (16, 16), (16, 16), (64, 16), (16, 16), (16, 16)]
    turns = {1: (0, 0), 2: (1, 0), 4: (0, 3), 5: (1, 3)}
    assert merging.clusters(dimensions, SAME, turns, 4) == [(0,), (1, 2), (3,), (4, 5)]
    assert merging.clusters(dimensions, SAME, turns, 3) == [(0, 3), (1, 2), (4, 5)]
    assert merging.clusters(dimensions, SAME, turns, 2) == [(0, 3), (1, 2, 4, 5)]


def test_a_width_that_goes_joins_only_one_that_tells_all_its_shares_apart() -> None:
    """Stage 0, with an inner width 1 that stays, and 2 and 3, of which 3 goes first."""
    dimensions, turns = [(64, 16), (16, 16), (16, 16), (16, 16)], {2: (0, 0), 3: (1, 0)}
    for shares, found in {
        (0b11, 0b11, 0b11, 0b11): [(0,), (1, 2, 3)],
        (0b01, 0b01, 0b11, 0b01): [(0, 1), (2, 3)],
        (0b01, 0b11, 0b10, 0b01): [(0,), (1, 2, 3)],
        (0b10, 0b01, 0b01, 0b11): [(0,), (1, 2), (3,)],
    }.items():
        assert merging.clusters(dimensions, shares, turns, len(found)) == found
    with pytest.raises(SsrError, match=r"at_most=1 is too few .* type segment\.at_most=3 or more"):
        merging.clusters(dimensions, (0b001, 0b001, 0b011, 0b101), turns, 1)


class Bottleneck(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, inner, 3, padding=1), nn.Conv2d(inner, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.a(x)))


def uneven(*inner: int) -> nn.Module:
    """One stage, whose blocks have inner widths of their own."""
    blocks = nn.Sequential(*map(Bottleneck, inner))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), blocks, *head)


@pytest.mark.parametrize(
    ("inner", "fewest"), [((16, 16, 24), 2), ((8, 16, 24), 3), ((24, 8, 24), 1), ((8, 24, 16), 3)]
)
def test_no_two_points_are_built_alike(inner: tuple[int, ...], fewest: int) -> None:
    network = uneven(*inner)
    for at_most in range(fewest, 5):
        plan = planned(network, at_most, "channels", depth=True)
        assert len(plan.segments) <= at_most
        every = lattice.from_plan(plan, width_steps=16)
        built = {
            tuple(probes.shapes(rescale.skeleton(network, plan, one)).items())
            for one in every.sample(every.size, seed=0)
        }
        assert len(built) == every.size
    if fewest > 1:
        with pytest.raises(SsrError, match=f"type segment.at_most={fewest} or more"):
            planned(network, fewest - 1, "channels", depth=True)


@pytest.mark.parametrize(
    ("name", "kind", "depth"),
    [
        *itertools.product(["resnet14", "unet"], ["stage", "block", "superblock"], [False]),
        *itertools.product(["resnet14", "unet"], ["channels"], [False, True]),
    ],
)
def test_as_many_are_left_and_what_is_counted_is_built(name: str, kind: str, depth: bool) -> None:
    network = small(name)
    whole = cost.count_one(plan := planned(network, 99, kind, depth=depth), plan.baseline)
    for at_most in (1, len(plan.segments) // 2):
        merged = planned(network, at_most, kind, depth=depth)
        assert len(merged.segments) == at_most
        probes.assert_disjoint(merged)
        assert cost.count_one(merged, merged.baseline) == whole
        for one in lattice.from_plan(merged, width_steps=4).sample(4, seed=0):
            assert codes.parse(merged, codes.write(merged, one)) == one == merged.canonical(one)
            probes.assert_exact(merged, one, rescale.skeleton(network, merged, one))
        own = lattice.from_plan(merged, width_steps=2)
        if own.size < 1e4:
            listed = [codes.write(merged, a) for a in own.sample(own.size, seed=0)]
            assert len(set(listed)) == own.size


def test_the_last_blocks_of_merged_stages_go_in_turn_and_a_remark_names_them() -> None:
    plan = planned(small("unet"), 3)
    assert [s.name for s in plan.segments] == ["encoder.0+decoder.1", "encoder.1+decoder.0", *(
        ["encoder.2"]
    )]  # fmt: skip
    first = plan.segments[0]
    order = "encoder.0.0 decoder.1.0 encoder.0.1 decoder.1.1 encoder.0.2 decoder.1.2".split()
    assert [block[0] for block in first.blocks] == order and first.fewest == 2
    said = "merged (segment.at_most): encoder.0+decoder.1 is encoder.0, decoder.1, each of 8"
    assert any(remark.startswith(said) for remark in plan.remarks)
    (remark,) = planned(small("unet"), 1).remarks
    assert "encoder.0 (8)" in remark and "they differ in their channels" in remark


def test_merged_segments_are_frozen_by_their_names_and_none_at_all_is_refused() -> None:
    plan = planning.trace(
        small("unet"), (3, 32, 32), multiple=4, at_most=3, frozen=["encoder.0+decoder.1"]
    )
    assert [segment.frozen for segment in plan.segments] == [True, False, False]
    with pytest.raises(SsrError, match=r"no segment 'encoder\.0' to freeze; this network has"):
        planning.trace(small("unet"), (3, 32, 32), multiple=4, at_most=3, frozen=["encoder.0"])
    with pytest.raises(SsrError, match=r"segment\.at_most is 0; it must be 1 or more"):
        planned(small("unet"), 0)
