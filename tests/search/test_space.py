"""The lattice in the unit cube."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.search import space
from ssr_exp.search.space import Space


def test_the_lattice_lies_in_the_unit_cube_and_touches_all_its_sides(small: Space) -> None:
    (points,) = small.lattice.enumerate()
    X = small.features(points)
    assert X.shape == (512, len(small.names) + 2) == (512, 8)
    assert X.min(0).values.tolist() == [0.0] * 8
    assert X.max(0).values.tolist() == pytest.approx([1.0] * 8)
    assert len(X.unique(dim=0)) == 512


def test_the_baseline_is_the_corner_of_ones_and_the_smallest_that_of_zeros(small: Space) -> None:
    plan = small.plan
    corner = small.features(cost.encode(plan, [plan.baseline]))
    torch.testing.assert_close(corner, torch.ones(1, 8, dtype=torch.float64))
    (lowest,) = small.architectures([0])
    assert small.features(cost.encode(plan, [lowest])).abs().max() == 0


def test_halving_weighs_the_same_wherever_it_happens() -> None:
    plan = planning.trace(CifarResNet(26), (3, 8, 8), multiple=4)
    own = space.from_plan(plan, width_steps=8)

    def depth(blocks: int) -> float:
        architecture = Architecture((blocks, 4, 4), plan.baseline.widths)
        return float(own.features(cost.encode(plan, [architecture]))[0, 0])

    assert depth(4) - depth(2) == pytest.approx(depth(2) - depth(1))


def test_parameters_and_macs_are_features_too(small: Space) -> None:
    (points,) = small.lattice.enumerate()
    X = small.features(points)
    counts = cost.count(small.plan, points)
    for column, values in ((6, counts.params), (7, counts.macs)):
        assert np.corrcoef(X[:, column], np.log(values))[0, 1] == pytest.approx(1)


def test_numbers_find_points_again_and_leave_out_what_is_no_point(small: Space) -> None:
    numbers = np.array([0, 17, 300, 511])
    architectures = small.architectures(numbers)
    assert small.numbers(architectures).tolist() == numbers.tolist()
    finer = space.from_plan(small.plan, width_steps=16)
    others = [a for a in finer.architectures(range(0, 4000, 7)) if not len(small.numbers([a]))]
    assert others
    assert small.numbers([*others, architectures[1]]).tolist() == [17]


def test_a_function_of_all_points_is_that_of_each(
    small: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "CHUNK", 100)
    (params,) = small.evaluate(
        lambda points: [torch.from_numpy(cost.count(small.plan, points).params)]
    )
    for number in (0, 99, 100, 511):
        (architecture,) = small.architectures([number])
        assert int(params[number]) == cost.count_one(small.plan, architecture).params


def test_frozen_segments_and_single_blocks_are_no_features() -> None:
    plan = planning.trace(CifarResNet(8), (3, 8, 8), multiple=4, frozen=["stage2"])
    own = space.from_plan(plan, width_steps=4)
    assert own.names == ("width stage1", "width stage3")
    assert own.segments == (0, 2)


@pytest.fixture(scope="module")
def huge() -> Space:
    """4.7e+21 networks: a width for each of 27 blocks."""
    plan = planning.trace(CifarResNet(56), (3, 8, 8), multiple=4, kind="block")
    return space.from_plan(plan, width_steps=8)


def test_a_lattice_beyond_64_bits_is_a_space(huge: Space) -> None:
    assert not huge.is_enumerable
    low, high = cost.count(huge.plan, huge.ends).params.tolist()
    assert high == huge.baseline.params > low
    assert huge.features(huge.ends).tolist() == [[0.0] * (27 + 2), [1.0] * (27 + 2)]


def test_points_are_found_again_by_their_options(huge: Space) -> None:
    points = huge.spread(100, np.random.default_rng(0))
    places, inside = huge.places(points)
    assert inside.all()
    assert np.array_equal(huge.points(places), points)
    assert not huge.places(points + 10**6)[1].any()
    assert np.array_equal(huge.once(np.concatenate([points, points])), points)


def test_drawn_points_are_of_all_sizes_and_other_ones_are_not(huge: Space) -> None:
    def middle(points: cost.Points) -> float:
        sizes = np.log(cost.count(huge.plan, points).params)
        return float(np.subtract(*np.quantile(sizes, [0.9, 0.1])))

    whole, draw = np.log(cost.count(huge.plan, huge.ends).params), np.random.default_rng(0)
    points = huge.spread(1000, draw)
    assert len(huge.once(points)) == len(points) > 600
    assert middle(points) > 0.6 * float(np.ptp(whole))
    places = draw.integers(huge.lattice.shape, size=(1000, 27))
    assert middle(huge.points(places)) < 0.5 * middle(points)


def test_a_lattice_of_the_baseline_alone_cannot_be_searched() -> None:
    frozen = ["stage1", "stage2", "stage3"]
    plan = planning.trace(CifarResNet(8), (3, 8, 8), multiple=4, frozen=frozen)
    with pytest.raises(SsrError, match="the baseline alone"):
        space.from_plan(plan, width_steps=8)


def test_a_block_that_is_left_out_is_one_point_next_to_its_lowest_width() -> None:
    plan = planning.trace(CifarResNet(14), (3, 8, 8), multiple=4, kind="channels", depth=True)
    own = space.from_plan(plan, width_steps=4)
    draw = np.random.default_rng(0)
    points = own.points(draw.integers(own.lattice.shape, size=(2000, len(plan.segments))))
    assert (cost.encode(plan, cost.decode(plan, points)) == points).all()
    once = own.once(points)
    assert len(once) == len({own.code(a) for a in cost.decode(plan, once)}) < len(points)
    spread = own.spread(500, draw)
    assert (cost.canonical(plan, spread) == spread).all() and own.lattice.hold(spread).all()
    assert own.features(once).min() >= 0 and len(own.features(once).unique(dim=0)) == len(once)
    at, inside = own.places(once)
    assert inside.all() and (own.points(at) == once).all()
    full = Architecture((1, *plan.baseline.blocks[1:]), plan.baseline.widths)
    gone = next(s for s, place in plan.inner.items() if place == (0, 1))
    column = own.names.index(f"width {plan.segments[gone].name}")
    assert own.features(cost.encode(plan, [full]))[0, column] == 0
    assert own.lattice.numbers(own.ends).tolist() == [0, own.lattice.size - 1]
