"""What a search believes after reading the records: the surrogate, and the lattice through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from ssr_exp.config import CostAxis, Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import FINALIST
from ssr_exp.runs.score import ACCURACY, VAL_LOSS, Score
from ssr_exp.search import costs, lattice_sample, promise
from ssr_exp.search.candidates import BatchState, Candidates, Price
from ssr_exp.search.caps import (
    check_exact_caps,
    check_latency_cap,
    keeps_exact_caps,
    log_limit,
    max_drop,
    read_caps,
)
from ssr_exp.search.costs import Latencies
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale, Threshold
from ssr_exp.search.promise import Drops, Outcomes, Promise
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space
from ssr_exp.search.surrogate import Fit, Surrogate
from ssr_exp.search.surrogate import fit as fit_surrogate

WORST = 0.1  # of the outcomes' range, below the worst one: the reference of the hypervolume


@dataclass(frozen=True, eq=False)
class Belief:
    """What a search believes after reading the records.

    Args:
        surrogate: fitted to the outcomes, on their scale.
        pending: networks that are being trained.
        state: predicted outcomes and log costs of `networks`, then of `pending`, and what counts
            as a gain.
        threshold: what is good enough.
        drop: from the baseline's score that the answer may lose, in its unit; no cap allows less.
        caps: in absolute numbers.
        latencies: of a device or the records, where latency is traded or capped.
        confidence: with which the answer is to keep within the drop.
        drops: how likely networks do.
        outcomes: expected ones of `networks`; of scores where the surrogate predicts a loss.
        wary: a surrogate of scores: its noise is at least that of the images. `outcomes` are of it,
            but for a loss.
        unmeasured: networks whose trainings diverged or failed.
    """

    history: History
    scale: OutcomeScale
    surrogate: Surrogate
    candidates: Candidates
    pending: tuple[Architecture, ...]
    state: BatchState
    threshold: Threshold
    drop: float
    caps: dict[str, float]
    latencies: Latencies | None
    confidence: float
    drops: Drops
    outcomes: Outcomes
    wary: Surrogate
    unmeasured: tuple[Architecture, ...] = ()

    @property
    def networks(self) -> tuple[Architecture, ...]:
        """The distinct networks that were trained."""
        return self.history.networks

    @property
    def score(self) -> Score:
        """How the networks are judged."""
        return self.history.score

    @property
    def predicts_score(self) -> bool:
        """Say whether the surrogate's outcome is the score, and no loss."""
        return self.scale.outcome.key == self.score.key

    @cached_property
    def promises(self) -> dict[Architecture, Promise]:
        """What each trained network is expected to lose, and how likely it keeps the limit."""
        return dict(zip(self.networks, self.drops.promises(self.outcomes), strict=True))

    @cached_property
    def log_costs(self) -> dict[Architecture, float]:
        """Natural logarithms of the cost that is traded, of each trained network."""
        return dict(zip(self.networks, self.state.log_costs.tolist(), strict=False))

    def expected_drops(self, points: cost.Points) -> tuple[Tensor, Tensor] | None:
        """Return what `m` points are expected to lose, and the standard deviation of that, as `m`.

        Of trained networks it is what `promises` say, but for the baseline: it is predicted like
        any other point here, and certain there. None where a loss is predicted.
        """
        if not self.predicts_score:
            return None
        drop, sigma = self.drops.expected(self._beside_the_baseline(points))
        return drop[:-1], sigma[:-1]

    def probabilities(self, points: cost.Points) -> Tensor | None:
        """Return how likely `m` points lose at most what is allowed, as `m`; see `expected_drops`.

        None where a loss is predicted.
        """
        if not self.predicts_score:
            return None
        return self.drops.probabilities(self._beside_the_baseline(points))[:-1]

    def _beside_the_baseline(self, points: cost.Points) -> Outcomes:
        """Predict the outcomes of points, and last that of the baseline."""
        baseline = self.history.features([self.history.space.plan.baseline])
        return promise.predicted(self.wary, self.history.space.features(points), baseline)

    @classmethod
    def from_history(
        cls,
        history: History,
        conf: SearchConfig,
        *,
        excluded: Iterable[Architecture] = (),
        unmeasured: Iterable[Architecture] = (),
        pending: Iterable[Architecture] = (),
        elsewhere: History | None = None,
        latencies: Latencies | None = None,
        val: ValSet | None = None,
        fit: Fit = fit_surrogate,
    ) -> Belief:
        """Fit the surrogate and predict the lattice.

        Args:
            history: of the study, the baseline among it.
            conf: the search.
            excluded: networks that are not to be proposed, and of which nothing is known.
            unmeasured: networks whose trainings gave no score; `excluded` may name more.
            pending: networks that are being trained; they are believed to come out as predicted.
            elsewhere: records of other epochs, where the surrogate learns from them.
            latencies: of a device, where latency is traded or capped; None: those of the records.
            val: the images that networks are compared by; None: nothing is known of their error.
            fit: `surrogate.fit`, or what calls it.

        Raises:
            SsrError: if the caps cannot be met, or what is asked for was not measured.
        """
        space, scale, scores = history.space, _scale(history, conf), history.scores()
        value, latencies = scores[space.plan.baseline], costs.of_search(conf, history, latencies)
        whole = _asked_of(history)
        caps = read_caps(conf.cap, _baseline(history, conf, whole, latencies))
        fitted = _fit(history, scale, conf, elsewhere, fit)
        check_exact_caps(space, caps)
        price = _price(history, conf, caps, latencies)
        waiting = tuple(a for a in dict.fromkeys(pending) if a not in history.networks)
        architectures = [*history.networks, *waiting]
        believed, taken = fitted.believe(history.features(waiting)), [*architectures, *excluded]
        candidates = _candidates(space, believed, price, architectures, taken, conf.seed)
        if not bool(candidates.within.any()):
            candidates = _with_fastest(candidates, history, caps, latencies, conf.seed)
        if not bool(candidates.within.any()):
            _refuse_caps(history, caps, latencies)
        outcomes, _ = fitted.predict(history.features(architectures))
        at_baseline = float(outcomes[architectures.index(space.plan.baseline)])
        allowed = max_drop(conf.objective, history.score, whole)
        drop, sure = min(allowed, caps.get("drop", allowed)), conf.objective.confidence
        of_scores = promise.scale_of_scores(history, scale)
        least = promise.least_noise(history, of_scores, val)
        wary = fitted
        if of_scores is not scale or fitted.noise < least:
            wary = _fit(history, of_scores, conf, elsewhere, fit, least)
        drops = promise.drops(history, of_scores, wary.noise, conf, drop, val)
        expected = promise.expected(history, scale, drops, wary)
        threshold = Threshold.from_baseline(scale, history.score, value, at_baseline, drop=drop)
        threshold = threshold.surer(drops.required(sure, expected), confidence=sure)
        pairs = zip(architectures, outcomes.tolist(), strict=True)
        reached = torch.tensor([threshold.is_reached(scores.get(a), y) for a, y in pairs])
        state = BatchState(
            outcomes,
            *price(cost.encode(space.plan, architectures)),
            promise.accurate(reached, drops.probabilities(expected), sure),
            (_reference(outcomes, scale, at_baseline, caps), float(candidates.log_cost.max())),
            threshold.untrained,
            fitted.noise,
        )
        lost = tuple(a for a in dict.fromkeys(unmeasured) if a not in architectures)
        rest = (threshold, drop, caps, latencies, sure, drops, expected, wary, lost)
        return cls(history, scale, fitted, candidates, waiting, state, *rest)


