"""How long a whole proposal takes, beside BoTorch's own over the same points, and how good it is.

BoTorch's rival is qLogNEHVI with `optimize_acqf_discrete`, with the same fitted surrogate: its time
is that of choosing alone, ours that of fitting, predicting and pricing the whole lattice, too.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks import counting, measure, replay_arms
from benchmarks.measure import Figure
from ssr_exp.config import ModelConf, SearchConfig
from ssr_exp.rescaling import cost, planning, seeds
from ssr_exp.search import history, space, surrogate
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale
from ssr_exp.search.proposals import batch, propose, sampling
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.space import Numbers, Space

PART = "proposals"
NOISE = 0.3  # points of accuracy
INPUT = {"resnet34": ((3, 224, 224), 1000)}  # others: CIFAR-10's


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    model: str = "resnet56"
    width_steps: int = 16
    records: int = 60
    batch: int = 8
    rounds: int = 5
    rival_points: tuple[int, int] = (256, 512)  # its time is scaled from the second
    rival_pool: int = 4096  # the most promising points, which its batch is chosen from
    samples: int = 128  # of BoTorch's posterior
    draws: int = 65_536  # for the joint improvement of a batch
    many_records: int = 200
    large_model: str = "resnet34"
    large_width_steps: int = 19  # just under 10^7 points
    huge_model: str = "resnet110"  # a width for each of its 54 blocks
    huge_width_steps: int = 4  # more than 10^30 points


SMOKE = Size("resnet14", 4, 8, 2, 1, (8, 16), 16, 8, 4096, 16, "resnet14", 4, "resnet44", 4)


def measured(size: Size) -> list[Figure]:
    """Propose for the requirement's lattice, on one core."""
    own, conf = spanned(size.model, size.width_steps), SearchConfig()
    known, many = made(own, size.records), made(own, size.many_records)
    with counting.one_thread():
        belief, ours = proposed(known, conf, size.batch)
        few, more = (promising(belief, points) for points in size.rival_points)
        by_botorch(belief, few[:4], replace(size, batch=2))  # compiles its kernel
        seconds = measure.interleaved(
            {
                "ours": measure.timed(lambda: proposed(known, conf, size.batch)),
                "fit": measure.timed(lambda: fitted(many, conf)),
                "few": measure.timed(lambda: by_botorch(belief, few, size)),
                "more": measure.timed(lambda: by_botorch(belief, more, size)),
            },
            rounds=size.rounds,
        )
        theirs = by_botorch(belief, promising(belief, size.rival_pool), size)
        gain = improvement(belief, ours, size.draws) / improvement(belief, theirs, size.draws)
    figures = _figures(size, len(own.lattice), seconds, gain)
    return figures + _of_large(size) + _of_huge(size)


def _figures(size: Size, points: int, seconds: measure.Seconds, gain: float) -> list[Figure]:
    """Name all figures; the rival's time grows with its points, and is scaled to all of them.

    It is scaled from fewer points than it looks at together, 2,048: with these it takes more than
    twice the time for each.
    """
    few, more = size.rival_points
    whole = [each * points / more for each in seconds["more"]]
    by_fewer = [each * more / few for each in seconds["few"]]
    lattice = f"{size.model}, {points:,} points"
    return [
        measure.duration(
            PART,
            f"whole proposal ({lattice}, {size.records} records, batch of {size.batch})",
            seconds["ours"],
            at_most=15,
        ),
        measure.duration(
            PART,
            f"BoTorch's qLogNEHVI over as many points, without the fit, scaled from {more}",
            whole,
        ),
        measure.ratio(
            PART,
            f"its seconds a point with {more} points over those with {few}; above 1, scaling "
            "flatters it",
            seconds["more"],
            by_fewer,
            at_least=0.8,
        ),
        measure.ratio(PART, "BoTorch's over ours", whole, seconds["ours"], at_least=20),
        Figure(
            PART,
            "joint expected hypervolume improvement of the batch, ours over BoTorch's of the "
            f"{size.rival_pool:,} most promising points",
            gain,
            "x",
            at_least=0.98,
        ),
        measure.duration(PART, f"fit to {size.many_records} records", seconds["fit"], at_most=5),
    ]


def _of_large(size: Size) -> list[Figure]:
    """Propose once for the largest lattice of which all points are looked at."""
    large = in_own_process(size, size.large_model, size.large_width_steps, "stage")
    name = f"whole proposal ({size.large_model}, {large['points']:,.0f} points)"
    return [
        Figure(PART, name, large["seconds"], "s"),
        Figure(PART, f"{name}: memory of its process", large["mb"], "MB", at_most=2048),
    ]


def _of_huge(size: Size) -> list[Figure]:
    """Propose once for a lattice that local search looks at."""
    few = in_own_process(size, size.huge_model, size.huge_width_steps, "block")
    words = f"{size.huge_model} by block, {few['points']:.1e} points"
    name = f"whole proposal by local search ({words}, {size.records} records)"
    return [
        Figure(PART, name, few["seconds"], "s", at_most=15),
        Figure(PART, f"{name}: memory beyond what it began with", few["more_mb"], "MB",
               at_most=1024),
    ]  # fmt: skip


