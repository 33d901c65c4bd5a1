"""The surrogate against BoTorch's own predictions, and against refitting."""

from __future__ import annotations

import pytest
import torch
from botorch.fit import fit_gpytorch_mll
from gpytorch.mlls import ExactMarginalLogLikelihood

from ssr_exp.config import Kernel, SurrogateConf
from ssr_exp.search import subset, surrogate
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale
from ssr_exp.search.surrogate import Surrogate

KERNELS = list(Kernel)


def data(count: int, d: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(count, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    return X, (2 * X).sin().sum(1) + 0.1 * noise


def fitted(kernel: Kernel = Kernel.joint, count: int = 20) -> Surrogate:
    X, Y = data(count)
    return surrogate.fit(X, Y, SurrogateConf(kernel=kernel), segments=(0, 0, 1, 1))


@pytest.mark.parametrize("kernel", KERNELS)
def test_predictions_are_those_of_botorch(kernel: Kernel) -> None:
    own, (X, _) = fitted(kernel), data(30, seed=1)
    posterior = own.model.posterior(X)
    mean, sigma = own.predict(X)
    expected = posterior.mean.detach()[:, 0] * own.spread + own.centre
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
    deviation = posterior.variance.detach()[:, 0].sqrt() * own.spread
    torch.testing.assert_close(sigma, deviation, rtol=1e-3, atol=1e-5)
    covariance = posterior.distribution.covariance_matrix.detach() * own.spread**2
    torch.testing.assert_close(own.covariance(X), covariance, rtol=1e-3, atol=1e-6)
    *alone, shared = own.against(X, X[4:5])
    assert all(torch.equal(a, b) for a, b in zip(alone, own.predict(X), strict=True))
    torch.testing.assert_close(shared, covariance[4], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_leave_one_out_equals_refitting_without_the_point(kernel: Kernel) -> None:
    own = fitted(kernel, count=12)
    Y, mean, sigma = own.leave_one_out()
    for left_out in range(12):
        rest = [i for i in range(12) if i != left_out]
        other = surrogate.assembled(
            own.model, own.X[rest], own.y[rest], centre=own.centre, spread=own.spread
        )
        alone, deviation = other.predict(own.X[[left_out]])
        assert float(mean[left_out]) == pytest.approx(float(alone), abs=1e-6)
        with_noise = (float(deviation) ** 2 + own.noise**2) ** 0.5
        assert float(sigma[left_out]) == pytest.approx(with_noise, rel=1e-4)
    torch.testing.assert_close(Y, own.y * own.spread + own.centre)


@pytest.mark.parametrize("is_fidelity", [False, True])
def test_a_network_of_several_trainings_is_predicted_from_others_alone(is_fidelity: bool) -> None:
    X, Y = data(10)
    X, Y = torch.cat([X, X[[3, 3, 7]]]), torch.cat([Y, Y[[3, 3, 7]] + 0.3])
    epochs = torch.ones(13, 1, dtype=torch.float64)
    epochs[12] = 0.5  # a shorter training of a network that is left out tells of it, too
    conf = SurrogateConf(fidelity=is_fidelity)
    own = surrogate.fit(torch.cat([X, epochs], 1) if is_fidelity else X, Y, conf)
    _, mean, sigma = own.leave_one_out(X.shape[1])
    for row in range(12):
        rest = [i for i in range(13) if bool((X[i] != X[row]).any())]
        other = surrogate.assembled(
            own.model, own.X[rest], own.y[rest], centre=own.centre, spread=own.spread
        )
        alone, deviation = other.predict(own.X[[row]])
        assert float(mean[row]) == pytest.approx(float(alone), abs=1e-6)
        with_noise = (float(deviation) ** 2 + own.noise**2) ** 0.5
        assert float(sigma[row]) == pytest.approx(with_noise, rel=1e-4)


def test_believing_leaves_the_mean_and_narrows_the_rest() -> None:
    own, (X, _) = fitted(), data(15, seed=2)
    believed = own.believe(X[:2])
    before, after = own.predict(X), believed.predict(X)
    torch.testing.assert_close(after[0], before[0], atol=1e-6, rtol=1e-6)
    assert bool((after[1] <= before[1] + 1e-9).all())
    assert bool((after[1][:2] < 0.8 * before[1][:2]).all())


def test_believing_one_by_one_is_believing_together() -> None:
    own, (X, _) = fitted(), data(15, seed=2)
    together, single = own.believe(X[:3]), own.believe(X[:1]).believe(X[1:3])
    torch.testing.assert_close(together.predict(X), single.predict(X), rtol=1e-6, atol=1e-8)


def test_the_same_data_give_the_same_surrogate() -> None:
    (X, _) = data(5, seed=3)
    first, second = (fitted().predict(X) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_last_fits_are_kept_and_of_other_data_or_settings_there_is_another() -> None:
    fit, (X, Y), conf = surrogate.CachedFits(), data(9, seed=3), SurrogateConf()
    other, segments = SurrogateConf(kernel=Kernel.additive), [0] * X.shape[1]
    ways = [(X, Y, conf, {}), (X, Y.flip(0), conf, {}), (X.flip(0), Y, conf, {})]
    ways += [(X, Y, conf, {"least_noise": 1.0})]
    made = [fit(*way, **more) for *way, more in ways]
    assert len({*map(id, made)}) == 4 == surrogate.CACHED
    assert all(fit(*way, **more) is one for (*way, more), one in zip(ways, made, strict=True))
    assert fit(X, Y, other, segments=segments) not in made
    assert fit(X, Y, conf, least_noise=1.0) is made[3]
    assert fit(X, Y, conf) is not made[0]  # the fifth took its place


@pytest.mark.usefixtures("many")
def test_a_fit_to_some_of_many_trainings_is_not_kept() -> None:
    fit, (X, Y) = surrogate.CachedFits(), data(40, seed=3)
    assert fit(X, Y, SurrogateConf()) is not fit(X, Y, SurrogateConf())


def test_repeated_seeds_tell_the_noise() -> None:
    X, _ = data(8)
    generator = torch.Generator().manual_seed(5)
    repeated = X.repeat_interleave(6, dim=0)
    noise = 0.3 * torch.randn(48, generator=generator, dtype=torch.float64)
    own = surrogate.fit(repeated, 3 * repeated[:, 0] + noise, SurrogateConf())
    assert own.noise == pytest.approx(0.3, rel=0.35)


def test_equal_outcomes_give_a_flat_surrogate_and_no_error() -> None:
    X, _ = data(6)
    own = surrogate.fit(X, torch.full((6,), 2.0, dtype=torch.float64), SurrogateConf())
    mean, sigma = own.predict(data(9, seed=4)[0])
    torch.testing.assert_close(mean, torch.full((9,), 2.0, dtype=torch.float64), atol=1e-3, rtol=0)
    assert bool(sigma.isfinite().all())


def test_small_outcomes_are_learned_from_like_large_ones() -> None:
    (X, Y), (others, _) = data(12), data(5, seed=1)
    large, tiny = (surrogate.fit(X, size * Y, SurrogateConf()) for size in (1.0, 1e-10))
    for one, other in zip(large.predict(others), tiny.predict(others), strict=True):
        torch.testing.assert_close(1e10 * other, one, rtol=1e-3, atol=1e-3)


def test_what_botorch_draws_is_the_same_each_time_and_leaves_others_draws_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It begins a fit anew at random where one fails."""
    drawn: list[float] = []
    fit = lambda likelihood: drawn.append(float(torch.rand(1)))  # noqa: E731
    monkeypatch.setattr(surrogate, "fit_gpytorch_mll", fit)
    after = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        surrogate.fit(*data(5), SurrogateConf())
        after.append(float(torch.rand(1)))
        torch.manual_seed(seed)
        assert after[-1] == float(torch.rand(1))
    assert drawn[0] == drawn[1] and after[0] != after[1]


def test_one_outcome_can_be_fitted() -> None:
    X, _ = data(1)
    own = surrogate.fit(X, torch.tensor([1.5], dtype=torch.float64), SurrogateConf())
    assert float(own.predict(X)[0]) == pytest.approx(1.5, abs=0.1)


def test_short_runs_inform_long_ones() -> None:
    """With ten long runs, forty short ones of another level improve the prediction."""
    long, short, unseen = data(10, seed=6)[0], data(40, seed=7)[0], data(50, seed=8)[0]

    def full(X: torch.Tensor) -> torch.Tensor:
        return (5 * X).sin().sum(1)

    fidelity = torch.cat([torch.ones(10, 1), torch.full((40, 1), 0.5)]).double()
    both = torch.cat([torch.cat([long, short]), fidelity], dim=1)
    outcomes = torch.cat([full(long), 0.8 * full(short) - 0.5])
    informed = surrogate.fit(both, outcomes, SurrogateConf(fidelity=True))
    alone = surrogate.fit(long, full(long), SurrogateConf())
    errors = [
        float((own.predict(unseen)[0] - full(unseen)).square().mean()) for own in (informed, alone)
    ]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(
    "kernel", [Kernel.joint, pytest.param(Kernel.additive, marks=pytest.mark.slow)]
)
def test_it_learns_the_order_of_networks_from_the_first_ones(
    known: History, kernel: Kernel, small: object
) -> None:
    from scipy.stats import spearmanr

    from tests.search.conftest import truth

    space, scale = known.space, OutcomeScale()
    Y = scale.forward(known.values(scale.outcome))
    own = surrogate.fit(known.X, Y, SurrogateConf(kernel=kernel), segments=space.segments)
    (points,) = space.lattice.enumerate()
    mean, _ = own.predict(space.features(points))
    true = [truth(space, a) for a in space.architectures(range(len(space.lattice)))]
    assert spearmanr(mean.numpy(), true).statistic > 0.85


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 40 trainings be very many."""
    monkeypatch.setattr(surrogate, "MOST", 15)
    monkeypatch.setattr(surrogate, "WITNESSES", 8)
    monkeypatch.setattr(surrogate, "SLICE", 300)  # 7 points


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kernel", KERNELS)
def test_of_many_trainings_some_fit_the_kernel_and_all_are_learned_from(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def watched(likelihood: ExactMarginalLogLikelihood) -> ExactMarginalLogLikelihood:
        seen.append(likelihood.model.train_inputs[0])
        return fit_gpytorch_mll(likelihood)

    monkeypatch.setattr(surrogate, "fit_gpytorch_mll", watched)
    own, (X, _) = fitted(kernel, count=40), data(30, seed=1)
    assert len(own.X) == len(own.y) == 40
    assert torch.equal(seen[0], own.X[subset.representative(own.X, surrogate.MOST)])
    posterior = own.model.posterior(X)
    mean, sigma = own.predict(X)
    expected = posterior.mean.detach()[:, 0] * own.spread + own.centre
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
    deviation = posterior.variance.detach()[:, 0].sqrt() * own.spread
    torch.testing.assert_close(sigma, deviation, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kernel", KERNELS)
def test_screening_gives_the_means_and_bounds_the_deviations(kernel: Kernel) -> None:
    own, (X, _) = fitted(kernel, count=40), data(30, seed=1)
    assert own.screens
    mean, sigma = own.predict(X)
    screened, bound = own.screen(X)
    torch.testing.assert_close(screened, mean, rtol=1e-9, atol=1e-9)
    assert bool((bound >= sigma * (1 - 1e-9)).all())
    alone = surrogate.assembled(own.model, own.X[:0], own.y[:0], centre=0.0, spread=own.spread)
    assert bool((bound <= alone.predict(X)[1]).all())  # what is known without any training
    assert float((bound / sigma).mean()) < 3


def test_few_trainings_are_not_screened() -> None:
    own, (X, _) = fitted(), data(30, seed=1)
    assert not own.screens
    for one, other in zip(own.screen(X), own.predict(X), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("many")
def test_that_some_fit_the_kernel_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fitted(count=15)
        assert caplog.messages == []
        fitted(count=40)
    assert "learns from 40 runs" in caplog.text
    assert "fitted to 15 of them" in caplog.text


def test_some_trainings_predict_like_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of a third of 150 trainings, conditioned on all, against the exact fit."""
    (unseen, _), exact = data(200, seed=1), fitted(count=150)
    monkeypatch.setattr(surrogate, "MOST", 50)
    mean, sigma = exact.predict(unseen)
    other, _ = fitted(count=150).predict(unseen)
    assert float(torch.corrcoef(torch.stack([mean, other]))[0, 1]) > 0.999
    assert float(((other - mean) / sigma).square().mean().sqrt()) < 0.6
