"""The promise: what a network is expected to lose, and how likely it keeps the limit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from ssr_exp.config import Outcome, Scale, SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import FINALIST
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.search import answer, history
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale
from ssr_exp.search.promise import Drops, Outcomes, Promise, least_noise, pooled_noise
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell, asked

unfitted = pytest.mark.usefixtures("unfitted")
CONFIDENCES = (0.05, 0.3, 0.5, 0.6, 0.8, 0.9, 0.99)
RMSE = Score(key="val/rmse", direction="min", unit="years", bounds=(0.0, None))
FREE = Score(key="val/gain", direction="max", unit="", bounds=(None, None))


def outcomes(scale: OutcomeScale, scores: list[float], sigma: float, shared: float) -> Outcomes:
    """Expect scores, the baseline's first; all outcomes have a correlation of `shared`."""
    mean = scale.forward(torch.tensor(scores, dtype=torch.float64))
    variance = torch.full_like(mean, sigma**2)
    covariance = shared * variance
    covariance[0] = variance[0]
    return Outcomes(mean, variance, covariance, 0)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    ("score", "scores", "allowed"),
    [
        (ACCURACY, [93.0, 92.0, 92.6, 93.5], 1.0),
        (ACCURACY, [70.0, 67.0, 69.5, 71.0], 2.0),
        (RMSE, [4.0, 4.3, 4.1, 3.9], 0.2),
        (FREE, [0.3, 0.1, 0.25, 0.4], 0.1),
    ],
)
def test_the_probability_is_that_of_drawn_drops(
    score: Score, scores: list[float], allowed: float, sampled: bool
) -> None:
    scale, rng, count = OutcomeScale(score), np.random.default_rng(0), 200_000
    sigma, noise, shared, seeds = 0.04, 0.08, 0.5, 3
    val = ValSet({"cat": 700, "dog": 300}, tested=2000) if sampled and score == ACCURACY else None
    expected = outcomes(scale, scores, sigma, shared)
    drops = Drops(scale, allowed, noise, seeds, val)
    common = math.sqrt(shared) * sigma * rng.normal(size=(count, 1))
    own = math.sqrt(1 - shared) * sigma * rng.normal(size=(count, len(scores)))
    drawn = expected.mean.numpy() + common + own
    trained = drawn[:, None] + noise * rng.normal(size=(count, seeds, len(scores)))
    values = scale.back(torch.from_numpy(trained.mean(1))).numpy()
    lost = score.sign * (values[:, :1] - values)
    if val is not None:
        twice = torch.zeros(len(scores), dtype=torch.float64)  # nothing is counted yet
        at = torch.tensor(scores, dtype=torch.float64)
        assert bool((val.variance(at, at[0], twice) > 0).all())
        slope = scale.back(expected.mean + 1e-4) - scale.back(expected.mean - 1e-4)
        seen = ((slope / 2e-4) ** 2 + (slope[0] / 2e-4) ** 2) * noise**2
        extra = val.variance(at, at[0], seen).sqrt().numpy()
        lost[:, 1:] += extra[1:] * rng.normal(size=(count, len(scores) - 1))
    reference = (lost <= allowed).mean(0)
    assert drops.probabilities(expected).numpy()[1:] == pytest.approx(reference[1:], abs=0.01)
    for one, column in zip(drops.promises(expected)[1:], lost.T[1:], strict=True):
        ends = np.quantile(column, [0.1, 0.9])
        assert [one.low, one.high] == pytest.approx(ends, abs=0.05 * float(np.ptp(ends)))


@pytest.mark.parametrize("score", [ACCURACY, RMSE, FREE])
def test_without_noise_and_error_of_images_only_the_drop_decides(score: Score) -> None:
    scale, sign = OutcomeScale(score), score.sign
    scores = [50.0, 50.0 - sign * 0.999, 50.0 - sign * 1.001, 50.0 + sign * 5]
    drops = Drops(scale, 1.0, 0.0)
    assert drops.probabilities(outcomes(scale, scores, 0.0, 0.0)).tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-12])
