"""The promise: what a network is expected to lose on test, and how likely it keeps the limit.

What is uncertain of a drop counts once each: the network's expected outcome (the surrogate's
posterior, jointly with the baseline's, so that one lucky training does not count as it stands),
what another training gives (the noise between seeds), and on which images it is seen
(`ssr_exp.search.resolution`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from ssr_exp import terminal
from ssr_exp.config import Scale, SearchConfig
from ssr_exp.runs.predictions import WITHIN_80
from ssr_exp.runs.score import Score
from ssr_exp.search.history import History
from ssr_exp.search.outcome import EVEN, ROUNDING, OutcomeScale
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.surrogate import Surrogate

PRIOR = 4  # degrees of freedom of the surrogate's noise, beside those of repeated trainings


@dataclass(frozen=True)
class Promise:
    """What a network is expected to lose against the baseline, in the score's unit.

    Args:
        drop: expected.
        low: end of the 80 % interval; `high` is the other one.
        probability: that the drop is at most what is allowed.
    """

    drop: float
    low: float
    high: float
    probability: float

    def text(self, score: Score, allowed: float) -> str:
        """Write it: `to lose 0.21 points (80 % interval -0.70 to 1.12), within 1 point ...`."""
        return (
            f"{score.expected_text(self.drop, self.low, self.high)}, within "
            f"{score.short_drop(allowed)} with a probability of {self.likely}"
        )

    @property
    def likely(self) -> str:
        """Write the probability; none is certain."""
        return terminal.likely(self.probability)

    def stated(self, *, allowed: float, confidence: float) -> dict[str, float]:
        """Write it as plain data, beside what may be lost and the confidence asked for.

        Drops are rounded to six digits that count: those of a small error are far below 1.
        """
        numbers = {key: float(f"{value:.6g}") for key, value in asdict(self).items()}
        numbers["probability"] = round(self.probability, 6)
        return numbers | {"allowed": allowed, "confidence": confidence}


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Expected outcomes of `m` networks, on the surrogate's scale; without a training's noise.

    Args:
        mean: of each.
        variance: of each.
        covariance: of each with the baseline's.
        baseline: the place of the baseline among them.
    """

    mean: Float[Tensor, " m"]
    variance: Float[Tensor, " m"]
    covariance: Float[Tensor, " m"]
    baseline: int

    def beside(self, mean: float) -> Outcomes:
        """Expect an outcome of a network that is known as well as the others, in the median."""
        at = slice(self.baseline, self.baseline + 1)
        return Outcomes(
            torch.cat([self.mean.new_tensor([mean]), self.mean[at]]),
            torch.cat([self.variance.median()[None], self.variance[at]]),
            torch.cat([self.covariance.median()[None], self.covariance[at]]),
            baseline=1,
        )