def _scale(history: History, conf: SearchConfig) -> OutcomeScale:
    """Choose what is predicted, and on which scale."""
    is_score = conf.surrogate.outcome is Outcome.score
    loss = VAL_LOSS if history.score == ACCURACY else VAL_LOSS.model_copy(update={"unit": ""})
    outcome = history.score if is_score else loss
    values = history.values(outcome)
    if not is_score and bool((values < 0).any()):  # such as a likelihood's of densities
        outcome = outcome.model_copy(update={"bounds": (None, None)})
    return OutcomeScale.from_values(outcome, conf.surrogate.scale, values)


def _asked_of(history: History) -> float:
    """Average the baseline's score that a share which may be lost is of.

    Finalists do not move it: what an answer may lose is the same before and after they are trained.
    """
    baseline = history.space.plan.baseline
    pairs = zip(history.architectures, history.records, strict=True)
    own = [at for at, (a, r) in enumerate(pairs) if a == baseline and r.origin != FINALIST]
    return (history.part(own) if own else history).scores()[baseline]


def _baseline(
    history: History, conf: SearchConfig, value: float, latencies: Latencies | None
) -> dict[str, float]:
    """List costs and score of the baseline by the names of the caps that may be shares of it."""
    whole = {name: float(value) for name, value in history.space.baseline._asdict().items()}
    whole["drop"] = abs(value)
    if conf.cap.latency_ms is not None:
        time = costs.measured(history, latencies).get(history.space.plan.baseline)
        whole |= {} if time is None else {"latency_ms": time}
    return whole


