"""Optuna's samplers as rivals of the search, see `benchmarks.replay_arms`.

The parameters are the numbers of each segment's depth and width. What a sampler suggests and the
pool does not hold, or was seen before, is replaced by the nearest unseen network of the pool, in
the cube that the numbers span; the sampler is then told of that one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState

from benchmarks.replay_arms import Ask, Begin, Known
from benchmarks.table_of_networks import Table
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search.space import Space

# Of NSGA-II: the best of 4, 8, 12, 22 and 50, its own, which is random for a whole search.
POPULATION = 8
GENERATION = "NSGAIISampler:generation"  # without it NSGA-II does not see a trial that is added

Sampler = Callable[[int], BaseSampler]


def tpe(seed: int) -> BaseSampler:
    """Make a tree-structured Parzen estimator, which counts running trials as bad ones.

    It is `multivariate`, because it finds more so than as it comes.
    """
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def nsga2(seed: int) -> BaseSampler:
    """Make NSGA-II; the sentinels are its first generation."""
    return NSGAIISampler(seed=seed, population_size=POPULATION)


def gp(seed: int) -> BaseSampler:
    """Make Optuna's Gaussian process with its expected hypervolume improvement."""
    return GPSampler(seed=seed)


def arm(sampler: Sampler) -> Begin:
    """Let a sampler maximise accuracy and minimise the logarithm of the parameters."""

    def begin(table: Table, pool: Sequence[Architecture], seed: int) -> Ask:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return Asked(table, pool, sampler(seed), np.random.default_rng(seed))

    return begin


class Asked:
    """A study that is told what it has not heard yet, and then asked.

    Args:
        table: what the pool is of.
        pool: the networks that may be chosen.
        sampler: fresh.
        rng: draws between suggestions' equally near neighbours.
    """

    def __init__(
        self,
        table: Table,
        pool: Sequence[Architecture],
        sampler: BaseSampler,
        rng: np.random.Generator,
    ) -> None:
        self._grid, self._rng = Grid(table.space), rng
        self._left = dict(zip(pool, self._grid.numbers(pool), strict=True))
        self._costs = {a: table.log_params[a] for a in pool}
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._running: dict[Architecture, Trial] = {}
        self._told: set[Architecture] = set()

    def __call__(self, known: Known, count: int) -> list[Architecture]:
        for architecture in known:
            if architecture not in self._told:
                self._tell(architecture, known[architecture])
        for _ in range(min(count, len(self._left))):
            trial = self.study.ask(self._grid.distributions)
            wanted = self._grid.from_parameters(trial.params)
            at = nearest(wanted, np.stack([*self._left.values()]), self._grid.shape, self._rng)
            self._running[[*self._left][at]] = trial
            del self._left[[*self._left][at]]
        return [*self._running]

    def _tell(self, architecture: Architecture, accuracy: float) -> None:
        """Tell an outcome; where another network was asked for, as a trial of its own."""
        self._told.add(architecture)
        self._left.pop(architecture, None)
        values = [accuracy, self._costs[architecture]]
        parameters = self._grid.parameters(architecture)
        trial = self._running.pop(architecture, None)
        if trial is not None and trial.params == parameters:
            self.study.tell(trial, values)
            return
        attributes: dict[str, Any] = {GENERATION: 0}
        if trial is not None:
            attributes = self.study.trials[trial.number].system_attrs
            self.study.tell(trial, state=TrialState.FAIL)
        self.study.add_trial(
            optuna.trial.create_trial(
                params=parameters,
                distributions=self._grid.distributions,
                values=values,
                system_attrs=attributes,
            )
        )


class Grid:
    """A lattice as whole numbers: for each segment that of its depth and that of its width."""

    def __init__(self, own: Space) -> None:
        self._columns: list[NDArray[np.int64]] = []
        self._names: list[str] = []
        for segment, option in zip(own.plan.segments, own.lattice.options, strict=True):
            widths, blocks = np.divmod(option, len(segment.blocks))
            self._columns += [np.unique(blocks + 1), np.unique(widths)]
            self._names += [f"depth {segment.name}", f"width {segment.name}"]

    @property
    def shape(self) -> NDArray[np.int64]:
        """How many values each number has."""
        return np.array([len(column) for column in self._columns])

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from."""
        pairs = zip(self._names, self._columns, strict=True)
        return {name: IntDistribution(0, len(column) - 1) for name, column in pairs}

    def numbers(self, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        """Write networks as numbers, `n x 2S`."""
        pairs = [np.stack([a.blocks, a.widths], axis=1).reshape(-1) for a in architectures]
        columns = zip(self._columns, np.stack(pairs).T, strict=True)
        return np.stack([np.searchsorted(column, values) for column, values in columns], axis=1)

    def parameters(self, architecture: Architecture) -> dict[str, int]:
        """Write one network as Optuna's parameters."""
        return dict(zip(self._names, self.numbers([architecture])[0].tolist(), strict=True))

    def from_parameters(self, parameters: dict[str, int]) -> NDArray[np.int64]:
        """Read numbers, `2S`, from Optuna's parameters."""
        return np.array([parameters[name] for name in self._names])


def nearest(
    wanted: NDArray[np.int64],
    options: NDArray[np.int64],
    shape: NDArray[np.int64],
    rng: np.random.Generator,
) -> int:
    """Find the option, `n x c`, that is nearest in the unit cube; equal ones are drawn from."""
    scaled = (options - wanted) / np.maximum(shape - 1, 1)
    distance = (scaled**2).sum(axis=1)
    return int(rng.choice(np.flatnonzero(distance <= distance.min() + 1e-12)))
