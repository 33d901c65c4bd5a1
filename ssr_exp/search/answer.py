"""The answer: the smallest network that is accurate enough, trained or predicted."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import torch

from ssr_exp.config import Arm, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import seed_means, verdict
from ssr_exp.runs.record import Record
from ssr_exp.search import costs, lattice_sample, refuted
from ssr_exp.search.belief import Belief
from ssr_exp.search.caps import RELATIVE
from ssr_exp.search.outcome import EVEN

log = logging.getLogger(__name__)

BASELINE, ROLE, FINALIST = "baseline", "answer", "finalist"  # roles in the last comparison
NEAR = 0.05  # natural logarithm: costs within 5 % are equal


@dataclass(frozen=True)
class Contender:
    """A network of the last comparison.

    Args:
        role: why it is there, such as `answer`.
        network: its code; None for a seed network of its own.
        model: that seed network; None for the study's.
    """

    role: str
    network: str | None
    model: str | None = None


def good_enough(belief: Belief) -> list[Architecture]:
    """List the trained networks that are good enough, the cheapest first, the baseline last.

    The measured score lies within `max_drop` of the baseline's (means over seeds), and so does the
    predicted one, which does not fall for one lucky seed, and with a probability of the confidence
    (see `ssr_exp.search.promise`). The baseline always is good enough, and all others
    are cheaper, but where it breaks a cap: then what keeps to them comes first at any cost. Without
    any other one, at even odds and below the measured score decides; above, where the baseline
    breaks a cap, the likeliest network of those that are good enough at even odds.
    """
    score, scores = belief.score, belief.history.scores()
    baseline = belief.history.space.plan.baseline
    log_costs = belief.log_costs
    accurate = dict(zip(belief.networks, belief.state.accurate.tolist(), strict=False))
    enough = [a for a in smaller(belief) if accurate[a]]
    if not enough and belief.confidence <= EVEN:
        enough = looks_good_enough(belief)
    elif not enough and breaks_a_cap(belief, baseline):
        enough = [one] if (one := likeliest(belief)) is not None else []
    enough.sort(key=lambda a: (log_costs[a], -score.sign * scores[a], a))
    return [*enough, baseline]


def likeliest(
    belief: Belief, drops: Mapping[Architecture, float] | None = None
) -> Architecture | None:
    """Find the network that likeliest keeps within the drop, of those that look as if they did.

    Those that lost more on test, by `drops`, do not, nor does what lies within them.
    """
    drops = drops or {}
    looks = looks_good_enough(belief)
    looks = [a for a in looks if verdict.is_kept(drops.get(a, 0.0), belief.drop)]
    looks = refuted.left(belief, drops, looks)
    return max(looks, key=lambda a: belief.promises[a].probability, default=None)


def looks_good_enough(belief: Belief) -> list[Architecture]:
    """List the smaller networks that are so, measured and predicted; else all that are measured."""
    scores = belief.history.scores()
    outcomes = dict(zip(belief.networks, belief.state.outcomes.tolist(), strict=False))
    measured = [a for a in smaller(belief) if belief.threshold.is_measured(scores[a])]
    both = [a for a in measured if belief.threshold.is_reached(scores[a], outcomes[a])]
    return both or measured


def smaller(belief: Belief) -> list[Architecture]:
    """List the trained networks within the caps that are cheaper than the baseline.

    Where that breaks a cap, also those that cost as much or more: it cannot be the answer.
    """
    baseline, state = belief.history.space.plan.baseline, belief.state
    limit = math.inf
    if not breaks_a_cap(belief, baseline):
        limit = float(state.log_costs[belief.networks.index(baseline)]) - RELATIVE
    rows = zip(belief.networks, state.within.tolist(), state.log_costs.tolist(), strict=False)
    return [a for a, keeps, price in rows if keeps and price < limit and a != baseline]


def breaks_a_cap(belief: Belief, architecture: Architecture) -> bool:
    """Say whether a trained network does not keep to the caps on cost."""
    return not bool(belief.state.within[belief.networks.index(architecture)])


@dataclass(frozen=True)
class DeviceLatency:
    """What a network takes on a device and runtime, its `setting`, measured or predicted."""

    ms: float
    setting: str
    measured: bool
    cap: float | None = None
    batch: int = 1


def latency(belief: Belief, architecture: Architecture) -> DeviceLatency | None:
    """Tell the latency of a network, where latency is traded or capped on a device."""
    if belief.latencies is None:
        return None
    try:
        measured = belief.latencies.measure([architecture])
    except SsrError as error:  # a machine that is too noisy just now
        log.warning("the answer's latency stays predicted: %s", error)
        measured = False
    (ms,) = belief.latencies.ms(cost.encode(belief.history.space.plan, [architecture])).tolist()
    cap, batch = belief.caps.get("latency_ms"), belief.latencies.batch
    return DeviceLatency(ms, str(belief.latencies), measured, cap, batch)


def contenders(
    belief: Belief, conf: SearchConfig, answers: Sequence[Architecture]
) -> list[Contender]:
    """List the networks of the last comparison, each once: baseline, answers, arms."""
    space = belief.history.space
    baseline = Contender(BASELINE, space.code(space.plan.baseline))
    others = [a for a in answers if a != space.plan.baseline]
    named = [finalist(space.code(a), rank) for rank, a in enumerate(others)]
    arms = [
        Contender(arm.value.replace("_", " "), space.code(_equal(belief, arm, others[0], conf)))
        for arm in conf.finalists.arms
        if arm is not Arm.family and others
    ]
    unique: dict[str | None, Contender] = {}
    for one in (baseline, *named, *arms):
        unique.setdefault(one.network, one)
    return list(unique.values())


def finalist(network: str, rank: int) -> Contender:
    """Name the network that is tested first the answer, and others by their rank, 0 the first."""
    return Contender(ROLE if rank == 0 else f"{FINALIST} {rank + 1}", network)


def _equal(belief: Belief, arm: Arm, answer: Architecture, conf: SearchConfig) -> Architecture:
    """Find the network of an arm whose cost is nearest to the answer's; of several the largest.

    Widths leave GeMMs as they are, so a narrow network would be compared for nothing.
    """
    space = belief.history.space
    price = costs.price(conf.objective.cost, belief.history, belief.latencies)
    (target,) = price(cost.encode(space.plan, [answer])).tolist()
    if arm is Arm.random:
        return _random(belief, target, answer, conf.seed)
    shares, depth = np.linspace(0.02, 1, 99).tolist(), arm is Arm.uniform_depth
    width = arm is Arm.uniform_width
    options = list(dict.fromkeys(sets.uniform(space.plan, shares, depth=depth, width=width)))
    distance = (price(cost.encode(space.plan, options)) - target).abs()
    nearest = torch.nonzero(distance <= distance.min() + RELATIVE).flatten()
    return options[int(nearest[-1])]


def _random(belief: Belief, target: float, answer: Architecture, seed: int) -> Architecture:
    """Draw a point of the lattice of about the same cost."""
    candidates, rng = belief.candidates, np.random.default_rng(seed)
    if candidates.sample is not None:  # which holds more good ones than chance would
        candidates = candidates.judge(candidates.space.spread(lattice_sample.DRAWN, rng))
    distance = (candidates.log_cost - target).abs()
    distance[torch.from_numpy(candidates.numbers([answer]))] = math.inf
    near = torch.nonzero(distance <= NEAR).flatten()
    if not len(near):
        near = distance.argmin().reshape(1)
    return candidates.architectures([int(rng.choice(near.numpy()))])[0]


@dataclass(frozen=True)
class Result:
    """What the last trainings of a contender gave.

    Args:
        params_share: parameters as a share of the baseline's.
        score: mean over seeds, on test.
        deviation: standard deviation over seeds; None for a single one.
    """

    contender: Contender
    records: tuple[Record, ...]
    params_share: float
    score: float
    deviation: float | None

    def figure(self) -> dict[str, Any]:
        """Write the score as plain data."""
        return {"mean": self.score, "std": self.deviation, "seeds": len(self.records)}


def shipped(records: Sequence[Record]) -> Record:
    """Choose whose weights are handed over, of trainings of one network: the best on val.

    Never by test, which would no longer say what they are worth. Where they learned from val, the
    one with the first seed.
    """
    ordered = sorted(records, key=lambda r: r.seed)
    values = [r.scored_by.sign * r.score for r in ordered if r.score is not None]
    return ordered[values.index(max(values))] if len(values) == len(ordered) else ordered[0]


def results(rows: Sequence[tuple[Contender, Sequence[Record]]], *, full: int) -> list[Result]:
    """Average the test score of each contender over its seeds; those without one are left out.

    `full` is the parameters of the baseline.
    """
    averaged = []
    for contender, records in rows:
        tested = [r for r in records if r.test_score is not None]
        values = [r.test_score for r in tested if r.test_score is not None]
        if values:
            deviation = seed_means.deviation(values)
            share = tested[0].params / full
            averaged.append(Result(contender, tuple(tested), share, mean(values), deviation))
    return averaged


def summary(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Write results as plain data."""
    return [
        {
            "role": result.contender.role,
            "model": result.records[0].model,
            "network": result.records[0].network,
            "params": result.records[0].params,
            "params_share": result.params_share,
            "macs": result.records[0].macs,
            "gemms": result.records[0].gemms,
            "test_score_mean": result.score,
            "test_score_std": result.deviation,
            "seeds": [record.seed for record in result.records],
        }
        for result in results
    ]
