"""Is the surrogate to be believed? Its leave-one-out predictions, and what it says matters."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import norm, spearmanr
from torch import Tensor

from ssr_exp.rescaling import cost
from ssr_exp.runs.predictions import DIGITS, WITHIN_80, LeftOut, Look, Sensitivity
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.search.belief import Belief
from ssr_exp.search.outcome import are_alike
from ssr_exp.search.proposals.acquisition import Front
from ssr_exp.search.space import Space

LEVELS = (0.5, 0.8, 0.95)  # of the intervals whose calibration is checked
POOR_SPEARMAN = 0.5
POOR_ERROR = 0.9  # of the error of guessing the mean: about as bad
FLAT = 0.25  # of the trainings' spread: a lattice predicted within less is flat
SLICES = 512  # points that a sensitivity is averaged over
WORTH = 0.1  # of the bounds' distance below the baseline, from where scores count in a hypervolume


def look(belief: Belief, number: int = 0) -> Look:
    """Say, after a round, how well each training is predicted from those of other networks."""
    Y, mean, sigma = _leave_one_out(belief)
    measured, predicted = belief.scale.back(Y), belief.scale.back(mean)
    z = ((Y - mean) / sigma).abs().numpy()
    middle, noise = Y.mean(), belief.surrogate.noise
    one = Look(
        round=number,
        runs=len(Y),
        rmse=float((predicted - measured).square().mean().sqrt()),
        spread=float(measured.std(correction=0)),
        spearman=_rank(predicted, measured),
        coverage=tuple(float((z <= norm.ppf(0.5 + level / 2)).mean()) for level in LEVELS),
        noise=abs(float(belief.scale.back(middle + noise) - belief.scale.back(middle))),
        hypervolume=_hypervolume(belief),
    )
    spread = float(Y.std(correction=0))
    is_flat = are_alike(Y) or float(belief.candidates.mean.std()) < FLAT * spread
    said = warnings(one, is_flat=is_flat, outcome=belief.scale.outcome)
    return one.model_copy(update={"warnings": said})


def warnings(one: Look, *, is_flat: bool, outcome: Score = ACCURACY) -> tuple[str, ...]:
    """Say what speaks against believing the surrogate.

    Args:
        one: look at it.
        is_flat: whether the whole lattice is predicted to be about equal.
        outcome: what is predicted.
    """
    sentences = []
    if is_flat:
        sentences.append(
            "the surrogate is flat: it predicts about the same for all networks, so its "
            "proposals are close to chance. Train longer, or more different networks."
        )
    elif is_poor(one):
        rank = "none" if one.spearman is None else f"{one.spearman:.2f}"
        sentences.append(
            f"the surrogate predicts poorly (rank correlation {rank}, error "
            f"{outcome.number(one.rmse)} against {outcome.number(one.spread)} of guessing the "
            "mean): more trainings, repeated seeds or longer ones would help."
        )
    if one.runs >= 10 and one.coverage[1] < 0.6:
        sentences.append(
            f"the surrogate is too sure of itself: {one.coverage[1]:.0%} of the trainings lie "
            "in their 80 % intervals."
        )
    return tuple(sentences)


def is_poor(one: Look) -> bool:
    """Say whether the surrogate predicts poorly, by rank or by error."""
    badly = one.spearman is None or one.spearman < POOR_SPEARMAN
    return badly or one.rmse >= POOR_ERROR * one.spread


def left_out(belief: Belief) -> tuple[LeftOut, ...]:
    """List the study's trainings, each predicted from those of other networks."""
    Y, mean, sigma = _leave_one_out(belief)
    spread = WITHIN_80 * sigma
    shown = (Y, mean, mean - spread, mean + spread)
    columns = [belief.scale.back(values).tolist() for values in shown]
    scores = ((Y - mean) / sigma).tolist()
    rows = zip(belief.history.records, *columns, scores, strict=True)
    rounded = belief.scale.outcome.rounded
    return tuple(
        LeftOut(
            network=record.network,
            seed=record.seed,
            measured=rounded(measured),
            predicted=rounded(predicted),
            low=rounded(min(ends)),
            high=rounded(max(ends)),
            z=round(z, DIGITS),
        )
        for record, measured, predicted, *ends, z in rows
    )


def _leave_one_out(belief: Belief) -> list[Tensor]:
    """Predict each training from those of other networks, on the surrogate's scale.

    Returns outcomes, predictions and their standard deviations with the noise of a training, `n`.
    """
    count, features = belief.history.X.shape  # of the study itself: they come first
    return [column[:count] for column in belief.surrogate.leave_one_out(features)]


def _rank(predicted: Tensor, measured: Tensor) -> float | None:
    if min(len(torch.unique(predicted)), len(torch.unique(measured))) < 2:
        return None
    return float(spearmanr(predicted.numpy(), measured.numpy()).statistic)


def _hypervolume(belief: Belief) -> float:
    """Measure the front of the trained networks, by one measure for all rounds."""
    score, scores, networks = belief.score, belief.history.scores(), belief.networks
    baseline = belief.history.space.plan.baseline
    measured = torch.tensor([score.sign * scores[a] for a in networks], dtype=torch.float64)
    log_costs = belief.state.log_costs[: len(networks)]
    least = score.sign * scores[baseline] - WORTH * _span(score, scores[baseline])
    reference = least, float(log_costs[networks.index(baseline)])
    return Front.from_networks(measured, log_costs, reference).hypervolume


def _span(score: Score, value: float) -> float:
    """Return the distance of the bounds; of a single one that from a value, of none its size."""
    low, high = score.limits
    distances = [d for d in (high - low, value - low, high - value) if math.isfinite(d)]
    return max(distances, default=abs(value))


def sensitivities(belief: Belief, *, seed: int = 0) -> tuple[Sensitivity, ...]:
    """Compare the lowest with the full value of each modifier, others as in random points.

    A partial dependence (Friedman 2001) at its two ends.
    """
    space = belief.history.space
    drawn = _anywhere(space, np.random.default_rng(seed))
    effects = []
    for name, at in zip(space.names, space.segments, strict=True):
        kind, _, segment = name.partition(" ")
        means = []
        for end in space.lattice.options[at][[0, -1]]:
            moved = cost.canonical(space.plan, _moved(space, drawn, end, at, kind))
            outcomes, _ = belief.surrogate.predict(space.features(moved))
            means.append(float(belief.scale.back(outcomes).mean()))
        effect = belief.scale.outcome.rounded(means[1] - means[0])
        effects.append(Sensitivity(segment=segment, kind=kind, effect=effect))
    return tuple(effects)


def _anywhere(space: Space, draw: np.random.Generator) -> cost.Points:
    """Draw an option of each segment, all equally likely, of blocks that are left out, too."""
    if space.plan.inner or not space.is_enumerable:
        places = draw.integers(space.lattice.shape, size=(SLICES, len(space.ends[0])))
        return space.options(places)
    size = len(space.lattice)
    return space.lattice.points(draw.choice(size, size=min(SLICES, size), replace=False))


def _moved(
    space: Space, points: cost.Points, end: np.int32, segment: int, kind: str
) -> cost.Points:
    """Give one segment of points, `n x S`, the blocks (`depth`) or the width of an option."""
    moved, depths = points.copy(), len(space.plan.segments[segment].blocks)
    width, blocks = np.divmod(points[:, segment], depths)
    is_depth = kind == "depth"
    moved[:, segment] = (
        width * depths + end % depths if is_depth else end // depths * depths + blocks
    )
    return moved
