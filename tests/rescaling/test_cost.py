"""The closed form equals a real build, to the last parameter and multiply-add."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ssr_exp.config import ModelConf, Shortcut
from ssr_exp.rescaling import cost, initialise, lattice, planning, rescale, seeds
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

VARIANTS = [
    *((name, shortcut) for name in seeds.CIFAR for shortcut in ("A", "B")),
    *((name, stem) for name in seeds.TORCHVISION for stem in ("cifar", "imagenet")),
]
DEEP = ("101", "152", "110")
BOTH_STEMS = ("resnet18", "resnext50_32x4d")
SMALL = [
    pytest.param(name, kind, marks=[pytest.mark.slow] if any(n in name for n in DEEP) else [])
    for name, kind in VARIANTS
    if kind != "imagenet" or name in BOTH_STEMS
]
PLANS = [("resnet20", "A"), ("resnet56", "B"), ("resnet50", "cifar"), ("resnext50_32x4d", "cifar")]


@pytest.fixture
def no_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave weights unset: they cost most of a build's time, and no law here looks at them."""
    monkeypatch.setattr(initialise, "fresh", lambda *_, **__: None)


def plan_of(name: str, variant: str) -> Plan:
    return probes.seed_of(name, variant)[1]


def assert_exact(name: str, variant: str, architecture: Architecture, size: int = 32) -> None:
    network, plan = probes.seed_of(name, variant)
    built = rescale.build(network, plan, architecture)
    counted, sizes = cost.of(plan, architecture), cost.gemms(plan, architecture)
    assert (counted.params, counted.macs) == probes.measured(built, (3, size, size)), architecture
    assert sum(gemm.load for gemm in sizes) == counted.macs
    assert sum(gemm.count for gemm in sizes) == counted.gemms


@pytest.mark.usefixtures("no_draws")
@pytest.mark.parametrize(("name", "variant"), SMALL)
def test_cost_equals_a_real_build_at_the_extremes_and_at_random(name: str, variant: str) -> None:
    plan = plan_of(name, variant)
    drawn = lattice.from_plan(plan).sample(2, seed=1) + probes.arbitrary(plan, 2, seed=2)
    for architecture in drawn:
        assert_exact(name, variant, architecture)


@pytest.mark.slow
@pytest.mark.usefixtures("no_draws")
@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_cost_equals_many_real_builds(name: str, variant: str) -> None:
    plan = plan_of(name, variant)
    for architecture in lattice.from_plan(plan).sample(20, seed=3) + probes.arbitrary(
        plan, 20, seed=4
    ):
        assert_exact(name, variant, architecture)


@pytest.mark.parametrize(
    ("depth", "params"),
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_cifar_resnets_have_the_published_parameters(depth: int, params: int) -> None:
    plan = plan_of(f"resnet{depth}", "A")
    assert cost.of(plan, plan.baseline).params == params


@pytest.mark.parametrize(
    ("depth", "published"), [(20, 40.8), (32, 69.1), (44, 97.4), (56, 125.7), (110, 253)]
)
def test_published_macs_of_cifar_resnets_are_those_of_option_b(
    depth: int, published: float
) -> None:
    without, with_convolutions = (plan_of(f"resnet{depth}", kind) for kind in "AB")
    macs = cost.of(with_convolutions, with_convolutions.baseline).macs
    assert round(macs / 1e6, 0 if published == 253 else 1) == published
    shortcuts = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
    assert macs - cost.of(without, without.baseline).macs == shortcuts


@pytest.mark.parametrize(
    ("depth", "macs"),
    [
        (20, 40_551_040),
        (32, 68_862_592),
        (44, 97_174_144),
        (56, 125_485_696),
        (110, 252_887_680),
    ],
)
def test_macs_of_option_a_stay_as_they_were(depth: int, macs: int) -> None:
    plan = plan_of(f"resnet{depth}", "A")
    counted = cost.of(plan, plan.baseline)
    assert (counted.macs, counted.gemms) == (macs, depth)


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [
        ("resnet18", 11_689_512, 1.81),
        ("resnet34", 21_797_672, 3.66),
        ("resnet50", 25_557_032, 4.09),
    ],
)
def test_torchvision_resnets_have_the_published_cost(name: str, params: int, gmacs: float) -> None:
    shape = (3, 224, 224)
    network = seeds.build(ModelConf(name), num_classes=1000, input_shape=shape)
    plan = planning.trace(network, shape)
    counted = cost.of(plan, plan.baseline)
    assert (counted.params, round(counted.macs / 1e9, 2)) == (params, gmacs)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 47), (3, 8, 8)])
def test_cost_is_exact_for_any_image_shape(shape: tuple[int, int, int]) -> None:
    conf = ModelConf("resnet20", shortcut=Shortcut.B)
    network = seeds.build(conf, num_classes=7, input_shape=shape)
    plan = planning.trace(network, shape, multiple=4)
    for architecture in probes.arbitrary(plan, 3):
        counted = cost.of(plan, architecture)
        built = rescale.build(network, plan, architecture)
        assert (counted.params, counted.macs) == probes.measured(built, shape)


