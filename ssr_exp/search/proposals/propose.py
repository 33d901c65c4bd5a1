"""Propose: what is believed goes in, the next batch comes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ssr_exp.config import Acquisition, Objective, SearchConfig
from ssr_exp.runs.predictions import WITHIN_80
from ssr_exp.search import lattice_sample
from ssr_exp.search.belief import Belief
from ssr_exp.search.candidates import Candidates
from ssr_exp.search.proposals import acquisition, batch, local_batch, sampling
from ssr_exp.search.rounds import Planned
from ssr_exp.search.space import Numbers


def propose(belief: Belief, conf: SearchConfig, *, count: int, seed: int) -> list[Planned]:
    """Choose the next networks; the same records and seed give the same ones.

    Args:
        belief: what the records say.
        conf: the search.
        count: networks at most; fewer where no more promise anything.
        seed: of acquisitions that draw.

    Returns:
        The networks with the 80 % interval that their outcomes are expected in, in their unit,
        and their scores when they were chosen, if the acquisition has any.
    """
    if not bool(belief.candidates.open.any()):
        return []
    candidates, numbers, promises = _chosen(belief, conf, count, seed)
    mean, sigma = candidates.mean[torch.from_numpy(numbers)], candidates.sigmas(numbers)
    spread = WITHIN_80 * (sigma.square() + belief.surrogate.noise**2).sqrt()
    ends = [belief.scale.back(values) for values in (mean - spread, mean + spread)]
    middle, low, high = belief.scale.back(mean), torch.minimum(*ends), torch.maximum(*ends)
    columns = [values.tolist() for values in (low, middle, high)]
    codes = map(candidates.space.code, candidates.architectures(numbers))
    return [
        Planned(network=network, low=low, mean=middle, high=high, promise=promise)
        for network, low, middle, high, promise in zip(codes, *columns, promises, strict=True)
    ]


def _chosen(
    belief: Belief, conf: SearchConfig, count: int, seed: int
) -> tuple[Candidates, Numbers, Sequence[float | None]]:
    """Choose points; returns what they are among, their numbers, and what each promised."""
    kind, candidates, state = acquisition.kind(conf), belief.candidates, belief.state
    by_score = {
        Acquisition.ehvi: batch.hypervolume_scores,
        Acquisition.smallest: batch.saving_scores,
    }
    if kind not in by_score:
        candidates, numbers = _drawn(belief, conf, kind, count, seed)
        return candidates, numbers, [None] * len(numbers)
    if candidates.sample is None:
        return candidates, *batch.choose(candidates, state, by_score[kind], count=count)
    points, promises = local_batch.choose(candidates, state, by_score[kind], count=count, seed=seed)
    return candidates.judge(points), np.arange(len(points)), promises


def _drawn(
    belief: Belief, conf: SearchConfig, kind: Acquisition, count: int, seed: int
) -> tuple[Candidates, Numbers]:
    candidates, state = belief.candidates, belief.state
    if kind is Acquisition.random:
        if candidates.sample is not None:  # which holds more good ones than chance would
            space, draw = candidates.space, np.random.default_rng(seed)
            anywhere = candidates.judge(space.spread(lattice_sample.DRAWN, draw))
            candidates = anywhere if bool(anywhere.open.any()) else candidates
        return candidates, sampling.at_random(candidates, count=count, seed=seed)
    is_thompson, objective = kind is Acquisition.thompson, conf.objective.kind
    smallest = is_thompson and objective is Objective.smallest
    ranking = batch.saving_scores if smallest else batch.hypervolume_scores
    if candidates.sample is not None:
        draw = np.random.default_rng(seed)
        candidates = local_batch.explored(candidates, state, ranking, draw)
    pool = sampling.pool(
        candidates,
        batch.score_all(candidates, ranking(state)[0]),
        size=conf.acquisition.prefilter,
        seed=seed,
        share=0.5 if is_thompson else 1.0,
    )
    if is_thompson:
        return candidates, sampling.thompson(
            candidates, pool, state, objective=objective, count=count, seed=seed
        )
    features = belief.history.features([*belief.networks, *belief.pending])
    # What costs as much as the reference counts for nothing: no rival, as what breaks a cap is.
    prices = torch.where(state.within, state.log_costs, state.reference[1])
    return candidates, sampling.qlognehvi(
        candidates,
        pool,
        torch.cat([features, prices[:, None]], dim=1),
        reference=state.reference,
        count=count,
        samples=conf.acquisition.samples,
        seed=seed,
    )
