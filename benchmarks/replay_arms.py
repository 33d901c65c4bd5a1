"""Ways to choose the next networks: ours, and BoTorch's as its documentation shows it.

An arm begins with the networks that it may choose from, and is then asked for more: it sees the
accuracies of what it has chosen and no others. Optuna's samplers are in `benchmarks.optuna_arms`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelList, SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.transforms.input import FilterFeatures
from botorch.optim import optimize_acqf_discrete
from botorch.sampling.get_sampler import get_sampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from benchmarks.table_of_networks import Table
from ssr_exp.config import Acquisition, Objective, SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import Fractions, Record, Status
from ssr_exp.search import history
from ssr_exp.search.belief import Belief
from ssr_exp.search.proposals import propose
from ssr_exp.search.space import Space

SAMPLES = 128  # of the posterior, as BoTorch's tutorials have it

Known = Mapping[Architecture, float]
"""Accuracies of what an arm has seen, in the order in which it saw them; the sentinels first."""

Ask = Callable[[Known, int], list[Architecture]]
"""Choose up to so many networks of the pool that are not known yet."""

Begin = Callable[[Table, Sequence[Architecture], int], Ask]
"""Start a search in a pool of a table's networks with a seed."""


def ours(kind: Acquisition) -> Begin:
    """Search as `search.py` does; what is not in the pool is said to be taken."""

    def begin(table: Table, pool: Sequence[Architecture], seed: int) -> Ask:
        own = table.space
        conf, outside = SearchConfig(), _outside(own, pool)
        conf.acquisition.kind = kind
        conf.acquisition.prefilter = len(pool)  # qlognehvi and thompson look at all of it
        if kind is Acquisition.smallest:
            conf.objective.kind = Objective.smallest

        def ask(known: Known, count: int) -> list[Architecture]:
            records = [record(own, a, accuracy) for a, accuracy in known.items()]
            trained = history.from_records(own, records)
            belief = Belief.from_history(trained, conf, excluded=outside, val=table.val)
            picks = propose.propose(belief, conf, count=count, seed=seed * 1000 + len(known))
            return [own.parse(pick.network) for pick in picks]

        return ask

    return begin


def _outside(own: Space, pool: Sequence[Architecture]) -> list[Architecture]:
    inside = set(pool)
    every = (a for points in own.lattice.enumerate() for a in cost.decode(own.plan, points))
    return [a for a in every if a not in inside]


def botorch(table: Table, pool: Sequence[Architecture], seed: int) -> Ask:
    """Search with BoTorch's defaults and nothing of ours.

    A `SingleTaskGP` as it comes of accuracy in percent, on the shares of blocks and channels;
    the parameters are exact here, too; qLogNEHVI over the whole pool. Its reference is that of
    the comparison's hypervolume.
    """
    own, costs = table.space, {a: table.log_params[a] for a in pool}

    def rows(architectures: Sequence[Architecture]) -> Tensor:
        shares = [own.plan.modifiers(a) for a in architectures]
        found = [(*m.depth, *m.width, costs[a]) for m, a in zip(shares, architectures, strict=True)]
        return torch.tensor(found, dtype=torch.float64)

    def ask(known: Known, count: int) -> list[Architecture]:
        left = [a for a in pool if a not in known]
        X, choices = rows([*known]), rows(left)
        Y = torch.tensor(list(known.values()), dtype=torch.float64)[:, None]
        features = FilterFeatures(feature_indices=torch.arange(X.shape[1] - 1))
        accuracy = SingleTaskGP(X, Y, input_transform=features)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(accuracy.likelihood, accuracy))
        log_params = GenericDeterministicModel(lambda X: -X[..., -1:], num_outputs=1)
        model = ModelList(accuracy, log_params)
        function = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=[float(Y.min()), -costs[own.plan.baseline]],
            X_baseline=X,
            sampler=get_sampler(
                model.posterior(X),  # type: ignore[arg-type]
                torch.Size([SAMPLES]),
                seed=seed,
            ),
            prune_baseline=True,
            cache_root=False,
        )
        best, _ = optimize_acqf_discrete(
            function, q=min(count, len(left)), choices=choices, unique=True
        )
        matches = (choices[None] == best[:, None]).all(-1).int().argmax(1)
        return [left[number] for number in matches.tolist()]

    return ask


def record(own: Space, architecture: Architecture, accuracy: float) -> Record:
    """Write a training's record, as a search reads it."""
    shares = own.plan.modifiers(architecture)
    counted = cost.count_one(own.plan, architecture)._asdict()
    return Record(
        study="table",
        network=own.code(architecture),
        model="table",
        dataset="table",
        modifiers=Fractions(depth=tuple(shares.depth), width=tuple(shares.width)),
        blocks=architecture.blocks,
        widths=own.plan.channels(architecture),
        seed=0,
        epochs=1,
        status=Status.finished,
        score=accuracy,
        **counted,
        **{f"baseline_{name}": value for name, value in own.baseline._asdict().items()},
        wall_s=0.0,
        device="table",
        precision="32-true",
        versions={},
        git_commit=None,
        started_at="",
    )
