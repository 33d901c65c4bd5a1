"""Propose: what is believed goes in, the next batch comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ssr_exp.config import Acquisition, Objective, SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.belief import View
from ssr_exp.search.proposals import acquisition, batch, sampling
from ssr_exp.search.space import Numbers

WITHIN_80 = 1.2816  # standard deviations on each side


@dataclass(frozen=True)
class Pick:
    """A proposed network.

    Args:
        architecture: what to train.
        low: of the interval that its outcome is expected in with 80 %; percent, or nats.
        mean: expected.
        high: of the interval.
        promise: its score when it was chosen; None where the acquisition has none.
    """

    architecture: Architecture
    low: float
    mean: float
    high: float
    promise: float | None


def propose(seen: View, conf: SearchConfig, *, count: int, seed: int) -> list[Pick]:
    """Choose the next networks; the same records and seed give the same ones.

    Args:
        seen: what the records say.
        conf: the search.
        count: networks at most; fewer where no more promise anything.
        seed: of acquisitions that draw.
    """
    if not bool(seen.candidates.open.any()):
        return []
    numbers, promised = _chosen(seen, conf, count, seed)
    return _picks(seen, numbers, promised)


def _chosen(
    seen: View, conf: SearchConfig, count: int, seed: int
) -> tuple[Numbers, list[float] | None]:
    named, found, state = acquisition.kind(conf), seen.candidates, seen.state
    if named is Acquisition.ehvi:
        return batch.choose(found, state, batch.hypervolume_scores, count=count)
    if named is Acquisition.smallest:
        return batch.choose(found, state, batch.saving_scores, count=count)
    if named is Acquisition.random:
        return sampling.at_random(found, count=count, seed=seed), None
    smallest = conf.objective.kind is Objective.smallest and named is Acquisition.thompson
    ranking = batch.saving_scores if smallest else batch.hypervolume_scores
    scores = batch.score_all(found, ranking(state)[0])
    size = conf.acquisition.prefilter
    if named is Acquisition.thompson:
        pool = sampling.pool(found, scores, size=size, seed=seed, share=0.5)
        return (
            sampling.thompson(
                found, pool, state, objective=conf.objective.kind, count=count, seed=seed
            ),
            None,
        )
    known = seen.history.features([*seen.networks, *seen.pending])
    trained = torch.cat([known, state.log_costs[:, None]], dim=1)
    chosen = sampling.qlognehvi(
        found,
        sampling.pool(found, scores, size=size, seed=seed, share=1.0),
        trained,
        reference=state.reference,
        count=count,
        samples=conf.acquisition.samples,
        seed=seed,
    )
    return chosen, None


def _picks(seen: View, numbers: Numbers, promised: list[float] | None) -> list[Pick]:
    at = torch.from_numpy(np.asarray(numbers))
    mean, sigma = seen.candidates.mean[at], seen.candidates.sigmas(numbers)
    spread = WITHIN_80 * (sigma.square() + seen.surrogate.noise**2).sqrt()
    columns = [seen.accuracy(values).tolist() for values in (mean - spread, mean, mean + spread)]
    promises: list[float | None] = [None] * len(at) if promised is None else list(promised)
    rows = zip(seen.candidates.space.architectures(numbers), *columns, promises, strict=True)
    return [Pick(*row) for row in rows]
