"""What a search believes after reading the records: the surrogate, and the lattice through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssr_exp.config import Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import candidates, limits, prices, surrogate
from ssr_exp.search.batch import State
from ssr_exp.search.candidates import Candidates
from ssr_exp.search.enough import Enough, below
from ssr_exp.search.history import History
from ssr_exp.search.scale import OutcomeScale
from ssr_exp.search.surrogate import Surrogate

WORST = 0.1  # of the outcomes' range, below the worst one: the reference of the hypervolume


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
        enough: what is accurate enough.
        caps: in absolute numbers.
    """

    history: History
    scale: OutcomeScale
    surrogate: Surrogate
    candidates: Candidates
    pending: tuple[Architecture, ...]
    state: State
    enough: Enough
    caps: dict[str, float]

    @property
    def networks(self) -> tuple[Architecture, ...]:
        """The distinct networks that were trained."""
        return self.history.networks

    def accuracy(self, outcomes: Tensor) -> Tensor:
        """Map outcomes to percent."""
        return self.scale.back(outcomes)


def of(
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
    accuracies = history.accuracies()
    baseline = accuracies[space.plan.baseline]
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
    at_baseline = float(outcomes[known.index(space.plan.baseline)])
    enough = Enough.within(conf.objective.max_drop, scale, baseline, at_baseline)
    state = State(
        outcomes,
        prices.of_architectures(price, space, known),
        torch.tensor(
            [
                enough.holds(accuracies.get(a), y)
                for a, y in zip(known, outcomes.tolist(), strict=True)
            ]
        ),
        (_reference(outcomes, scale, at_baseline, caps), float(log_cost.max())),
        enough.threshold,
        fitted.noise,
    )
    return View(history, scale, fitted, found, waiting, state, enough, caps)


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
    if scale.outcome is Outcome.val_loss and any(r.val_loss is None for r in history.records):
        raise SsrError("a record has no val_loss: type surrogate.outcome=val_acc.")
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
        return below(scale, baseline, caps["drop"])
    lowest, highest = float(outcomes.min()), float(outcomes.max())
    return lowest - WORST * (highest - lowest)
