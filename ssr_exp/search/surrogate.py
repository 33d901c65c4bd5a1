"""The surrogate: a Gaussian process that predicts what was not trained.

Outcomes are on the scale of `ssr_exp.search.outcome`, where higher is better. Shapes: `n` trainings
or points, `d` features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from botorch import settings
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.kernels import RBFKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from jaxtyping import Float
from torch import Tensor

from ssr_exp.config import SurrogateConf
from ssr_exp.search import gaussian_process, subset
from ssr_exp.search.outcome import are_alike

log = logging.getLogger(__name__)

# Up to so many trainings all is computed as the textbook has it. The hyperparameters of more are
# fitted to so many of them: each step of that fit takes time with the third power of their number.
MOST = 300
WITNESSES = 128  # of more trainings; what they alone make certain bounds all points' uncertainty
CACHED = 4  # surrogates: of the networks, with and without finalists, by two levels of noise
SLICE = 1 << 20  # covariances of trainings and points that are held at once: in the cache, nearly


Fit = Callable[..., "Surrogate"]
"""Fits a surrogate, as `fit` does."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A fitted Gaussian process with its data, ready for many predictions.

    Where it learned from several fidelities, networks are given without that feature, and are
    predicted as the study trains them.

    Its predictions are those of `model.posterior`, computed for any number of points in time and
    memory that grow with their number (tests hold the two against each other). They are of all
    trainings, however many the hyperparameters were fitted to.

    Args:
        model: BoTorch's model; it holds the hyperparameters.
        X: features of the trainings.
        y: outcomes, standardised; `centre` and `spread` are those from before.
        factor: lower Cholesky factor of the trainings' covariance with noise.
    """

    model: SingleTaskGP
    X: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]
    centre: float
    spread: float
    factor: Float[Tensor, "n n"]

    @property
    def noise(self) -> float:
        """The standard deviation of one training's outcome, in the scale's units."""
        return float(self.model.likelihood.noise.detach().sqrt()) * self.spread

    def predict(self, X: Float[Tensor, "m _"]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Return mean and standard deviation of `m` networks' expected outcomes, without noise."""
        mean, sigma = self._in_parts(self._predict, X)
        return mean, sigma

    def against(
        self, X: Float[Tensor, "m _"], reference: Float[Tensor, "1 _"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Predict `m` networks like `predict`, with their covariances with a reference network."""
        anchor = self._at_full_fidelity(reference)
        _, root = self._project(anchor)

        def part(X: Tensor) -> tuple[Tensor, ...]:
            mean, whitened = self._project(X)
            variance = self._prior_variance(X) - whitened.square().sum(0)
            shared = self._kernel(anchor, X)[0] - (root.T @ whitened)[0]
            return self._back(mean), self._sigma(variance), shared * self.spread**2

        mean, sigma, covariance = self._in_parts(part, X)
        return mean, sigma, covariance

    @property
    def screens(self) -> bool:
        """Say whether `screen` only bounds standard deviations."""
        return len(self.X) > MOST

    def screen(self, X: Float[Tensor, "m _"]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Return means like `predict`, and what the standard deviations do not exceed.

        Of up to `MOST` trainings these are the standard deviations. Of more, those after
        `WITNESSES` of the trainings, which no further one can raise: the posterior variance of a
        Gaussian process does not depend on outcomes, and each training only lowers it. Time for a
        point grows with the number of trainings, and no longer with its square.
        """
        mean, sigma = self._in_parts(self._screen if self.screens else self._predict, X)
        return mean, sigma

    def covariance(self, X: Float[Tensor, "m _"]) -> Float[Tensor, "m m"]:
        """Return the joint posterior covariance of `m` networks' expected outcomes."""
        X = self._at_full_fidelity(X)
        _, whitened = self._project(X)
        return (self._kernel(X, X) - whitened.T @ whitened) * self.spread**2

    def believe(self, X: Float[Tensor, "m _"]) -> Surrogate:
        """Pretend that `m` more networks were trained and came out as predicted.

        The mean stays as it is everywhere; the uncertainty shrinks around them ("kriging
        believer", Ginsbourger et al. 2010).
        """
        if not len(X):
            return self
        X = self._at_full_fidelity(X)
        mean, _ = self._project(X)
        X, y = torch.cat([self.X, X]), torch.cat([self.y, mean])
        return assembled(self.model, X, y, centre=self.centre, spread=self.spread)

    def leave_one_out(
        self, features: int | None = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Predict each training's outcome from those of all other networks.

        Hyperparameters stay. In closed form: Rasmussen and Williams 2006, "Gaussian Processes for
        Machine Learning", equations 5.10 to 5.12, and for the trainings of one network, which are
        left out together, the same of a block (Ginsbourger and Schärer 2025, "Fast calculation of
        Gaussian process multiple-fold cross-validation residuals and their covariances").

        Args:
            features: so many of the first ones tell networks apart; None: all.

        Returns:
            Outcomes, their predicted means, and standard deviations that include the noise.
        """
        inverse = torch.cholesky_inverse(self.factor)
        variance = 1 / inverse.diagonal()
        weighted = inverse @ (self.y - self._constant)
        residual = weighted * variance
        _, network = torch.unique(self.X[:, :features], dim=0, return_inverse=True)
        for one in (network.bincount() > 1).nonzero():
            rows = (network == one).nonzero()[:, 0]
            covariance = torch.linalg.inv(inverse[rows[:, None], rows])
            residual[rows], variance[rows] = covariance @ weighted[rows], covariance.diagonal()
        mean = self.y - residual
        return self._back(self.y), self._back(mean), variance.sqrt() * self.spread

    def _in_parts(
        self, function: Callable[[Tensor], tuple[Tensor, ...]], X: Tensor
    ) -> tuple[Tensor, ...]:
        """Apply a function of points; little is held at once."""
        parts = map(function, self._at_full_fidelity(X).split(max(SLICE // max(len(self.X), 1), 1)))
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))

    def _predict(self, X: Tensor) -> tuple[Tensor, Tensor]:
        mean, whitened = self._project(X)
        variance = self._prior_variance(X) - whitened.square().sum(0)
        return self._back(mean), self._sigma(variance)

    def _screen(self, X: Tensor) -> tuple[Tensor, Tensor]:
        covariance = self._to_trainings(X)
        few, factor = self._witnesses
        whitened = torch.linalg.solve_triangular(factor, covariance[few], upper=False)
        variance = self._prior_variance(X) - whitened.square_().sum(0)
        return self._back(self._constant + self._weights @ covariance), self._sigma(variance)

    def _sigma(self, variance: Tensor) -> Tensor:
        return variance.clamp_min(1e-12).sqrt() * self.spread

    @cached_property
    def _weights(self) -> Tensor:
        """What each training's covariance with a point adds to its mean, `n`."""
        residual = (self.y - self._constant)[:, None]
        return torch.cholesky_solve(residual, self.factor)[:, 0]

    @cached_property
    def _witnesses(self) -> tuple[Tensor, Tensor]:
        """Choose trainings, by their places, with the factor of their covariance."""
        few = subset.spread(self.X, WITNESSES)
        return few, _factor(self.model, self.X[few])

    def _to_trainings(self, X: Tensor) -> Tensor:
        """Return the covariances of `m` points with the trainings, `n x m`.

        BoTorch's usual kernel is written out as one product and one exponential, in a third of the
        time (tests hold the two against each other).
        """
        kernel = self.model.covar_module
        if type(kernel) is not RBFKernel or kernel.active_dims is not None:
            return self._kernel(self.X, X)
        lengths, centre = kernel.lengthscale.detach(), self.X.mean(0)
        first, second = (self.X - centre) / lengths, (X - centre) / lengths
        halves = [-0.5 * some.square().sum(1, keepdim=True) for some in (first, second)]
        left = torch.cat([first, halves[0], torch.ones_like(halves[0])], dim=1)
        right = torch.cat([second, torch.ones_like(halves[1]), halves[1]], dim=1)
        return (left @ right.T).clamp_max_(0).exp_()

    def _at_full_fidelity(self, X: Tensor) -> Tensor:
        missing = self.X.shape[1] - X.shape[1]
        return torch.cat([X, X.new_ones(len(X), missing)], dim=1)

    @property
    def _constant(self) -> Tensor:
        return self.model.mean_module.constant.detach()

    def _back(self, y: Tensor) -> Tensor:
        return y * self.spread + self.centre

    def _kernel(self, first: Tensor, second: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.covar_module(first, second).to_dense()

    def _prior_variance(self, X: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.covar_module(X, diag=True)

    def _project(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return the standardised mean of `m` points and their whitened covariances, `n x m`."""
        whitened = torch.linalg.solve_triangular(self.factor, self._kernel(self.X, X), upper=False)
        residual = (self.y - self._constant)[:, None]
        weights = torch.linalg.solve_triangular(self.factor, residual, upper=False)
        return self._constant + (weights.T @ whitened)[0], whitened


def fit(
    X: Float[Tensor, "n d"],
    Y: Float[Tensor, " n"],
    conf: SurrogateConf,
    *,
    segments: Sequence[int] = (),
    least_noise: float = 0.0,
) -> Surrogate:
    """Fit the hyperparameters by their posterior mode; the same data give the same surrogate.

    The priors are BoTorch's dimension-scaled log-normal ones (Hvarfner et al. 2024, "Vanilla
    Bayesian Optimization Performs Great in High Dimensions"), which hold with few points.

    Args:
        X: features; with `conf.fidelity` the last one is the fidelity, 1 for the study's own.
        Y: outcomes on their scale, as many; repeats of a network are rows of their own.
        conf: kernel and fidelity.
        segments: for each of the first features the segment that it is of; for the additive kernel.
        least_noise: standard deviation that one training's outcome has at least, on the scale.

    Of more than `MOST` trainings, so many that stand for all (see `ssr_exp.search.subset`) fit the
    hyperparameters, and with these the surrogate learns from all.
    """
    centre, spread = float(Y.mean()), 1.0 if are_alike(Y) else float(Y.std())
    y = (Y - centre) / spread
    least = max((least_noise / spread) ** 2, gaussian_process.LEAST_NOISE)
    some = subset.representative(X, MOST)
    if len(some) < len(X):
        how = "its kernel's lengths and the noise are fitted to %d of them"
        log.info(f"the surrogate learns from %d runs; {how}", len(X), len(some))
    with settings.validate_input_scaling(False):  # it warns of outcomes that are all equal
        model = gaussian_process.build(X[some], y[some], conf, segments, least)
        try:
            _fit_hyperparameters(model)
        except (ModelFittingError, RuntimeError):  # which BoTorch's draw of other starts raises
            log.warning("the surrogate's hyperparameters could not be fitted: priors are used.")
            model = gaussian_process.build(X[some], y[some], conf, segments, least)
        if len(some) < len(X):
            fitted, model = model, gaussian_process.build(X, y, conf, segments, least)
            model.load_state_dict(fitted.state_dict())
    return assembled(model.eval(), X, y, centre=centre, spread=spread)


def _fit_hyperparameters(model: SingleTaskGP) -> None:
    """Fit by BoTorch, which begins anew at random where that fails: always at the same places.

    The random numbers of whoever calls go on as if nothing had been drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))


class CachedFits:
    """Call `fit`, and keep the last surrogates: a search asks for the same ones several times.

    Those of more than `MOST` trainings are not kept, which take much memory.
    """

    def __init__(self) -> None:
        self._cache: dict[tuple[object, ...], Surrogate] = {}

    def __call__(self, X: Tensor, Y: Tensor, conf: SurrogateConf, **options: Any) -> Surrogate:
        """Fit a surrogate, or return the one that the same data and settings gave."""
        data = tuple((*tensor.shape, tensor.numpy().tobytes()) for tensor in (X, Y))
        key = (*data, repr(conf), repr(sorted(options.items())))
        if (fitted := self._cache.pop(key, None)) is None:
            fitted = fit(X, Y, conf, **options)
        if len(X) <= MOST:
            self._cache[key] = fitted
        for oldest in [*self._cache][:-CACHED]:
            self._cache.pop(oldest, None)
        return fitted


def assembled(
    model: SingleTaskGP, X: Tensor, y: Tensor, *, centre: float, spread: float
) -> Surrogate:
    """Condition a model, which gives kernel, mean and noise, on data: see `Surrogate`."""
    return Surrogate(model, X, y, centre, spread, _factor(model, X))


def _factor(model: SingleTaskGP, X: Tensor) -> Tensor:
    """Return the lower Cholesky factor of trainings' covariance with noise, `n x n`."""
    with torch.no_grad():
        covariance = model.covar_module(X, X).to_dense()
        noise = float(model.likelihood.noise)
    jitter = 1e-8 * float(covariance.diagonal().mean())
    covariance.diagonal().add_(noise + jitter)
    return torch.linalg.cholesky(covariance)