@dataclass(frozen=True, eq=False)
class Drops:
    """How likely networks lose no more than is allowed, given their outcomes.

    Drops are taken for normal: outcomes are so on their scale, and that is straightened out around
    each network over a standard deviation to both sides.

    Args:
        scale: of the outcomes, which are scores.
        allowed: drop, in the score's unit.
        noise: standard deviation of one training's outcome, on the scale.
        seeds: trainings of a network that its drop is averaged over.
        val: the images; None: nothing is known of their error.
    """

    scale: OutcomeScale
    allowed: float
    noise: float
    seeds: int = 1
    val: ValSet | None = None

    def expected(self, outcomes: Outcomes) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Return what each network is expected to lose, and the standard deviation of that."""
        at, scores, noise = outcomes.baseline, self.scale.back(outcomes.mean), self.noise**2
        drop = self.scale.outcome.sign * (scores[at] - scores)
        variance = outcomes.variance + noise / self.seeds
        width = variance.clamp_min(1e-12).sqrt()
        # A bound on the better side says nothing of how much may be lost on the other.
        better = self.scale.back(outcomes.mean + width, clamped=False)
        slope = (better - self.scale.back(outcomes.mean - width)) / (2 * width)
        square = slope**2 * variance + slope[at] ** 2 * variance[at]
        square -= 2 * slope * slope[at] * outcomes.covariance
        if self.val is not None:
            seeds = (slope**2 + slope[at] ** 2) * noise
            square += self.val.variance(scores, scores[at], seeds)
        square[at] = 0.0  # the baseline is what it is compared with
        return drop, square.clamp_min(0).sqrt()

    def probabilities(self, outcomes: Outcomes) -> Float[Tensor, " m"]:
        """Return how likely each network loses at most what is allowed."""
        drop, sigma = self.expected(outcomes)
        left, scores = self.allowed - drop, self.scale.back(outcomes.mean).abs()
        tiny = ROUNDING * torch.maximum(scores, scores[outcomes.baseline])
        certain = (left >= -tiny).double()
        return torch.where(sigma > tiny, torch.special.ndtr(left / sigma), certain)

    def promises(self, outcomes: Outcomes) -> list[Promise]:
        """Say what each network is expected to lose."""
        drop, sigma = self.expected(outcomes)
        spread = WITHIN_80 * sigma
        columns = (drop, drop - spread, drop + spread, self.probabilities(outcomes))
        return [Promise(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]

    def required(self, confidence: float, outcomes: Outcomes) -> float:
        """Find the outcome that must be expected of a network for it to be promised.

        Its variance is taken to be as that of the outcomes' networks, in the median.
        """
        whole = float(outcomes.mean[outcomes.baseline])
        _, sigma = self.expected(outcomes.beside(self.scale.lowered(whole, self.allowed)))
        margin = float(norm.ppf(confidence)) * float(sigma[0])
        return self.scale.lowered(whole, self.allowed - margin)


def pooled_noise(groups: Iterable[Tensor], guess: float) -> float:
    """Return the standard deviation of one training: what repeats show, and a guess before them.

    It is the pooled one of networks that were trained several times, `groups` holding the outcomes
    of each. The guess counts as `PRIOR` further degrees of freedom, so that two trainings which
    came out alike do not say that there is no noise (Smyth 2004 moderates variances like this).
    """
    several = [group for group in groups if len(group) > 1]
    squares = sum(float((group - group.mean()).square().sum()) for group in several)
    freedom = sum(len(group) - 1 for group in several)
    if not freedom:
        return guess
    return math.sqrt((squares + PRIOR * guess**2) / (freedom + PRIOR))


def scale_of_scores(history: History, scale: OutcomeScale) -> OutcomeScale:
    """Return a surrogate's scale; where it predicts a loss, one of scores in place of it.

    A loss says nothing of the noise of a score.
    """
    if scale.outcome.key == history.score.key:
        return scale
    return OutcomeScale.from_values(history.score, Scale.auto, history.values(history.score))


def drops(
    history: History,
    scale: OutcomeScale,
    noise: float,
    conf: SearchConfig,
    allowed: float,
    val: ValSet | None,
) -> Drops:
    """Say what is uncertain of a study's drops, by a surrogate's `noise` on a scale of scores."""
    values = scale.forward(history.values(history.score))
    pooled = pooled_noise(history.repeats(values), noise)
    return Drops(scale, allowed, pooled, max(conf.finalists.seeds, 1), val)


def least_noise(history: History, scale: OutcomeScale, val: ValSet | None) -> float:
    """Return the standard deviation that a training's score has at least, on its scale.

    A surrogate that saw each network once may take luck for what networks differ by; of accuracies
    the images tell better. 0 where nothing is known of their error.
    """
    if val is None or not val.images:
        return 0.0
    values = history.values(history.score)
    middle, noise = float(scale.back(scale.forward(values).mean())), val.noise(float(values.mean()))
    clamped = scale.outcome.clamped
    low, high = clamped(middle - noise), clamped(middle + noise)  # of few images beyond all scores
    return noise * (scale.at(high) - scale.at(low)) / (high - low) if high > low else 0.0


def expected(history: History, scale: OutcomeScale, lost: Drops, fitted: Surrogate) -> Outcomes:
    """Say what is expected of the trained networks' scores; of a loss, they are as measured."""
    baseline = history.space.plan.baseline
    at = history.networks.index(baseline)
    if scale.outcome.key == history.score.key:
        X, reference = history.features(history.networks), history.features([baseline])
        mean, sigma, covariance = fitted.against(X, reference)
        return Outcomes(mean, sigma.square(), covariance, at)
    groups = history.repeats(lost.scale.forward(history.values(history.score)))
    mean = torch.stack([group.mean() for group in groups])
    counts = torch.tensor([len(group) for group in groups], dtype=torch.float64)
    return Outcomes(mean, lost.noise**2 / counts, torch.zeros_like(mean), at)


def predicted(
    fitted: Surrogate, X: Float[Tensor, "m d"], baseline: Float[Tensor, "1 d"]
) -> Outcomes:
    """Say what is expected of networks by their features, trained or not; last of the baseline."""
    X = torch.cat([X, baseline])
    mean, sigma, covariance = fitted.against(X, baseline)
    return Outcomes(mean, sigma.square(), covariance, len(X) - 1)


def accurate(reached: Tensor, probabilities: Tensor, confidence: float) -> Tensor:
    """Say which networks are good enough: trained ones, then pending ones, which are as expected.

    At even odds those are that reach the threshold; a higher confidence takes only those of them
    that are as likely to keep within the drop, and a lower one all that are.
    """
    enough, count = reached.clone(), len(probabilities)
    likely = probabilities >= confidence
    if confidence > EVEN:
        enough[:count] &= likely
    elif confidence < EVEN:
        enough[:count] |= likely
    return enough
