"""What a search believes after reading the records: the surrogate, and the lattice through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssr_exp.config import CostAxis, Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import candidates, costs, surrogate
from ssr_exp.search import caps as limits
from ssr_exp.search.candidates import Candidates
from ssr_exp.search.costs import Latencies, Price
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale
from ssr_exp.search.proposals.batch import BatchState
from ssr_exp.search.space import Space
from ssr_exp.search.surrogate import Surrogate
from ssr_exp.search.threshold import Enough, below

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
        latencies: of a device, where latency is traded or capped.
    """

    history: History
    scale: OutcomeScale
    surrogate: Surrogate
    candidates: Candidates
    pending: tuple[Architecture, ...]
    state: BatchState
    enough: Enough
    caps: dict[str, float]
    latencies: Latencies | None = None

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
    latencies: Latencies | None = None,
) -> View:
    """Fit the surrogate and predict the lattice.

    Args:
        history: the study's records, the baseline's among them.
        conf: the search.
        taken: networks that are not to be proposed, and of which nothing is known.
        pending: networks that are being trained; they are believed to come out as predicted.
        elsewhere: records of other epochs, where the surrogate learns from them.
        latencies: of a device, where latency is traded or capped; None: those of the records.

    Raises:
        SsrError: if the caps cannot be met, or what is asked for was not measured.
    """
    space, scale = history.space, OutcomeScale(conf.surrogate.outcome, conf.surrogate.scale)
    accuracies = history.accuracies()
    baseline = accuracies[space.plan.baseline]
    caps = limits.absolute(conf.cap, _baseline(history, conf, baseline, latencies))
    fitted = _fit(history, scale, conf, elsewhere)
    limits.check_caps(space, caps)
    price = _Price.of(history, conf, caps, latencies)
    log_cost, within = price.lattice()
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
    state = BatchState(
        outcomes,
        *price(cost.encode(space.plan, known)),
        torch.tensor([enough.holds(accuracies.get(a), outcome) for a, outcome in pairs]),
        (_reference(outcomes, scale, at_baseline, caps), float(log_cost.max())),
        enough.threshold,
        fitted.noise,
    )
    return View(history, scale, fitted, found, waiting, state, enough, caps, latencies)


def _baseline(
    history: History, conf: SearchConfig, accuracy: float, latencies: Latencies | None
) -> dict[str, float]:
    """List what is known of the baseline by the names of the caps that may be a share of it."""
    known = {name: float(value) for name, value in history.space.baseline._asdict().items()}
    known["drop"] = accuracy
    if conf.cap.latency_ms is not None:
        time = costs.measured(latencies, history).get(history.space.plan.baseline)
        known |= {} if time is None else {"latency_ms": time}
    return known


@dataclass(frozen=True)
class _Price:
    """What networks cost, and whether they keep to all caps on cost.

    Args:
        space: the lattice.
        cost: that is traded; None if that is latency.
        time: latency, if it is traded or capped.
        caps: in absolute numbers.
    """

    space: Space
    cost: Price | None
    time: Price | None
    caps: dict[str, float]

    @classmethod
    def of(
        cls,
        history: History,
        conf: SearchConfig,
        caps: dict[str, float],
        latencies: Latencies | None,
    ) -> _Price:
        axis = conf.objective.cost
        is_time = axis is CostAxis.latency_ms
        time = costs.latency(history, latencies) if is_time or "latency_ms" in caps else None
        cost = None if is_time else costs.exact(history.space, axis.value)
        return cls(history.space, cost, time, caps)

    def __call__(self, points: Points) -> tuple[Tensor, Tensor]:
        """Return the natural logarithm of the cost of points, `m x S`, and if they keep the caps.

        Latency is asked for once: over a whole lattice that takes a while.
        """
        times = None if self.time is None else self.time(points)
        keeps = limits.keeps(self.space, self.caps, points)
        if times is not None and "latency_ms" in self.caps:
            keeps &= times.exp() <= self.caps["latency_ms"]
        if self.cost is not None:
            return self.cost(points), keeps
        assert times is not None
        return times, keeps

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Price all points of the lattice.

        Raises:
            SsrError: if none keeps to the cap on latency.
        """
        log_cost, within = self.space.evaluate(self)
        if not bool(within.any()) and self.time is not None and "latency_ms" in self.caps:
            limits.check_latency(self.space, self.caps["latency_ms"], self.time)
        return log_cost, within


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
