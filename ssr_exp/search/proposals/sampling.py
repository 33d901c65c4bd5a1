"""Acquisitions that draw from the posterior: BoTorch's qLogNEHVI, Thompson sampling, and chance."""

from __future__ import annotations

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.models import ModelList, SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import Model
from botorch.models.transforms.input import FilterFeatures
from botorch.optim import optimize_acqf_discrete
from botorch.sampling.get_sampler import get_sampler
from torch import Tensor

from ssr_exp.config import Objective
from ssr_exp.search.candidates import BatchState, Candidates
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.space import Numbers
from ssr_exp.search.surrogate import Surrogate


def qlognehvi(
    candidates: Candidates,
    pool: Numbers,
    trained: Tensor,
    *,
    reference: tuple[float, float],
    count: int,
    samples: int,
    seed: int,
) -> Numbers:
    """Choose networks of a pool by BoTorch's own acquisition (Daulton et al. 2021; Ament 2023).

    `trained` are `t x (d + 1)` features and log costs of what was trained or is pending, and
    `reference` the outcome and the log cost that a network must beat to count.
    """
    surrogate = candidates.surrogate
    outcome, log_cost = reference
    standard = (outcome - surrogate.centre) / surrogate.spread
    model = two_outcomes(surrogate, width=trained.shape[1])
    function = qLogNoisyExpectedHypervolumeImprovement(
        model=model,
        ref_point=[standard, -log_cost],
        X_baseline=trained,
        sampler=get_sampler(
            model.posterior(trained),  # type: ignore[arg-type]
            torch.Size([samples]),
            seed=seed,
        ),
        prune_baseline=False,
        cache_root=False,
    )
    costs = candidates.log_cost[torch.from_numpy(pool)][:, None]
    rows = torch.cat([candidates.features(pool), costs], dim=1)
    best, _ = optimize_acqf_discrete(function, q=min(count, len(pool)), choices=rows, unique=True)
    matches = (rows[None] == best[:, None]).all(-1)
    return pool[matches.int().argmax(1).numpy()]


def two_outcomes(surrogate: Surrogate, *, width: int) -> Model:
    """Predict outcome and negative log cost from features and log cost, `width` columns."""
    features = torch.arange(width - 1)
    X = torch.cat([surrogate.X, torch.zeros(len(surrogate.X), 1, dtype=torch.float64)], dim=1)
    accuracy = SingleTaskGP(
        X,
        surrogate.y[:, None],
        covar_module=surrogate.model.covar_module,
        mean_module=surrogate.model.mean_module,
        likelihood=surrogate.model.likelihood,
        outcome_transform=None,
        input_transform=FilterFeatures(feature_indices=features),
    )
    cost = GenericDeterministicModel(lambda X: -X[..., -1:], num_outputs=1)
    return ModelList(accuracy.eval(), cost)


def thompson(
    candidates: Candidates,
    pool: Numbers,
    state: BatchState,
    *,
    objective: Objective,
    count: int,
    seed: int,
) -> Numbers:
    """Choose for each of `count` functions drawn from the posterior the network that is its best.

    The functions are drawn at the points of a pool, and `objective` says which is the best one.
    """
    at = torch.from_numpy(pool)
    mean, log_cost = candidates.mean[at], candidates.log_cost[at]
    covariance = candidates.surrogate.covariance(candidates.features(pool))
    draws = mean + _normal(covariance, count, seed)
    left = torch.ones(len(pool), dtype=torch.bool)
    chosen: list[int] = []
    for draw in draws[: len(pool)]:
        best = int(torch.where(left, _worth(draw, log_cost, state, objective), -torch.inf).argmax())
        left[best] = False
        chosen.append(best)
        state = state.believe(draw[best], log_cost[best])
    return pool[chosen]


def _worth(draw: Tensor, log_cost: Tensor, state: BatchState, objective: Objective) -> Tensor:
    """Rank networks whose outcomes are taken for true; ties fall to the highest outcome."""
    if objective is Objective.smallest:
        saved = (state.incumbent - log_cost) * (draw >= state.threshold)
    else:
        certain = torch.full_like(draw, 1e-12)
        saved = acquisition.expected_hypervolume_improvement(
            draw, certain, log_cost, front=state.front
        )
    return torch.where(saved > 0, saved, 1e-9 * (draw - draw.max() - 1))


def _normal(covariance: Tensor, count: int, seed: int) -> Tensor:
    """Draw `count x n` from a normal distribution, by the covariance's eigenvectors."""
    values, vectors = torch.linalg.eigh(covariance)
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, len(values), generator=generator, dtype=torch.float64)
    return (white * values.clamp_min(0).sqrt()) @ vectors.T


def at_random(candidates: Candidates, *, count: int, seed: int) -> Numbers:
    """Choose any open points, all equally likely."""
    numbers = np.flatnonzero(candidates.open.numpy())
    return np.random.default_rng(seed).choice(numbers, size=min(count, len(numbers)), replace=False)


def pool(candidates: Candidates, scores: Tensor, *, size: int, seed: int, share: float) -> Numbers:
    """Keep a pool of open points: a share of it by their scores, the rest drawn with the seed."""
    size = min(size, int(candidates.open.sum()))
    masked = torch.where(candidates.open, scores, -torch.inf)
    top = torch.topk(masked, round(size * share)).indices.numpy()
    rest = candidates.open.numpy().copy()
    rest[top] = False
    others = np.flatnonzero(rest)
    drawn = np.random.default_rng(seed).choice(others, size=size - len(top), replace=False)
    return np.concatenate([top, drawn]).astype(np.int64)
