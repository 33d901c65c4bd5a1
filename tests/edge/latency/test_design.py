"""A designed sample starts at a lattice's ends and covers it evenly."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest

from ssr_exp.edge.latency import design
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, lattice
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Architecture
from tests.rescaling import probes

SEEDS = (0, 1, 2)


@cache
def points(depth: int = 20, *frozen: str) -> Lattice:
    return lattice.from_plan(probes.plan_of(f"resnet{depth}", *frozen))


def listed(whole: Lattice) -> list[Architecture]:
    return cost.decode(whole.plan, whole.points(range(whole.size)))


@pytest.mark.parametrize("count", [8, 9, 16, 48])
def test_the_ends_come_first_and_all_are_different_ones_of_the_lattice(count: int) -> None:
    whole = points()
    chosen = design.choose(whole, count)
    first, second, *_ = chosen
    assert [first, second] == [whole.plan.baseline, listed(whole)[0]]
    assert len(set(chosen)) == len(chosen) == count
    for own, options in zip(cost.encode(whole.plan, chosen).T, whole.options, strict=True):
        assert np.isin(own, options).all()


def test_the_seed_alone_decides_what_is_chosen() -> None:
    first, second, third = (design.choose(points(), 16, seed=seed) for seed in SEEDS)
    assert design.choose(points(), 16, seed=0) == first
    assert len({tuple(first), tuple(second), tuple(third)}) == 3


@pytest.mark.parametrize("count", [8, 9, 16, 33])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_longer_design_starts_with_a_shorter_one(count: int, seed: int) -> None:
    longer = design.choose(points(), 2 * count, seed=seed)
    assert longer[:count] == design.choose(points(), count, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("depth", [20, pytest.param(56, marks=pytest.mark.slow)])
def test_every_block_count_and_width_occurs_about_as_often(depth: int, seed: int) -> None:
    whole = points(depth)
    chosen = design.choose(whole, 48, seed=seed)
    for s, options in enumerate(whole.options):
        n_blocks = len(whole.plan.segments[s].blocks)
        for own, allowed in (
            ([a.blocks[s] for a in chosen], range(1, n_blocks + 1)),
            ([a.widths[s] for a in chosen], np.unique(options // n_blocks)),
        ):
            counts, even = Counter(own), len(chosen) / len(allowed)
            assert set(counts) == set(allowed)
            assert max(counts.values()) - min(counts.values()) <= even


def test_frozen_segments_stay_as_they_are() -> None:
    whole = points(20, "stage1", "stage3")
    baseline = whole.plan.baseline
    for chosen in design.choose(whole, 16):
        assert (chosen.blocks[0], chosen.blocks[2]) == (baseline.blocks[0], baseline.blocks[2])
        assert (chosen.widths[0], chosen.widths[2]) == (baseline.widths[0], baseline.widths[2])


def test_a_lattice_of_no_more_networks_is_taken_whole() -> None:
    whole = points(20, "stage1", "stage3")
    assert whole.size == 24
    for count in (23, 24, 25, 1000):
        chosen = design.choose(whole, count)
        assert len(chosen) == min(count, 24)
        assert set(chosen) <= set(listed(whole)) and len(set(chosen)) == len(chosen)


def test_fewer_than_a_model_takes_are_refused_in_a_sentence() -> None:
    with pytest.raises(SsrError, match=f"takes {design.FEWEST} networks or more, not 7"):
        design.choose(points(), design.FEWEST - 1)
