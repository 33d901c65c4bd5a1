"""The lattice holds every effective architecture of its choices, once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, lattice, planning, rescale
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from tests.rescaling import probes

plan_of = probes.plan_of


def test_resnet56_has_more_than_a_hundred_thousand_networks() -> None:
    assert len(lattice.from_plan(plan_of("resnet56"))) == 9**3 * 4 * 8 * 8 == 186_624
    assert lattice.from_plan(plan_of("resnet20", "stage1", "stage3")).shape == (1, 24, 1)


def test_the_lattice_is_what_all_modifiers_give_without_duplicates() -> None:
    plan = plan_of("resnet20")
    shares = [k / 8 for k in range(1, 9)]
    depths = [k / 3 for k in range(1, 4)]
    pairs = list(itertools.product(depths, shares))
    single = [
        {
            (a.blocks[s], a.widths[s])
            for pair in pairs
            for a in [plan.effective(Modifiers(*zip(*[pair] * 3, strict=True)))]
        }
        for s in range(3)
    ]
    expected = set(itertools.product(*single))
    listed = [
        tuple(zip(a.blocks, a.widths, strict=True))
        for chunk in lattice.from_plan(plan).enumerate()
        for a in cost.decode(plan, chunk)
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == expected


@pytest.mark.parametrize("chunk", [1000, 6912, 10**6])
def test_chunks_do_not_change_the_enumeration(chunk: int) -> None:
    points = lattice.from_plan(plan_of("resnet20"))
    listed = np.concatenate(list(points.enumerate(chunk)))
    assert (listed == points.points(np.arange(len(points)))).all()
    assert len(np.unique(listed, axis=0)) == len(points) == 6912


def test_the_last_point_is_the_baseline_and_the_first_the_smallest() -> None:
    plan = plan_of("resnet18")
    points = lattice.from_plan(plan)
    first, last = cost.decode(plan, points.points([0, len(points) - 1]))
    assert (first.blocks, last) == (plan.smallest.blocks, plan.baseline)


def test_finer_steps_give_more_until_every_width_is_there() -> None:
    plan = plan_of("resnet20")
    sizes = [
        len(lattice.from_plan(plan, width_steps=steps)) for steps in (1, 2, 4, 8, 16, 64, 1000)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == 27
    assert sizes[-1] == 27 * 4 * 8 * 16


def test_samples_differ_and_repeat_with_their_seed() -> None:
    points = lattice.from_plan(plan_of("resnet56"))
    drawn = points.sample(100, seed=3)
    assert len(set(drawn)) == 100
    assert drawn == points.sample(100, seed=3)
    assert drawn != points.sample(100, seed=4)
    few = lattice.from_plan(plan_of("resnet8"))
    assert len(set(few.sample(len(few), seed=0))) == len(few) == 256


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0"),
        (186_624, "186,624"),
        (10**12, "1,000,000,000,000"),
        (12_345 * 10**12, "1.2e+16"),
        (7 * 10**400, "7.0e+400"),
    ],
)
def test_numbers_that_nobody_reads_are_short(size: int, said: str) -> None:
    assert lattice.spell(size) == said


@pytest.mark.parametrize("count", [0, -1, 257])
def test_more_networks_than_there_are_cannot_be_drawn(count: int) -> None:
    with pytest.raises(SsrError, match=f"cannot draw {count} different networks: .* 256 points"):
        lattice.from_plan(plan_of("resnet8")).sample(count, seed=0)


@pytest.mark.parametrize("steps", [0, -8])
def test_width_steps_below_one_are_refused(steps: int) -> None:
    with pytest.raises(SsrError, match=f"segment.width_steps is {steps};"):
        lattice.from_plan(plan_of("resnet8"), width_steps=steps)


@pytest.mark.parametrize("options", [{}, {"kind": "whole"}, {"at_most": 1}])
def test_widths_that_differ_only_in_blocks_that_are_left_out_are_one_point(options: Any) -> None:
    """The second stage's first block is narrower inside than the one that can be left out."""
    network = probes.build("Inverted")
    plan = planning.trace(network, probes.SHAPE, multiple=16, **options)
    points = lattice.from_plan(plan)
    listed = points.points(np.arange(len(points)))
    assert (points.numbers(listed) == np.arange(len(points))).all()
    assert points.hold(listed).all() and (cost.canonical(plan, listed) == listed).all()
    networks = {described(network, plan, a) for a in cost.decode(plan, listed)}
    assert len(networks) == len(points)
    grid = itertools.product(*map(pairs_of, itertools.repeat(plan), range(len(plan.segments))))
    every = [Architecture(*zip(*pairs, strict=True)) for pairs in grid]
    assert len(every) > len(points)
    assert networks == {described(network, plan, a) for a in every}
    assert points.hold(cost.encode(plan, every)).all()


def pairs_of(plan: Plan, segment: int) -> list[tuple[int, int]]:
    """List all numbers of blocks with all widths in eighths."""
    least, most = plan.smallest.blocks[segment], plan.baseline.blocks[segment]
    positions = set(plan.widths[segment].positions(np.arange(1, 9) / 8).tolist())
    return list(itertools.product(range(least, most + 1), sorted(positions)))


def described(network: nn.Module, plan: Plan, architecture: Architecture) -> str:
    return str(probes.shapes(rescale.skeleton(network, plan, architecture)))


@pytest.mark.parametrize("name", ["resnet20", "Inverted", "Squeeze", "FlatHead"])
def test_where_all_widths_in_eighths_differ_they_are_the_lattice_as_they_are(name: str) -> None:
    plan = plan_of(name)
    points = lattice.from_plan(plan)
    for s, segment in enumerate(plan.segments):
        pairs = [position * len(segment.blocks) + kept - 1 for kept, position in pairs_of(plan, s)]
        assert points.options[s].tolist() == sorted(pairs)
