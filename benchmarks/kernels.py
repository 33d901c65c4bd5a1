"""Kernels that a surrogate of many segments might have, beside those of `surrogate.kernel=`.

Sparse priors are BoTorch's fits by the posterior mode of Eriksson and Jankowiak 2021,
"High-Dimensional Bayesian Optimization with Sparse Axis-Aligned Subspaces" (SAAS).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from botorch.models.map_saas import add_saas_prior, get_additive_map_saas_covar_module
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.kernels import AdditiveKernel, Kernel, LinearKernel, MaternKernel, ScaleKernel
from gpytorch.priors import GammaPrior

from ssr_exp.search import gaussian_process

TAUS = 4  # shrinkages that an additive sparse kernel has, as BoTorch has it


def sparse(d: int) -> Kernel:
    """Let few of `d` features matter: a Matern kernel under SAAS's prior."""
    return ScaleKernel(add_saas_prior(MaternKernel(nu=2.5, ard_num_dims=d)))


def sparse_sum(d: int) -> Kernel:
    """Add kernels of all `d` features, each under SAAS's prior with a shrinkage of its own."""
    return get_additive_map_saas_covar_module(d, num_taus=TAUS)


def linear(d: int) -> Kernel:
    """Add a linear effect of each of `d` features to the joint kernel."""
    half = GammaPrior(2.0, 4.0)
    parts = (LinearKernel(ard_num_dims=d), get_covar_module_with_dim_scaled_prior(d))
    scaled = [ScaleKernel(part, outputscale_prior=half) for part in parts]
    for kernel in scaled:
        kernel.outputscale = 0.5
    return AdditiveKernel(*scaled)


OTHERS: dict[str, Callable[[int], Kernel]] = {
    "sparse": sparse,
    "sparse_sum": sparse_sum,
    "linear": linear,
}


@contextlib.contextmanager
def instead_of_additive(name: str) -> Iterator[None]:
    """Let `surrogate.kernel=additive` stand for one of `OTHERS`, while a benchmark tries it."""
    own = gaussian_process._additive
    if name in OTHERS:
        gaussian_process._additive = lambda segments, d: OTHERS[name](d)
    try:
        yield
    finally:
        gaussian_process._additive = own
