"""What a search believes after reading the records: the surrogate, and the lattice through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from ssr_exp.config import Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
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
    caps = limits.of(conf.cap, _baseline(history, conf, baseline))
    fitted = _fit(history, scale, conf, elsewhere)
    price = prices.of(conf.objective.cost, history)
    (log_cost,) = space.evaluate(lambda points: [price(points)])
    keeps = _keeps(history, caps)
    (within,) = space.evaluate(lambda points: [keeps(points)])
    if not bool(within.any()):
        together = " and ".join(f"cap.{name}={cap:g}" for name, cap in caps.items())
        raise SsrError(f"no network keeps to {together} together: type larger caps.")
    waiting = tuple(a for a in dict.fromkeys(pending) if a not in history.networks)
    known = [*history.networks, *waiting]
    believed = fitted.believe(history.features(waiting))
    found = candidates.of(space, believed, log_cost, within=within, taken=[*known, *taken])
    outcomes, _ = fitted.predict(history.features(known))
    at_baseline = float(outcomes[known.index(space.plan.baseline)])
    drop = min(conf.objective.max_drop, caps.get("drop", conf.objective.max_drop))
    enough = Enough.within(drop, scale, baseline, at_baseline)
    pairs = zip(known, outcomes.tolist(), strict=True)
    state = State(
        outcomes,
        prices.of_architectures(price, space, known),
        keeps(cost.encode(space.plan, known)),
        torch.tensor([enough.holds(accuracies.get(a), outcome) for a, outcome in pairs]),
        (_reference(outcomes, scale, at_baseline, caps), float(log_cost.max())),
        enough.threshold,
        fitted.noise,
    )
    return View(history, scale, fitted, found, waiting, state, enough, caps)


def _baseline(history: History, conf: SearchConfig, accuracy: float) -> dict[str, float]:
    """List what is known of the baseline by the names of the caps that may be a share of it."""
    known = {name: float(value) for name, value in history.space.baseline._asdict().items()}
    known["drop"] = accuracy
    if conf.cap.latency_ms is not None:
        baseline = history.space.plan.baseline
        times = [time for network, time in history.with_latency() if network == baseline]
        known |= {"latency_ms": mean(times)} if times else {}
    return known


def _keeps(history: History, caps: dict[str, float]) -> Callable[[Points], Tensor]:
    """Make the test whether points, `m x S`, keep to all caps on cost.

    Raises:
        SsrError: if no network keeps to one of them.
    """
    limits.check_caps(history.space, caps)
    price = prices.latency(history) if "latency_ms" in caps else None
    if price is not None:
        (times,) = history.space.evaluate(lambda points: [price(points).exp()])
        if float(times.min()) > caps["latency_ms"]:
            raise SsrError(
                f"no network keeps to cap.latency_ms={caps['latency_ms']:g}: the fastest of the "
                f"lattice is expected to take {float(times.min()):.3g} ms; type a larger cap."
            )

    def keeps(points: Points) -> Tensor:
        kept = limits.keeps(history.space, caps, points)
        return kept if price is None else kept & (price(points).exp() <= caps["latency_ms"])

    return keeps


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


def _reference(
    outcomes: Tensor, scale: OutcomeScale, baseline: float, caps: dict[str, float]
) -> float:
    """Choose the outcome below which nothing counts."""
    if "drop" in caps:
        return below(scale, baseline, caps["drop"])
    lowest, highest = float(outcomes.min()), float(outcomes.max())
    return lowest - WORST * (highest - lowest)
