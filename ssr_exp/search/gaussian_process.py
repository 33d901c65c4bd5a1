"""The Gaussian process that a configuration asks for: BoTorch's models, our kernels and priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from botorch.models import SingleTaskGP, SingleTaskMultiFidelityGP
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import AdditiveKernel, Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.priors import GammaPrior, LogNormalPrior
from torch import Tensor

from ssr_exp import config
from ssr_exp.config import SurrogateConf

# The noise's share of the outcomes' variance, log-normal. BoTorch's own (-4, 1) expects next to
# none; two seeds of a short training differ by more (results/search/table.csv).
NOISE_LOC, NOISE_SCALE = -2.0, 1.0
LEAST_NOISE = 1e-4  # of that variance


def build(
    X: Tensor,
    y: Tensor,
    conf: SurrogateConf,
    segments: Sequence[int],
    least_noise: float = LEAST_NOISE,
) -> SingleTaskGP:
    """Make a model of `n x d` features and `n` standardised outcomes; it is not fitted yet.

    `segments` says for each of the first features which segment it is of; `least_noise` bounds the
    noise's share of the outcomes' variance.
    """
    common: dict[str, Any] = {"likelihood": _likelihood(least_noise), "outcome_transform": None}
    if conf.fidelity:
        fidelities = [X.shape[1] - 1]
        return SingleTaskMultiFidelityGP(X, y[:, None], data_fidelities=fidelities, **common)
    kernel = _additive(segments, X.shape[1]) if conf.kernel is config.Kernel.additive else None
    return SingleTaskGP(X, y[:, None], covar_module=kernel, **common)


def _likelihood(least: float) -> GaussianLikelihood:
    prior = LogNormalPrior(NOISE_LOC, NOISE_SCALE)
    start = max(math.exp(NOISE_LOC), 1.5 * least)
    bound = GreaterThan(least, transform=None, initial_value=start)
    return GaussianLikelihood(noise_prior=prior, noise_constraint=bound)


def _additive(segments: Sequence[int], d: int) -> Kernel:
    """Add an effect of each segment on its own to one of all `d` features together."""
    groups = [[c for c, one in enumerate(segments) if one == s] for s in dict.fromkeys(segments)]
    groups.append(list(range(d)))
    return AdditiveKernel(*(_scaled(columns, 1 / len(groups)) for columns in groups))


def _scaled(columns: Sequence[int], variance: float) -> Kernel:
    base = get_covar_module_with_dim_scaled_prior(len(columns), active_dims=tuple(columns))
    kernel = ScaleKernel(base, outputscale_prior=GammaPrior(2.0, 2.0 / variance))
    kernel.outputscale = variance
    return kernel