def test_how_small_the_scores_are_does_not_change_how_likely_a_drop_is(size: float) -> None:
    scale = OutcomeScale(FREE)
    scores = [50.0, 50.0 - 0.999, 50.0 - 1.001, 50.0 + 5]
    for sigma, likely in ((0.0, [1, 1, 0, 1]), (0.5, [1, 0.5008, 0.4992, 1])):
        mean = scale.forward(size * torch.tensor(scores, dtype=torch.float64))
        variance = torch.full_like(mean, (size * sigma) ** 2)
        expected = Outcomes(mean, variance / 2, torch.zeros_like(mean), 0)
        found = Drops(scale, size, 0.0).probabilities(expected).tolist()
        assert found == pytest.approx(likely, abs=1e-4)


def test_a_bound_does_not_make_a_promise_surer() -> None:
    """A network expected at the bound loses on one side alone, by all of its deviation."""
    scale = OutcomeScale(ACCURACY)
    told = outcomes(scale, [100.0, 100.0], 0.8, 0.0)
    mean = float(told.mean[1])
    drop, sigma = Drops(scale, 0.5, 0.0).expected(told)
    low = float(scale.back(torch.tensor(mean - 0.8, dtype=torch.float64)))
    assert float(drop[1]) == 0.0 and float(sigma[1]) > 0.8 * (100.0 - low)


def test_the_baseline_is_certain_to_keep_any_promise() -> None:
    scale = OutcomeScale(ACCURACY)
    for allowed in (0.0, 1.0):
        drops = Drops(scale, allowed, 0.3, 1, ValSet({"cat": 9}, tested=9))
        assert float(drops.probabilities(outcomes(scale, [93.0, 93.0], 0.2, 0.0))[0]) == 1


def test_more_images_more_seeds_and_less_noise_make_surer() -> None:
    scale = OutcomeScale(ACCURACY)
    expected = outcomes(scale, [93.0, 92.6], 0.02, 0.5)

    def sure(noise: float = 0.1, seeds: int = 3, images: int = 500, tested: int = 500) -> float:
        val = ValSet({"cat": images}, tested=tested)
        return float(Drops(scale, 1.0, noise, seeds, val).probabilities(expected)[1])

    assert sure(images=100) < sure() < sure(images=10_000)
    assert sure(tested=100) < sure() < sure(tested=10_000)
    assert sure(seeds=1) < sure() < sure(seeds=10)
    assert sure(noise=0.3) < sure()
    assert sure(noise=0.0) < 0.9  # what the images hide is not certain because two seeds agree


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("score", [ACCURACY, RMSE, FREE])
def test_what_is_required_is_promised_with_the_confidence(score: Score, confidence: float) -> None:
    scale, whole = OutcomeScale(score), 50.0
    expected = outcomes(scale, [whole, 48.0, 49.0, 50.5], 0.02, 0.3)
    drops = Drops(scale, 5.0, 0.03, 3)
    required = float(scale.back(torch.tensor(drops.required(confidence, expected)).double()))
    (_, probability) = drops.probabilities(outcomes(scale, [whole, required], 0.02, 0.3)).tolist()
    assert probability == pytest.approx(confidence, abs=0.02)


def test_noise_is_the_pooled_one_of_repeats_and_the_guess_where_there_are_none() -> None:
    rng = np.random.default_rng(0)
    assert pooled_noise([torch.tensor([1.0]), torch.tensor([5.0])], 0.7) == 0.7
    groups = [torch.from_numpy(n + 0.2 * rng.normal(size=4)) for n in range(500)]
    assert pooled_noise(groups, 0.7) == pytest.approx(0.2, rel=0.05)
    alike = pooled_noise([torch.tensor([1.0, 1.0])], 0.7)
    assert 0.6 < alike < 0.7


