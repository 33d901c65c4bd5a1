"""Propose: records go in, the next batch comes out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssr_exp.config import Acquisition, Objective, Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import batch, candidates, limits, prices, sampled, surrogate
from ssr_exp.search.batch import State
from ssr_exp.search.candidates import Candidates
from ssr_exp.search.history import History
from ssr_exp.search.scale import OutcomeScale
from ssr_exp.search.space import Numbers
from ssr_exp.search.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class View:
    """What a search believes after reading the records.

    Args:
        history: the records.
        scale: of the outcomes.
        surrogate: fitted to them.
        candidates: the lattice, predicted and priced; pending networks came out as predicted.
        pending: networks that are being trained.
        state: predicted outcomes and log costs of `networks`, then of `pending`, and what counts
            as a gain.
        caps: in absolute numbers.
    """

    history: History
    scale: OutcomeScale
    surrogate: Surrogate
    candidates: Candidates
    pending: tuple[Architecture, ...]
    state: State
    caps: dict[str, float]

    @property
    def networks(self) -> tuple[Architecture, ...]:
        """The distinct networks that were trained."""
        return self.history.networks

    def accuracy(self, outcomes: Tensor) -> Tensor:
        """Map outcomes to percent."""
        return self.scale.back(outcomes)


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


WITHIN_80 = 1.2816  # standard deviations on each side
WORST = 0.1  # of the outcomes' range, below the worst one: the reference of the hypervolume


def view(
    history: History,
    conf: SearchConfig,
    *,
    taken: Iterable[Architecture] = (),
    pending: Iterable[Architecture] = (),
    elsewhere: History | None = None,
) -> View:
    """Fit the surrogate and predict the lattice.

    Args:
        history: the study's records, the baseline's among them.
        conf: the search.
        taken: networks that are not to be proposed, and of which nothing is known.
        pending: networks that are being trained; they are believed to come out as predicted.
        elsewhere: records of other epochs, where the surrogate learns from them.

    Raises:
        SsrError: if the caps cannot be met, or what is asked for was not measured.
    """
    space, scale = history.space, OutcomeScale(conf.surrogate.outcome, conf.surrogate.scale)
    _check_measured(history, conf)
    baseline = history.accuracies()[space.plan.baseline]
    caps = limits.of(conf.cap, _baseline(history, baseline))
    fitted = _fit(history, scale, conf, elsewhere)
    price = prices.of(conf.objective.cost, history)
    (log_cost,) = space.evaluate(lambda points: [price(points)])
    within = limits.allowed(space, caps)
    if "latency_ms" in caps:
        within &= _within_latency(history, caps["latency_ms"])
    waiting = tuple(a for a in dict.fromkeys(pending) if a not in history.networks)
    known = [*history.networks, *waiting]
    believed = fitted.believe(history.features(waiting))
    found = candidates.of(space, believed, log_cost, within=within, taken=[*known, *taken])
    outcomes, _ = fitted.predict(history.features(known))
    at_baseline = float(outcomes[history.networks.index(space.plan.baseline)])
    state = State(
        outcomes,
        prices.of_architectures(price, space, known),
        (_reference(outcomes, scale, at_baseline, caps), float(log_cost.max())),
        _below(scale, at_baseline, conf.objective.max_drop),
    )
    return View(history, scale, fitted, found, waiting, state, caps)


def _check_measured(history: History, conf: SearchConfig) -> None:
    if conf.surrogate.outcome is Outcome.val_acc:
        return
    if kind(conf) is Acquisition.smallest or conf.cap.drop is not None:
        raise SsrError(
            "objective.max_drop and cap.drop are points of accuracy: type "
            "surrogate.outcome=val_acc with them."
        )
    if any(record.val_loss is None for record in history.records):
        raise SsrError("a record has no val_loss: type surrogate.outcome=val_acc.")


def _baseline(history: History, accuracy: float) -> dict[str, float]:
    known = {name: float(value) for name, value in history.space.baseline._asdict().items()}
    times = dict(history.with_latency())
    baseline = history.space.plan.baseline
    return (
        known | ({"latency_ms": times[baseline]} if baseline in times else {}) | {"drop": accuracy}
    )


def _fit(
    history: History, scale: OutcomeScale, conf: SearchConfig, elsewhere: History | None
) -> Surrogate:
    X, Y = history.X, scale.forward(history.values(scale.outcome))
    if conf.surrogate.fidelity:
        X = torch.cat([X, torch.ones(len(X), 1, dtype=torch.float64)], dim=1)
        if elsewhere is not None and len(elsewhere):
            X = torch.cat([X, torch.cat([elsewhere.X, _fidelity(elsewhere, conf)], dim=1)])
            Y = torch.cat([Y, scale.forward(elsewhere.values(scale.outcome))])
    return surrogate.fit(X, Y, conf.surrogate, segments=history.space.segments)


def _fidelity(elsewhere: History, conf: SearchConfig) -> Tensor:
    """Return epochs on a log scale, `n x 1`: 1 for the study's own, 0 for a hundredth of them."""
    epochs = torch.tensor([r.epochs for r in elsewhere.records], dtype=torch.float64)
    share = epochs / conf.trainer.max_epochs
    return (1 + share.log10() / 2).clamp(0, 1)[:, None]