def rows(plan: Plan, count: int = 100) -> list[Architecture]:
    return lattice.from_plan(plan).sample(count, seed=5) + probes.arbitrary(plan, count, seed=6)


def columns(counted: cost.Cost) -> np.ndarray:
    return np.stack([np.asarray(values) for values in counted])


@pytest.mark.parametrize(("name", "variant"), PLANS)
def test_counting_many_equals_counting_one_by_one(name: str, variant: str) -> None:
    plan = plan_of(name, variant)
    drawn = rows(plan)[::4]
    many = columns(cost.count(plan, cost.encode(plan, drawn)))
    assert many.T.tolist() == [list(cost.of(plan, architecture)) for architecture in drawn]


def test_no_networks_cost_nothing() -> None:
    plan = plan_of("resnet20", "A")
    none = np.empty((0, 3), dtype=np.int32)
    assert columns(cost.count(plan, none)).shape == (3, 0)


def test_the_order_of_rows_does_not_matter() -> None:
    plan = plan_of("resnet50", "cifar")
    points = cost.encode(plan, rows(plan))
    order = np.random.default_rng(0).permutation(len(points))
    shuffled = columns(cost.count(plan, points[order]))
    assert (shuffled == columns(cost.count(plan, points))[:, order]).all()


@pytest.mark.parametrize("chunk", [7, 99, 100, 101])
def test_chunks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    plan = plan_of("resnet56", "B")
    points = cost.encode(plan, rows(plan, 50))
    expected = columns(cost.count(plan, points))
    monkeypatch.setattr(cost, "CHUNK", chunk)
    assert (columns(cost.count(plan, points)) == expected).all()


@pytest.mark.parametrize("largest", [0, 50])
@pytest.mark.parametrize(("name", "variant"), PLANS)
def test_networks_counted_without_tables_cost_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, variant: str, largest: int
) -> None:
    plan = plan_of(name, variant)
    points = cost.encode(plan, rows(plan))
    expected = columns(cost.count(plan, points))
    monkeypatch.setattr(cost, "LARGEST_TABLE", largest)
    monkeypatch.setattr(cost, "CHUNK", 100)
    assert (columns(cost.count(plan, points)) == expected).all()


def test_counting_leaves_the_points_as_they_are() -> None:
    plan = plan_of("resnet20", "A")
    points = cost.encode(plan, rows(plan))
    before = points.copy()
    cost.count(plan, points)
    assert (points == before).all()


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet56"])
def test_the_product_equals_the_enumeration(name: str) -> None:
    plan = plan_of(name, "A")
    points = lattice.from_plan(plan)
    product = columns(points.cost()).reshape(3, -1)
    listed = [columns(cost.count(plan, chunk)) for chunk in points.enumerate(50_000)]
    assert (product == np.concatenate(listed, axis=1)).all()


@pytest.mark.parametrize(("name", "variant"), PLANS)
def test_points_read_back_what_was_written(name: str, variant: str) -> None:
    plan = plan_of(name, variant)
    assert cost.decode(plan, cost.encode(plan, rows(plan))) == rows(plan)


@pytest.mark.parametrize(("name", "variant"), PLANS)
def test_the_segments_costs_add_up_to_the_networks(name: str, variant: str) -> None:
    plan = plan_of(name, variant)
    total = [sum(values) for values in zip(*cost.by_segment(plan), strict=True)]
    assert total == list(cost.of(plan, plan.baseline))


def test_a_smaller_network_never_costs_more() -> None:
    plan = plan_of("resnet50", "cifar")
    draw_number = random.Random(0).randint
    for larger in rows(plan, 50):
        blocks = tuple(draw_number(1, kept) for kept in larger.blocks)
        widths = tuple(draw_number(0, position) for position in larger.widths)
        pairs = zip(cost.of(plan, Architecture(blocks, widths)), cost.of(plan, larger), strict=True)
        assert all(small <= large for small, large in pairs)


def test_gemms_of_a_stem_are_pixels_times_channels_times_kernel() -> None:
    plan = planning.trace(CifarResNet(8), (3, 32, 32), multiple=4)
    first, *_, last = cost.gemms(plan, plan.baseline)
    assert first == cost.GemmSize("conv", m=1024, n=16, k=27, count=1)
    assert last == cost.GemmSize("fc", m=1, n=10, k=64, count=1)


def test_gemms_of_a_grouped_convolution_are_counted_group_by_group() -> None:
    plan = plan_of("resnext50_32x4d", "cifar")
    grouped = [gemm for gemm in cost.gemms(plan, plan.baseline) if gemm.count > 1]
    assert len(grouped) == 16
    assert grouped[0] == cost.GemmSize("layer1.0.conv2", m=1024, n=4, k=36, count=32)
