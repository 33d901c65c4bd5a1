"""What predicts really trained networks best: scale, kernel, prior of the noise, features.

Every surrogate learns from the sentinels and some random networks, and predicts all others. It is
measured in points of accuracy, whatever its own scale.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from benchmarks import kernels, replay
from benchmarks.table_of_networks import MANY, Table
from ssr_exp.config import Kernel, Scale, SurrogateConf
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.score import ACCURACY
from ssr_exp.search import gaussian_process, surrogate
from ssr_exp.search.outcome import OutcomeScale, resolved
from ssr_exp.search.proposals.propose import WITHIN_80

EXTRA = (0, 10, 30)  # random networks to learn from, beside the sentinels
BOTORCH_NOISE = -4.0  # the location of BoTorch's prior; the scale is 1 in both
FEATURES = {
    "log and costs": "the search's: modifiers, parameters and MACs, all on a log scale",
    "log": "its modifiers alone",
    "linear": "the shares of blocks and channels as they are",
}
MEASURES = {
    "rmse": "root mean square error of the predicted accuracy, in points",
    "spearman": "rank correlation of predicted and measured accuracy",
    "coverage_80": "share of the measured accuracies in their 80 % interval",
    "nll": "mean negative log density of the measured accuracy, in nats per point",
}


SCALES = (Scale.logit, Scale.log_error, Scale.identity)  # of a score between two bounds


@dataclass(frozen=True)
class Choice:
    """One surrogate; the defaults are the search's own."""

    scale: str = field(default_factory=lambda: resolved(ACCURACY, SurrogateConf().scale).value)
    kernel: str = field(default_factory=lambda: SurrogateConf().kernel.value)
    noise: float = gaussian_process.NOISE_LOC
    features: str = "log and costs"

    def __str__(self) -> str:
        return f"{self.scale}, {self.kernel}, noise {self.noise:g}, {self.features} features"


def choices(segments: int) -> list[Choice]:
    """List all combinations, ours first; of many segments all kernels."""
    if segments > MANY:
        names = [*(k.value for k in Kernel), *kernels.OTHERS]
        return list(dict.fromkeys([Choice(), *(Choice(kernel=name) for name in names)]))
    scales, own = [s.value for s in SCALES], [k.value for k in Kernel]
    noises = dict.fromkeys((gaussian_process.NOISE_LOC, BOTORCH_NOISE))
    every = itertools.product(scales, own, noises, FEATURES)
    return list(dict.fromkeys([Choice(), *(Choice(*one) for one in every)]))


def features(table: Table, architectures: Sequence[Architecture], kind: str) -> Tensor:
    """Place networks in the unit cube, in one of the ways of `FEATURES`."""
    own = table.space
    if kind == "linear":
        shares = [own.plan.modifiers(a) for a in architectures]
        return torch.tensor([(*m.depth, *m.width) for m in shares], dtype=torch.float64)
    found = own.features(cost.encode(own.plan, architectures))
    return found[:, : len(own.names)] if kind == "log" else found


def _segments(table: Table, kind: str) -> Sequence[int]:
    """Say of which segment each of the first features is."""
    own = table.space
    return [*range(len(own.plan.segments))] * 2 if kind == "linear" else own.segments


@contextlib.contextmanager
def noise_prior(loc: float) -> Iterator[None]:
    """Let surrogates expect another noise."""
    own, gaussian_process.NOISE_LOC = gaussian_process.NOISE_LOC, loc
    try:
        yield
    finally:
        gaussian_process.NOISE_LOC = own


def measured(table: Table, choice: Choice, *, extra: int, repetition: int) -> dict[str, float]:
    """Fit one surrogate and measure what it predicts of the networks that it did not see."""
    rng = np.random.default_rng([repetition, extra])
    others = [table.others[number] for number in rng.permutation(len(table.others))]
    trained, rest = [*table.sentinels, *others[:extra]], others[extra:]
    scale = OutcomeScale(ACCURACY, Scale(choice.scale))
    Y = scale.forward(_accuracies(table, trained))
    other = choice.kernel in kernels.OTHERS
    conf = SurrogateConf(kernel=Kernel.additive if other else Kernel(choice.kernel))
    X = features(table, trained, choice.features)
    with noise_prior(choice.noise), kernels.instead_of_additive(choice.kernel):
        fitted = surrogate.fit(X, Y, conf, segments=_segments(table, choice.features))
    mean, sigma = fitted.predict(features(table, rest, choice.features))
    return scores(scale, mean, (sigma.square() + fitted.noise**2).sqrt(), _accuracies(table, rest))


