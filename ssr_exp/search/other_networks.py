"""What a search believes of other networks than its answer: cheaper ones, trained or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssr_exp.config import CostAxis
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import FINALIST
from ssr_exp.search import answer, costs, diagnostics, lattice_sample, refuted
from ssr_exp.search.belief import Belief
from ssr_exp.search.outcome import EVEN


def predicted(
    belief: Belief, drops: Mapping[Architecture, float] | None = None
) -> tuple[Architecture, float] | None:
    """Find the cheapest point of the lattice that is expected to be good enough, trained or not.

    What is smaller in all segments than a network that lost too much on test is not expected to
    lose less, whatever val says of it; and what diverged or failed has no score to be expected.

    Args:
        belief: what is believed, by val.
        drops: on test, of the networks that were tested.

    Returns:
        It with the expected score; None if there is none, or the surrogate predicts something else.
    """
    candidates, threshold = belief.candidates, belief.state.threshold
    if not belief.predicts_score:
        return None
    keeps = _keeps(belief, drops or {})
    if candidates.sample is not None:
        rng = np.random.default_rng(0)
        candidates = lattice_sample.with_cheapest(candidates, threshold, rng, keeps)
    enough = (candidates.mean >= threshold) & candidates.within
    for part, points in candidates.chunks():
        enough[part] &= keeps(points)
    if not bool(enough.any()):
        return None
    number = int(torch.where(enough, candidates.log_cost, math.inf).argmin())
    (architecture,) = candidates.architectures([number])
    return architecture, float(belief.scale.back(candidates.mean[number]))


def _keeps(belief: Belief, drops: Mapping[Architecture, float]) -> Callable[[Points], Tensor]:
    """Return what tells of `m x S` points whether no training and no test speaks against them."""
    space, is_left = belief.history.space, refuted.keeps(belief, drops)
    if not belief.unmeasured:
        return is_left
    without_score = space.keys(cost.encode(space.plan, belief.unmeasured))

    def keeps(points: Points) -> Tensor:
        return is_left(points) & torch.from_numpy(~np.isin(space.keys(points), without_score))

    return keeps


def full_size(belief: Belief) -> dict[str, Any]:
    """Say, as plain data, what the answer is a part of: the baseline's blocks and channels."""
    plan = belief.history.space.plan
    whole = plan.baseline
    return {"full": {"blocks": list(whole.blocks), "widths": list(plan.channels(whole))}}


def further(
    belief: Belief,
    code: str,
    axis: CostAxis = CostAxis.params,
    drops: Mapping[Architecture, float] | None = None,
) -> dict[str, Any]:
    """Say, as plain data, what a search believes of other networks than its answer.

    A network that was not trained, cheaper than the answer, and expected to be good enough; a
    trained one that is cheaper and good enough on val, and why it
    is not the answer; where the baseline is the answer, which other one is likeliest to be so.

    Args:
        belief: what is believed by val, of finalists that val measured, too.
        code: of the answer.
        axis: the cost.
        drops: on test, of the networks that were tested.
    """
    told: dict[str, Any] = {}
    space, share = belief.history.space, _share_of(belief, axis)
    handed, drops = space.parse(code), drops or {}
    expected = predicted(belief, drops)
    if expected is not None and expected[0] not in belief.networks:
        network, score = expected
        if share(network) < share(handed):
            is_poor = diagnostics.is_poor(diagnostics.look(belief))
            own = {"score": score, "is_poor": is_poor} | _likely(belief, network)
            told["untrained"] = _priced(belief, network, axis) | own
    if handed == space.plan.baseline:
        one = answer.likeliest(belief, drops)
        return told if one is None else told | {"likeliest": _sure(belief, one, axis)}
    cheaper = [a for a in answer.looks_good_enough(belief) if share(a) < share(handed)]
    if (one := _passed_over(belief, cheaper, drops)) is not None:
        lost = {"drop": drops[one]} if refuted.lost_too_much(belief, drops, one) else {}
        told["cheaper"] = _sure(belief, one, axis) | lost
    return told


def _passed_over(
    belief: Belief, cheaper: list[Architecture], drops: Mapping[Architecture, float]
) -> Architecture | None:
    """Choose of cheaper networks, good enough on val, the one whose place readers wonder about.

    One that lies within another one that lost too much on test is named with what it lost itself.
    """
    sure = {a: belief.promises[a].probability for a in cheaper}
    searched = {r.network for r in belief.history.records if r.origin != FINALIST}
    code, enough = belief.history.space.code, max(belief.confidence, EVEN)
    # Arms were tested, too, and are no answers.
    untested = [a for a in cheaper if a not in drops and code(a) in searched]
    unsure = [a for a in cheaper if sure[a] < enough and a not in untested]
    failed = [a for a in cheaper if refuted.lost_too_much(belief, drops, a)]
    known = [*failed, *refuted.left(belief, drops, [*untested, *unsure])]
    return max(known, key=lambda a: sure[a], default=None)


def _likely(belief: Belief, network: Architecture) -> dict[str, Any]:
    """Say how likely a network that was not trained is to be good enough on test."""
    sure = belief.probabilities(cost.encode(belief.history.space.plan, [network]))
    if sure is None:
        return {}
    return {"probability": round(float(sure), 6), "confidence": belief.confidence}


def _sure(belief: Belief, network: Architecture, axis: CostAxis) -> dict[str, Any]:
    """Price a network, and say how sure it is to keep within what may be lost."""
    sure = {"probability": belief.promises[network].probability, "confidence": belief.confidence}
    return _priced(belief, network, axis) | sure


def _priced(belief: Belief, architecture: Architecture, axis: CostAxis) -> dict[str, Any]:
    """Name a network, and say what it costs as a share of the baseline's."""
    return {
        "network": belief.history.space.code(architecture),
        "params_share": _share_of(belief, CostAxis.params)(architecture),
        "cost": axis.value,
        "share": _share_of(belief, axis)(architecture),
    }


def _share_of(belief: Belief, axis: CostAxis) -> Callable[[Architecture], float]:
    """Return what prices a network as a share of the baseline's cost; a latency is predicted."""
    plan = belief.history.space.plan
    price = costs.price(axis, belief.history, belief.latencies)

    def share(architecture: Architecture) -> float:
        own, whole = price(cost.encode(plan, [architecture, plan.baseline])).tolist()
        return math.exp(own - whole)

    return share