def looks_good_enough(belief: Belief) -> list[Architecture]:
    """The rule of even odds, written out: measured and predicted, else measured alone."""
    scores, plan = belief.history.scores(), belief.history.space.plan
    within = dict(zip(belief.networks, belief.state.within.tolist(), strict=False))
    predicted = dict(zip(belief.networks, belief.state.outcomes.tolist(), strict=False))
    price = dict(zip(belief.networks, belief.state.log_costs.tolist(), strict=False))
    smaller = [a for a in belief.networks if within[a] and a != plan.baseline]
    measured = [a for a in smaller if scores[a] >= scores[plan.baseline] - belief.drop]
    limit = belief.scale.lowered(predicted[plan.baseline], belief.drop)
    both = [a for a in measured if predicted[a] >= limit]
    enough = [*(both or measured), plan.baseline]
    return sorted(enough, key=lambda a: (price[a], -scores[a], a))


@unfitted
@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0, 4.0])
def test_even_odds_take_what_looks_good_enough_and_more_confidence_nothing_cheaper(
    known: History, drop: float
) -> None:
    space, val = known.space, ValSet({"cat": 500}, tested=500)
    cheapest, sure = [], []
    for confidence in CONFIDENCES:
        conf = asked(objective__max_drop=drop, objective__confidence=confidence)
        belief = Belief.from_history(known, conf, val=val)
        found = answer.good_enough(belief)
        if confidence == 0.5:
            assert found == looks_good_enough(belief)
        if confidence > 0.5:
            assert all(belief.promises[a].probability >= confidence for a in found)
        cheapest.append(int(cost.count_one(space.plan, found[0]).params))
        sure.append(belief.state.threshold)
    assert cheapest == sorted(cheapest)
    assert sure == sorted(sure)


@unfitted
def test_a_lucky_training_is_promised_what_its_neighbours_show(
    small: Space, tell: Tell, first: First
) -> None:
    """What is expected lies between a network's own score and what the others say of it."""
    lucky = min(first, key=lambda a: int(cost.count_one(small.plan, a).params))
    records = [tell(a, noise=0.1) for a in first]
    plain = Belief.from_history(history.from_records(small, records), SearchConfig())
    best = plain.history.scores()[small.plan.baseline]
    rest = [tell(a, noise=0.1) for a in first if a != lucky]
    again = history.from_records(small, [*rest, tell(lucky, val_acc=best, val_loss=0.1)])
    belief = Belief.from_history(again, SearchConfig())
    assert 0 < belief.promises[lucky].drop < plain.promises[lucky].drop


@unfitted
def test_repeats_make_a_promise_surer(small: Space, tell: Tell, first: First) -> None:
    one = [tell(a) for a in first]
    three = [tell(a, seed=s) for a, s in itertools.product(first, range(3))]
    few, many = (
        Belief.from_history(history.from_records(small, some), SearchConfig())
        for some in (one, three)
    )
    assert float(many.outcomes.variance.mean()) < float(few.outcomes.variance.mean())


@unfitted
def test_a_surrogate_of_losses_leaves_the_measured_scores(known: History) -> None:
    conf = asked(surrogate__outcome=Outcome.val_loss, surrogate__scale=Scale.auto)
    belief, scores = Belief.from_history(known, conf), known.scores()
    baseline = scores[known.space.plan.baseline]
    for a in belief.networks:
        assert belief.promises[a].drop == pytest.approx(baseline - scores[a], abs=1e-6)