def scores(scale: OutcomeScale, mean: Tensor, sigma: Tensor, actual: Tensor) -> dict[str, float]:
    """Hold predictions on a scale, noise included, against accuracies in percent; `n` each."""
    points = actual.clone().requires_grad_()
    outcomes = scale.forward(points)
    (slope,) = torch.autograd.grad(outcomes.sum(), points)  # a density per point of accuracy
    z = (outcomes.detach() - mean) / sigma
    nll = 0.5 * z.square() + sigma.log() + 0.5 * math.log(2 * math.pi) - slope.abs().log()
    predicted = scale.back(mean)
    return {
        "rmse": float((predicted - actual).square().mean().sqrt()),
        "spearman": float(stats.spearmanr(predicted, actual).statistic),
        "coverage_80": float((z.abs() <= WITHIN_80).double().mean()),
        "nll": float(nll.mean()),
    }


def noise(table: Table) -> dict[str, float]:
    """Say by how much two trainings of the same network differ, and how much that is.

    A share is of the variance between networks; the prior's location is its logarithm.
    """
    pairs = np.array([seen[:2] for seen in table.repeats if len(seen) > 1])
    scale = OutcomeScale(ACCURACY, SurrogateConf().scale)
    sentinels = scale.forward(_accuracies(table, table.sentinels))
    within = scale.forward(torch.from_numpy(pairs)).diff(dim=1).square().mean() / 2
    everywhere = scale.forward(_accuracies(table, [*table.accuracies]))
    return {
        "networks": len(pairs),
        "std_in_points": float(np.sqrt(np.mean(np.diff(pairs, axis=1) ** 2) / 2)),
        "std_between_networks_in_points": float(np.std([*table.accuracies.values()], ddof=1)),
        "log_share_among_sentinels": float((within / sentinels.var()).log()),
        "log_share_among_all": float((within / everywhere.var()).log()),
    }


def _accuracies(table: Table, architectures: Sequence[Architecture]) -> Tensor:
    return torch.tensor([table.accuracies[a] for a in architectures], dtype=torch.float64)


def compare(path: Path, repeats: int, *, jobs: int, most: int | None = None) -> dict[str, Any]:
    """Measure surrogates with all amounts of data; without random networks once is all.

    Args:
        path: the table.
        repeats: draws of the random networks.
        jobs: processes.
        most: surrogates, ours first; None for all.
    """
    table = replay.load(path)
    every = choices(len(table.space.plan.segments))[:most]
    tasks = [(c, e, r) for e in EXTRA for c in every for r in range(repeats if e else 1)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _prepare, (path,)) as workers:
        found = dict(zip(tasks, workers.map(_task, tasks, chunksize=8), strict=True))
    rows = [
        vars(choice)
        | {"ours": choice == Choice(), "extra": extra}
        | _spread(*(_of(found, one, extra) for one in (choice, Choice())))
        for extra in EXTRA
        for choice in every
    ]
    return {
        "measures": MEASURES,
        "features": FEATURES,
        "seed_to_seed_noise": _rounded(noise(table)) if table.repeats else {},
        "rows": rows,
    }


_table: Table  # of a worker


def _prepare(path: Path) -> None:
    global _table
    torch.set_num_threads(1)
    _table = replay.load(path)


def _task(task: tuple[Choice, int, int]) -> dict[str, float]:
    choice, extra, repetition = task
    return measured(_table, choice, extra=extra, repetition=repetition)


def _of(
    found: dict[tuple[Choice, int, int], dict[str, float]], choice: Choice, extra: int
) -> dict[str, NDArray[np.float64]]:
    """List each measure of all repetitions."""
    rows = [row for task, row in found.items() if task[:2] == (choice, extra)]
    return {name: np.array([row[name] for row in rows]) for name in MEASURES}


def _spread(
    columns: dict[str, NDArray[np.float64]], ours: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """Return mean and standard error of each measure, and of what it differs from ours by."""
    means = {name: _mean_se(values) for name, values in columns.items()}
    gaps = {f"{name}_less_ours": _mean_se(columns[name] - ours[name]) for name in MEASURES}
    return means | gaps


def _mean_se(values: NDArray[np.float64]) -> list[float]:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return [round(float(values.mean()), 4), round(float(error), 4)]


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in found.items()}


def report(found: dict[str, Any]) -> str:
    """Write the comparison as text, the best likelihood first."""
    lines = [f"seed to seed: {found['seed_to_seed_noise']}"]
    for extra in EXTRA:
        lines.append(f"\nsentinels and {extra} others: {', '.join(MEASURES)}; nll less ours")
        rows = [row for row in found["rows"] if row["extra"] == extra]
        for row in sorted(rows, key=lambda row: row["nll"][0]):
            choice = Choice(row["scale"], row["kernel"], row["noise"], row["features"])
            numbers = "  ".join("{:6.3f} +-{:.3f}".format(*row[name]) for name in MEASURES)
            gap = "{:+.3f} +-{:.3f}".format(*row["nll_less_ours"])
            lines.append(f"{numbers}  {gap}  {choice}{' (ours)' if row['ours'] else ''}")
    return "\n".join(lines)
