"""The closed form equals a real build, to the last parameter and multiply-add."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from ssr_exp.rescaling import cost, initialise, lattice, planning, rescale, seeds
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

QUICK = [("resnet8", "A"), ("resnet20", "B"), ("resnet18", "cifar")]
FEW = [*QUICK, ("resnet18", "imagenet"), ("resnext50_32x4d", "cifar")]
VARIANTS = [
    *((name, shortcut) for name in seeds.CIFAR for shortcut in ("A", "B")),
    *((name, stem) for name in seeds.TORCHVISION for stem in ("cifar", "imagenet")),
]
LATE = ("101", "110", "152", "32-", "34", "44", "wide")  # built by `make check` alone


def marks(name: str, variant: str) -> list[pytest.MarkDecorator]:
    is_late = any(part in f"{name}-" for part in LATE)
    slow = [] if (name, variant) in QUICK else [pytest.mark.slow]
    return [*slow, pytest.mark.more] if is_late else slow


ALL = [pytest.param(*variant, marks=marks(*variant)) for variant in VARIANTS]
PLANS = ["resnet20", "Grouped"]


def plan_of(name: str, variant: str) -> Plan:
    return probes.seed_of(name, variant)[1]


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_cost_equals_a_real_build(monkeypatch: pytest.MonkeyPatch, name: str, variant: str) -> None:
    # Weights are left unset: they cost most of a build's time, and this law does not look at them.
    monkeypatch.setattr(initialise, "fresh", lambda *_, **__: None)
    network, plan = probes.seed_of(name, variant)
    count = 2 if (name, variant) in FEW else 5
    drawn = lattice.from_plan(plan).sample(count, seed=1) + probes.arbitrary(plan, count, seed=2)
    for architecture in drawn:
        probes.assert_exact(plan, architecture, rescale.build(network, plan, architecture))


@pytest.mark.parametrize(
    ("depth", "params", "macs", "published"),
    [
        (20, 269_722, 40_551_040, 40.8),
        pytest.param(32, 464_154, 68_862_592, 69.1, marks=pytest.mark.slow),
        pytest.param(44, 658_586, 97_174_144, 97.4, marks=pytest.mark.slow),
        pytest.param(56, 853_018, 125_485_696, 125.7, marks=pytest.mark.slow),
        pytest.param(110, 1_727_962, 252_887_680, 253, marks=pytest.mark.slow),
    ],
)
def test_resnets_cost_as_published(depth: int, params: int, macs: int, published: float) -> None:
    """Published MACs are those of option B."""
    costs = [
        cost.count_one(plan, plan.baseline) for plan in (plan_of(f"resnet{depth}", k) for k in "AB")
    ]
    assert costs[0] == (params, macs, depth)
    assert round(costs[1].macs / 1e6, 0 if published == 253 else 1) == published
    assert costs[1].macs - macs == 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [
        ("resnet18", 11_689_512, 1.81),
        pytest.param("resnet34", 21_797_672, 3.66, marks=pytest.mark.slow),
        pytest.param("resnet50", 25_557_032, 4.09, marks=pytest.mark.slow),
    ],
)
def test_torchvision_resnets_have_the_published_cost(name: str, params: int, gmacs: float) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    plan = planning.trace(network, (3, 224, 224))
    counted = cost.count_one(plan, plan.baseline)
    assert (counted.params, round(counted.macs / 1e9, 2)) == (params, gmacs)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 8, 8)])
def test_cost_is_exact_for_any_image_shape(shape: tuple[int, int, int]) -> None:
    network = CifarResNet(8, num_classes=7, in_channels=shape[0], shortcut="B")
    plan = planning.trace(network, shape, multiple=4)
    for architecture in probes.arbitrary(plan, 1):
        probes.assert_exact(plan, architecture, rescale.build(network, plan, architecture))


def rows(plan: Plan, count: int = 100) -> list[Architecture]:
    return lattice.from_plan(plan).sample(count, seed=5) + probes.arbitrary(plan, count, seed=6)


def columns(counted: cost.Cost) -> np.ndarray:
    return np.stack([np.asarray(values) for values in counted])


@pytest.mark.parametrize("name", PLANS)
def test_counting_many_equals_counting_one_by_one(name: str) -> None:
    plan = probes.plan_of(name)
    drawn = rows(plan)[::4]
    many = columns(cost.count(plan, cost.encode(plan, drawn)))
    assert many.T.tolist() == [list(cost.count_one(plan, architecture)) for architecture in drawn]


def test_no_networks_cost_nothing() -> None:
    plan = plan_of("resnet20", "A")
    none = np.empty((0, 3), dtype=np.int32)
    assert columns(cost.count(plan, none)).shape == (3, 0)


def test_the_order_of_rows_does_not_matter_and_points_stay_as_they_are() -> None:
    plan = probes.plan_of("Grouped")
    points = cost.encode(plan, rows(plan))
    order = np.random.default_rng(0).permutation(len(points))
    shuffled, before = columns(cost.count(plan, points[order])), points.copy()
    assert (shuffled == columns(cost.count(plan, points))[:, order]).all()
    assert (points == before).all()


@pytest.mark.parametrize("chunk", [7, 100, 101])
def test_chunks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    plan = plan_of("resnet20", "B")
    points = cost.encode(plan, rows(plan, 50))
    expected = columns(cost.count(plan, points))
    monkeypatch.setattr(cost, "CHUNK", chunk)
    assert (columns(cost.count(plan, points)) == expected).all()


@pytest.mark.parametrize("largest", [0, 50])
@pytest.mark.parametrize("name", PLANS)
def test_tables_change_no_cost(monkeypatch: pytest.MonkeyPatch, name: str, largest: int) -> None:
    plan = probes.plan_of(name)
    points = cost.encode(plan, rows(plan))
    expected = columns(cost.count(plan, points))
    monkeypatch.setattr(cost, "LARGEST_TABLE", largest)
    monkeypatch.setattr(cost, "CHUNK", 100)
    assert (columns(cost.count(plan, points)) == expected).all()


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
def test_the_product_equals_the_enumeration(name: str) -> None:
    plan = plan_of(name, "A")
    points = lattice.from_plan(plan)
    assert points.cost().params.shape == points.shape
    product = columns(points.cost()).reshape(3, -1)
    listed = [columns(cost.count(plan, chunk)) for chunk in points.enumerate(50_000)]
    assert (product == np.concatenate(listed, axis=1)).all()


@pytest.mark.parametrize("name", PLANS)
def test_points_read_back_what_was_written(name: str) -> None:
    plan = probes.plan_of(name)
    assert cost.decode(plan, cost.encode(plan, rows(plan))) == rows(plan)


def test_a_smaller_network_never_costs_more() -> None:
    plan = probes.plan_of("Grouped")
    draw_number = random.Random(0).randint
    for larger in rows(plan, 50):
        blocks = tuple(draw_number(1, kept) for kept in larger.blocks)
        widths = tuple(draw_number(0, position) for position in larger.widths)
        pairs = zip(
            cost.count_one(plan, Architecture(blocks, widths)),
            cost.count_one(plan, larger),
            strict=True,
        )
        assert all(small <= large for small, large in pairs)


def test_gemms_of_a_stem_are_pixels_times_channels_times_kernel() -> None:
    plan = planning.trace(CifarResNet(8), (3, 32, 32), multiple=4)
    first, *_, last = cost.gemms(plan, plan.baseline)
    assert first == cost.GemmSize("conv", m=1024, n=16, k=27, count=1)
    assert last == cost.GemmSize("fc", m=1, n=10, k=64, count=1)


def test_gemms_of_a_grouped_convolution_are_counted_group_by_group() -> None:
    plan = probes.plan_of("Grouped")
    grouped = [gemm for gemm in cost.gemms(plan, plan.baseline) if gemm.count > 1]
    assert len(grouped) == 5
    assert grouped[0] == cost.GemmSize("stage1.0.conv2", m=64, n=4, k=36, count=4)


def test_gemms_of_a_transposed_convolution_put_out_the_kernel() -> None:
    """From pixels times channels, each pixel's kernel for each channel, as it runs."""
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ConvTranspose2d(16, 24, 2, 2), nn.Conv2d(24, 5, 1)
    )
    plan = planning.trace(network, (3, 8, 8), multiple=4, kind="channels")
    _, up, head = cost.gemms(plan, plan.baseline)
    assert up == cost.GemmSize("1", m=64, n=24 * 4, k=16, count=1)
    assert head == cost.GemmSize("2", m=256, n=5, k=24, count=1)
    half = plan.effective(Modifiers(depth=[1, 1], width=[0.5, 1]))
    assert cost.gemms(plan, half)[1] == cost.GemmSize("1", m=64, n=24 * 4, k=8, count=1)


def test_fewer_blocks_and_channels_lie_within_more_whatever_stands_for_them() -> None:
    plan = planning.trace(probes.build("Inverted"), probes.SHAPE, multiple=16)
    pairs = itertools.product(range(1, 3), range(len(plan.widths[1])))
    every = [Architecture((1, blocks), (0, width)) for blocks, width in pairs]
    points = cost.encode(plan, every)
    for larger, point in zip(every, points, strict=True):
        within = cost.is_within(plan, points, point)
        for smaller, is_inside in zip(every, within, strict=True):
            if smaller.blocks <= larger.blocks and smaller.widths <= larger.widths:
                assert is_inside
            if smaller.blocks > larger.blocks:
                assert not is_inside
        assert cost.count_one(plan, larger) == cost.count_one(plan, plan.canonical(larger))