def spanned(model: str, width_steps: int, kind: str = "stage") -> Space:
    """Span a seed network's lattice."""
    shape, classes = INPUT.get(model, ((3, 32, 32), 10))
    network = seeds.build(ModelConf(model), num_classes=classes, input_shape=shape)
    plan = planning.trace(network, shape, multiple=seeds.multiple(ModelConf(model)), kind=kind)
    return space.from_plan(plan, width_steps=width_steps)


def made(own: Space, count: int) -> History:
    """Make up records of the baseline and of random networks: a smooth function, and noise."""
    networks = list(dict.fromkeys([own.plan.baseline, *own.lattice.sample(count, seed=0)]))[:count]
    rng = np.random.default_rng(0)
    X = own.features(cost.encode(own.plan, networks)).numpy()
    rise = X @ rng.uniform(0.5, 2.0, X.shape[1])
    accuracies = 94 - 14 * np.exp(-rise / 2) + NOISE * rng.normal(size=len(X))
    pairs = zip(networks, accuracies.tolist(), strict=True)
    return history.from_records(own, [replay_arms.record(own, *pair) for pair in pairs])


def proposed(known: History, conf: SearchConfig, count: int) -> tuple[Belief, Numbers]:
    """Do all that a search does between two rounds; returns the numbers of the chosen points."""
    belief = Belief.from_history(known, conf)
    picks = propose.propose(belief, conf, count=count, seed=0)
    return belief, known.space.numbers([known.space.parse(pick.network) for pick in picks])


def fitted(known: History, conf: SearchConfig) -> surrogate.Surrogate:
    """Fit the surrogate alone."""
    scale = OutcomeScale(known.score, conf.surrogate.scale)
    Y = scale.forward(known.values(known.score))
    return surrogate.fit(known.X, Y, conf.surrogate, segments=known.space.segments)


def promising(belief: Belief, count: int) -> Numbers:
    """List the open points with the highest expected hypervolume improvement."""
    scores = batch.score_all(belief.candidates, batch.hypervolume_scores(belief.state)[0])
    return sampling.pool(belief.candidates, scores, size=count, seed=0, share=1.0)


def by_botorch(belief: Belief, pool: Numbers, size: Size) -> Numbers:
    """Let BoTorch choose a batch of a pool."""
    features = belief.history.features(belief.networks)
    return sampling.qlognehvi(
        belief.candidates,
        pool,
        torch.cat([features, belief.state.log_costs[:, None]], dim=1),
        reference=belief.state.reference,
        count=size.batch,
        samples=size.samples,
        seed=0,
    )


def improvement(belief: Belief, numbers: Numbers, draws: int) -> float:
    """Estimate by how much a batch is expected to raise the hypervolume, by joint samples."""
    at = torch.from_numpy(np.asarray(numbers))
    found = belief.candidates
    covariance = belief.surrogate.covariance(found.features(numbers))
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(draws, len(at), generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    outcomes = found.mean[at] + (white * values.clamp_min(0).sqrt()) @ vectors.T
    return float(gains(outcomes, found.log_cost[at], belief.state.front).mean())


def gains(outcomes: Tensor, log_costs: Tensor, front: Front) -> Tensor:
    """Measure by how much each of `s x q` outcomes of `q` networks raises a front's hypervolume."""
    order = log_costs.argsort()
    costs, best = log_costs[order], outcomes[:, order].cummax(dim=1).values
    starts = torch.cat([front.edges[1:], costs]).sort().values
    ends = torch.cat([starts[1:], starts.new_tensor([front.end])])
    lengths = (ends.clamp_max(front.end) - starts).clamp_min(0)
    base = front.levels[torch.searchsorted(front.edges, starts, right=True) - 1]
    before = torch.searchsorted(costs, starts, right=True)  # networks that cost no more
    padded = torch.cat([torch.full_like(best[:, :1], -torch.inf), best], dim=1)
    return ((padded[:, before] - base).clamp_min(0) * lengths).sum(dim=1)


def in_own_process(size: Size, model: str, width_steps: int, kind: str) -> dict[str, float]:
    """Propose for a lattice in a fresh process."""
    words = (model, kind, width_steps, size.records, size.batch)
    found: dict[str, float] = measure.in_own_process("benchmarks.proposals", *words)
    return found


def _alone(model: str, kind: str, *words: str) -> dict[str, float]:
    width_steps, records, count = map(int, words)
    own, conf = spanned(model, width_steps, kind), SearchConfig()
    known = made(own, records)
    before, start = counting.peak_mb(), time.perf_counter()
    with counting.one_thread():
        propose.propose(Belief.from_history(known, conf), conf, count=count, seed=0)
    seconds, mb = time.perf_counter() - start, counting.peak_mb()
    points = float(own.lattice.size)
    return {"points": points, "seconds": seconds, "mb": mb, "more_mb": mb - before}


if __name__ == "__main__":
    print(json.dumps(_alone(*sys.argv[1:])))