def _within_latency(history: History, cap: float) -> Tensor:
    price = prices.latency(history)
    (times,) = history.space.evaluate(lambda points: [price(points).exp()])
    if float(times.min()) > cap:
        raise SsrError(
            f"no network keeps to cap.latency_ms={cap:g}: the fastest of the lattice is expected "
            f"to take {float(times.min()):.3g} ms; type a larger cap."
        )
    return times <= cap


def _reference(
    outcomes: Tensor, scale: OutcomeScale, baseline: float, caps: dict[str, float]
) -> float:
    """Choose the outcome below which nothing counts."""
    if "drop" in caps:
        return _below(scale, baseline, caps["drop"])
    lowest, highest = float(outcomes.min()), float(outcomes.max())
    return lowest - WORST * (highest - lowest)


def _below(scale: OutcomeScale, outcome: float, drop: float) -> float:
    """Lower an outcome by points of accuracy; a loss has none, and any will do."""
    if scale.outcome is Outcome.val_loss:
        return -math.inf
    value = scale.back(torch.tensor(outcome, dtype=torch.float64)) - drop
    return float(scale.forward(value.clamp_min(0)))


def kind(conf: SearchConfig) -> Acquisition:
    """Say which acquisition `auto` stands for."""
    if conf.acquisition.kind is not Acquisition.auto:
        return conf.acquisition.kind
    smallest = conf.objective.kind is Objective.smallest
    return Acquisition.smallest if smallest else Acquisition.ehvi


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
    named, found, state = kind(conf), seen.candidates, seen.state
    if named is Acquisition.ehvi:
        return batch.choose(found, state, batch.hypervolume_scores, count=count)
    if named is Acquisition.smallest:
        return batch.choose(found, state, batch.saving_scores, count=count)
    if named is Acquisition.random:
        return sampled.at_random(found, count=count, seed=seed), None
    scores = batch.score_all(found, batch.hypervolume_scores(state)[0])
    size = conf.acquisition.prefilter
    if named is Acquisition.thompson:
        pool = sampled.pool(found, scores, size=size, seed=seed, share=0.5)
        return (
            sampled.thompson(
                found, pool, state, objective=conf.objective.kind, count=count, seed=seed
            ),
            None,
        )
    known = seen.history.features([*seen.networks, *seen.pending])
    trained = torch.cat([known, state.log_costs[:, None]], dim=1)
    chosen = sampled.qlognehvi(
        found,
        sampled.pool(found, scores, size=size, seed=seed, share=1.0),
        trained,
        reference=state.reference,
        count=count,
        samples=conf.acquisition.samples,
        seed=seed,
    )
    return chosen, None


def _picks(seen: View, numbers: Numbers, promised: list[float] | None) -> list[Pick]:
    at = torch.from_numpy(np.asarray(numbers))
    mean, sigma = seen.candidates.mean[at], seen.candidates.sigma[at]
    spread = WITHIN_80 * (sigma.square() + seen.surrogate.noise**2).sqrt()
    columns = [seen.accuracy(values).tolist() for values in (mean - spread, mean, mean + spread)]
    promises: list[float | None] = [None] * len(at) if promised is None else list(promised)
    rows = zip(seen.candidates.space.architectures(numbers), *columns, promises, strict=True)
    return [Pick(*row) for row in rows]