@unfitted
@pytest.mark.parametrize("val", [None, ValSet({"cat": 200})], ids=["any score", "images"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_scores_are_as_uncertain_beside_a_surrogate_of_losses(
    small: Space, tell: Tell, first: First, val: ValSet | None, seeds: int
) -> None:
    """No promise is certain, with repeats or without."""
    records = [tell(a) for a in first] + [tell(a, seed=1) for a in first[: seeds - 1]]
    known, by_loss = history.from_records(small, records), Outcome.val_loss
    confs = asked(), asked(surrogate__outcome=by_loss, surrogate__scale=Scale.auto)
    score, loss = (Belief.from_history(known, conf, val=val) for conf in confs)
    assert loss.drops.noise == pytest.approx(score.drops.noise) and loss.drops.noise > 0
    others = [a for a in loss.networks if a != small.plan.baseline]
    assert any(0.01 < loss.promises[a].probability < 0.99 for a in others)


@unfitted
@pytest.mark.parametrize("images", [20, 40, 80, 1000])
def test_the_least_noise_of_few_images_and_a_high_accuracy_is_finite(
    small: Space, tell: Tell, first: First, images: int
) -> None:
    """97.5 % and the error of 20 images is more than there can be."""
    scores = [97.5, 97.5, 95.0, 100.0]
    records = [tell(a, val_acc=s) for a, s in zip(first, scores, strict=False)]
    known, val = history.from_records(small, records), ValSet({"cat": images})
    scale = Belief.from_history(known, SearchConfig(), val=val).scale
    noise = least_noise(known, scale, val)
    slope = (scale.at(98.0) - scale.at(97.0)) / 1.0
    assert 0 < noise < 5 * slope * val.noise(97.5)


def test_what_val_cannot_tell_is_noise_to_the_promise(
    small: Space, tell: Tell, first: First
) -> None:
    """Networks that are alike differ on few images by luck alone: none is promised to be better."""
    rng, images = np.random.default_rng(0), 200
    scores = 100 * rng.binomial(images, 0.9, size=len(first)) / images
    records = [tell(a, val_acc=float(s)) for a, s in zip(first, scores, strict=True)]
    known, val = history.from_records(small, records), ValSet({"cat": images})
    blind, wary = (Belief.from_history(known, SearchConfig(), val=v) for v in (None, val))
    assert wary.drops.noise >= 0.99 * least_noise(known, wary.scale, val) > 0

    def spread(belief: Belief) -> float:
        return float(np.std([one.drop for one in belief.promises.values()]))

    assert spread(wary) <= spread(blind) and spread(wary) < 0.7 * float(scores.std())
    assert bool((wary.surrogate.predict(known.X)[0] == blind.surrogate.predict(known.X)[0]).all())


def test_a_promise_is_stated_by_digits_that_count_however_small_the_error_is() -> None:
    stated = Promise(5e-7 / 3, -2e-9 / 3, 7e-7 / 3, 2 / 3).stated(allowed=1e-6, confidence=0.8)
    assert stated == {
        "drop": 1.66667e-7,
        "low": -6.66667e-10,
        "high": 2.33333e-7,
        "probability": 0.666667,
        "allowed": 1e-6,
        "confidence": 0.8,
    }


def test_a_promise_says_gain_and_is_never_certain() -> None:
    sure = Promise(-5.51, -6.0, -5.0, 0.9999).text(ACCURACY, 1.0)
    assert sure.startswith("to gain 5.51 points (") and "within 1 point with" in sure
    assert sure.endswith("over 99%")
    assert Promise(0.4, 0.1, 0.7, 0.001).text(ACCURACY, 0.5).endswith("under 1%")
    for probability, text in ((0.796, "79%"), (0.8, "80%"), (0.29, "29%"), (0.57, "57%")):
        assert Promise(0.4, 0.1, 0.7, probability).likely == text
    assert Promise(0.4, 0.1, 0.7, 0.25).text(RMSE, 0.5).startswith("to lose 0.4 years (")


@unfitted
def test_finalists_on_val_do_not_move_what_an_answer_may_lose(known: History, tell: Tell) -> None:
    conf = asked(objective__max_drop="2%", cap__drop="3%")
    space, baseline = known.space, known.space.plan.baseline
    finals = [tell(baseline, seed=seed, origin=FINALIST, val_acc=60.0) for seed in (1, 2, 3)]
    before = Belief.from_history(known, conf)
    after = Belief.from_history(history.from_records(space, [*known.records, *finals]), conf)
    assert after.history.scores()[baseline] < before.history.scores()[baseline] - 10
    assert (after.drop, after.caps) == (before.drop, before.caps)
    others = [one for one in known.records if one.network != space.code(baseline)]
    alone = Belief.from_history(history.from_records(space, [*others, *finals]), conf)
    assert alone.drop == pytest.approx(0.02 * 60)