def _price(
    history: History, conf: SearchConfig, caps: dict[str, float], latencies: Latencies | None
) -> Price:
    """Return what prices points and says whether they keep the caps.

    Latency is asked for once: over a whole lattice that takes a while.
    """
    axis = conf.objective.cost
    log_cost = costs.price(axis, history, latencies)
    cap = caps.get("latency_ms")
    log_time = log_cost
    if cap is not None and axis is not CostAxis.latency_ms:
        log_time = costs.price(CostAxis.latency_ms, history, latencies)

    def price(points: cost.Points) -> tuple[Tensor, Tensor]:
        keeps, prices = keeps_exact_caps(history.space, caps, points), log_cost(points)
        if cap is not None:
            keeps &= (prices if log_time is log_cost else log_time(points)) <= log_limit(cap)
        return prices, keeps

    return price


def _candidates(
    space: Space,
    fitted: Surrogate,
    price: Price,
    trained: Sequence[Architecture],
    taken: Sequence[Architecture],
    seed: int,
) -> Candidates:
    """Predict and price the whole lattice, or a sample of one that is too large for that."""
    if space.is_enumerable:
        return Candidates.from_lattice(space, fitted, price, taken=taken)
    return lattice_sample.draw(space, fitted, price, trained=trained, taken=taken, seed=seed)


def _with_fastest(
    candidates: Candidates,
    history: History,
    caps: dict[str, float],
    latencies: Latencies | None,
    seed: int,
) -> Candidates:
    """Look for what keeps to a cap on latency where no point of a sample does."""
    if candidates.sample is None or "latency_ms" not in caps:
        return candidates
    log_time = costs.price(CostAxis.latency_ms, history, latencies)
    return lattice_sample.with_fastest(candidates, log_time, np.random.default_rng(seed))


def _refuse_caps(history: History, caps: dict[str, float], latencies: Latencies | None) -> NoReturn:
    """Say that no network keeps all caps; each but that on latency can be kept by itself.

    Of a lattice that is sampled, that none was found.

    Raises:
        SsrError: if that on latency is to blame, names the fastest.
    """
    if (cap := caps.get("latency_ms")) is not None:
        time = costs.price(CostAxis.latency_ms, history, latencies)
        check_latency_cap(history.space, cap, time)
    together = " and ".join(f"cap.{name}={cap:g}" for name, cap in caps.items())
    found = "keeps" if history.space.is_enumerable else "was found that keeps"
    raise SsrError(f"no network {found} to {together} together: type larger caps.")


def _fit(
    history: History,
    scale: OutcomeScale,
    conf: SearchConfig,
    elsewhere: History | None,
    fit: Fit,
    least_noise: float = 0.0,
) -> Surrogate:
    X, Y = history.X, scale.forward(history.values(scale.outcome))
    if conf.surrogate.fidelity:
        X = torch.cat([X, torch.ones(len(X), 1, dtype=torch.float64)], dim=1)
        if elsewhere is not None and len(elsewhere):
            X = torch.cat([X, torch.cat([elsewhere.X, _fidelity(elsewhere, conf)], dim=1)])
            Y = torch.cat([Y, scale.forward(elsewhere.values(scale.outcome))])
    segments = history.space.segments
    return fit(X, Y, conf.surrogate, segments=segments, least_noise=least_noise)


def _fidelity(elsewhere: History, conf: SearchConfig) -> Tensor:
    """Return epochs on a log scale, `n x 1`: 1 for the study's own, 0 for a hundredth of them."""
    epochs = torch.tensor([r.epochs for r in elsewhere.records], dtype=torch.float64)
    share = epochs / conf.trainer.max_epochs
    return (1 + share.log10() / 2).clamp(0, 1)[:, None]


def _reference(
    outcomes: Tensor, scale: OutcomeScale, baseline: float, caps: dict[str, float]
) -> float:
    """Choose the outcome below which nothing counts."""
    if "drop" in caps:
        return scale.lowered(baseline, caps["drop"])
    lowest, highest = float(outcomes.min()), float(outcomes.max())
    return lowest - WORST * (highest - lowest)
