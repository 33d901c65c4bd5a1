"""Is the surrogate to be believed? Its leave-one-out predictions, and what it says matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import norm, spearmanr
from torch import Tensor

from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.belief import View
from ssr_exp.search.space import Space

LEVELS = (0.5, 0.8, 0.95)  # of the intervals whose calibration is checked
POOR_SPEARMAN = 0.5
POOR_ERROR = 0.9  # of the error of guessing the mean: about as bad
FLAT = 0.25  # of the trainings' spread: a lattice predicted within less is flat
SLICES = 512  # points that a sensitivity is averaged over


@dataclass(frozen=True)
class Check:
    """How well each training is predicted from all others.

    Args:
        count: trainings.
        rmse: root mean square error, in percent (or nats).
        spread: standard deviation of what was measured: the error of guessing the mean.
        spearman: rank correlation of predicted and measured; None where one of them is constant.
        coverage: for each of `LEVELS` the share of trainings inside that interval.
        noise: standard deviation of one training, as inferred; same unit as `rmse`.
        flat: whether the whole lattice is predicted to be about equal.
    """

    count: int
    rmse: float
    spread: float
    spearman: float | None
    coverage: tuple[float, ...]
    noise: float
    flat: bool

    @property
    def is_poor(self) -> bool:
        """Whether it orders the trainings badly, or errs about as much as their mean does."""
        badly = self.spearman is None or self.spearman < POOR_SPEARMAN
        return badly or self.rmse >= POOR_ERROR * self.spread

    def warnings(self) -> list[str]:
        """Say what speaks against believing the surrogate."""
        found = []
        if self.flat:
            found.append(
                "the surrogate is flat: it predicts about the same for all networks, so its "
                "proposals are close to chance. Train longer, or more different networks."
            )
        elif self.is_poor:
            rank = "none" if self.spearman is None else f"{self.spearman:.2f}"
            found.append(
                f"the surrogate predicts poorly (rank correlation {rank}, error {self.rmse:.2f} "
                f"against {self.spread:.2f} of guessing the mean): more trainings, repeated seeds "
                "or longer ones would help."
            )
        if self.count >= 10 and self.coverage[1] < 0.6:
            found.append(
                f"the surrogate is too sure of itself: {self.coverage[1]:.0%} of the trainings lie "
                "in their 80 % intervals."
            )
        return found


@dataclass(frozen=True)
class Sensitivity:
    """What one segment's depth or width is worth.

    Args:
        name: of the feature, such as `depth layer1`.
        effect: predicted change of the outcome, in percent (or nats), from the lowest to full,
            averaged over the rest of the lattice.
    """

    name: str
    effect: float


@dataclass(frozen=True, eq=False)
class LeftOut:
    """The study's `n` trainings, each predicted from all others, on the surrogate's scale.

    Args:
        Y: outcomes.
        mean: predicted.
        sigma: standard deviations of the predictions, with the noise of a training.
    """

    Y: Tensor
    mean: Tensor
    sigma: Tensor


def left_out(view: View) -> LeftOut:
    """Predict each training from all others, in closed form."""
    own = len(view.history)  # of the study itself: they come first
    return LeftOut(*(column[:own] for column in view.surrogate.leave_one_out()))


def check(view: View) -> Check:
    """Say how well each training is predicted from all others."""
    found = left_out(view)
    Y, mean, sigma = found.Y, found.mean, found.sigma
    measured, predicted = view.scale.back(Y), view.scale.back(mean)
    z = ((Y - mean) / sigma).abs().numpy()
    middle = Y.mean()
    noise = view.surrogate.noise
    return Check(
        count=len(Y),
        rmse=float((predicted - measured).square().mean().sqrt()),
        spread=float(measured.std(correction=0)),
        spearman=_rank(predicted, measured),
        coverage=tuple(float((z <= norm.ppf(0.5 + level / 2)).mean()) for level in LEVELS),
        noise=abs(float(view.scale.back(middle + noise) - view.scale.back(middle))),
        flat=_is_flat(view, Y),
    )


def _rank(predicted: Tensor, measured: Tensor) -> float | None:
    if min(len(torch.unique(predicted)), len(torch.unique(measured))) < 2:
        return None
    return float(spearmanr(predicted.numpy(), measured.numpy()).statistic)


def _is_flat(view: View, Y: Tensor) -> bool:
    spread = float(Y.std(correction=0))
    return spread < 1e-9 or float(view.candidates.mean.std()) < FLAT * spread


def sensitivities(view: View, *, seed: int = 0) -> list[Sensitivity]:
    """Compare the lowest with the full value of each modifier, others as in random points.

    A partial dependence (Friedman 2001) at its two ends.
    """
    space = view.history.space
    drawn = np.random.default_rng(seed).choice(
        len(space.lattice), size=min(SLICES, len(space.lattice)), replace=False
    )
    architectures = space.architectures(drawn)
    return [Sensitivity(name, _effect(view, architectures, name)) for name in space.names]


def _effect(view: View, architectures: Sequence[Architecture], name: str) -> float:
    """Predict the mean change of the outcome when one modifier goes from its lowest to full."""
    space = view.history.space
    kind, _, segment = name.partition(" ")
    (s,) = (s for s, other in enumerate(space.plan.segments) if other.name == segment)
    low, high = space.architectures([0, len(space.lattice) - 1])
    means = []
    for end in (low, high):
        moved = [_moved(a, end, s, blocks=kind == "depth") for a in architectures]
        outcomes, _ = view.surrogate.predict(view.history.features(moved))
        means.append(float(view.accuracy(outcomes).mean()))
    return means[1] - means[0]


def _moved(
    architecture: Architecture, end: Architecture, segment: int, *, blocks: bool
) -> Architecture:
    """Take one segment's blocks or width from another architecture."""
    field = "blocks" if blocks else "widths"
    values = list(getattr(architecture, field))
    values[segment] = getattr(end, field)[segment]
    return replace(architecture, **{field: tuple(values)})


def describe(space: Space, found: list[Sensitivity]) -> dict[str, dict[str, float]]:
    """Group sensitivities by segment: `{segment: {depth: effect, width: effect}}`."""
    grouped: dict[str, dict[str, float]] = {s.name: {} for s in space.plan.segments}
    for sensitivity in found:
        kind, _, name = sensitivity.name.partition(" ")
        grouped[name][kind] = sensitivity.effect
    return grouped
