from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import kernels, surrogate_quality
from benchmarks.surrogate_quality import Choice
from benchmarks.table_of_networks import Table
from ssr_exp.config import Kernel, Scale
from ssr_exp.search import gaussian_process
from ssr_exp.search.outcome import OutcomeScale


@pytest.mark.parametrize("kind", surrogate_quality.SCALES)
def test_a_density_is_one_of_points_whatever_its_scale(kind: Scale) -> None:
    scale, points = OutcomeScale(kind=kind), np.linspace(30, 70, 2001)
    mean, above = scale.forward(torch.tensor([50.0, 52.0], dtype=torch.float64))
    nll = [
        surrogate_quality.scores(scale, mean[None], (above - mean)[None], torch.tensor([p]))["nll"]
        for p in points.tolist()
    ]
    assert np.trapezoid(np.exp(np.negative(nll)), points) == pytest.approx(1, abs=1e-3)


def test_scores_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    actual, mean = rng.uniform(40, 60, 50), rng.uniform(40, 60, 50)
    sigma = rng.uniform(1, 5, 50)
    tensors = map(torch.from_numpy, (mean, sigma, actual))
    found = surrogate_quality.scores(OutcomeScale(kind=Scale.identity), *tensors)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((mean - actual) ** 2)))
    assert found["spearman"] == pytest.approx(stats.spearmanr(mean, actual).statistic)
    assert found["nll"] == pytest.approx(-stats.norm(mean, sigma).logpdf(actual).mean())
    low, high = stats.norm(mean, sigma).interval(0.8)
    inside = np.mean((low <= actual) & (actual <= high))
    assert found["coverage_80"] == pytest.approx(inside, abs=1 / 50)


def test_the_noise_is_that_of_two_trainings(table: Table) -> None:
    gaps = [first - second for first, second in table.repeats]
    expected = np.sqrt(np.mean(np.square(gaps)) / 2)
    assert surrogate_quality.noise(table)["std_in_points"] == pytest.approx(expected)


def test_every_surrogate_is_compared_ours_first() -> None:
    every = surrogate_quality.choices(3)
    assert every[0] == Choice()
    assert len(set(every)) == len(every) == 3 * 2 * 2 * 3


@pytest.mark.parametrize("features", surrogate_quality.FEATURES)
def test_a_surrogate_learns_from_the_table(table: Table, features: str) -> None:
    choice = Choice(noise=-4.0, features=features)
    found = surrogate_quality.measured(table, choice, extra=20, repetition=0)
    assert set(found) == set(surrogate_quality.MEASURES)
    assert found["rmse"] < 2.5
    assert found["spearman"] > 0.5


def test_of_many_segments_all_kernels_are_compared() -> None:
    every = surrogate_quality.choices(9)
    assert every[0] == Choice()
    assert {c.kernel for c in every} == {*(k.value for k in Kernel), *kernels.OTHERS}


@pytest.mark.parametrize("name", kernels.OTHERS)
def test_another_kernel_learns_and_lasts_no_longer_than_asked(table: Table, name: str) -> None:
    own = gaussian_process._additive
    found = surrogate_quality.measured(table, Choice(kernel=name), extra=10, repetition=0)
    assert found["spearman"] > 0.5
    assert own == gaussian_process._additive


def test_another_prior_of_the_noise_lasts_no_longer_than_asked() -> None:
    own = gaussian_process.NOISE_LOC
    with surrogate_quality.noise_prior(-9.0):
        assert gaussian_process.NOISE_LOC == -9.0
    assert own == gaussian_process.NOISE_LOC
