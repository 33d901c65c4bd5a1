"""Ax with its default generation strategy as a rival of the search, see `benchmarks.replay_arms`.

It needs `pip install ax-platform`, which the project does not. The parameters are those of
`benchmarks.optuna_arms`, and what Ax suggests is replaced as there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.optuna_arms import Grid, nearest
from benchmarks.replay_arms import Ask, Known
from benchmarks.table_of_networks import Table
from ssr_exp.rescaling.plan import Architecture


def arm(table: Table, pool: Sequence[Architecture], seed: int) -> Ask:
    """Maximise accuracy and minimise the logarithm of the parameters."""
    return Asked(table, pool, seed)


class Asked:
    """A client that is told what it has not heard yet, and then asked.

    Args:
        table: what the pool is of.
        pool: the networks that may be chosen.
        seed: of what Ax draws.
    """

    def __init__(self, table: Table, pool: Sequence[Architecture], seed: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig
        from ax.utils.common.logger import set_ax_logger_levels

        set_ax_logger_levels(logging.ERROR)
        self._grid, self._rng = Grid(table.space), np.random.default_rng(seed)
        self._left = dict(zip(pool, self._grid.numbers(pool), strict=True))
        self._costs = {a: table.log_params[a] for a in pool}
        sizes = zip(self._grid.distributions, self._grid.shape.tolist(), strict=True)
        self._names = {name: f"x{at}" for at, (name, size) in enumerate(sizes) if size > 1}
        self.client = Client(random_seed=seed)
        ranges = zip(self._grid.distributions, self._grid.shape.tolist(), strict=True)
        self.client.configure_experiment(
            parameters=[
                RangeParameterConfig(
                    name=self._names[name], bounds=(0, size - 1), parameter_type="int"
                )
                for name, size in ranges
                if name in self._names
            ]
        )
        self.client.configure_optimization(objective="accuracy, -log_params")
        self._running: dict[Architecture, tuple[int, bool]] = {}
        self._told: set[Architecture] = set()

    def __call__(self, known: Known, count: int) -> list[Architecture]:
        for architecture in known:
            if architecture not in self._told:
                self._tell(architecture, known[architecture])
        trials = self.client.get_next_trials(max_trials=min(count, len(self._left)))
        for index, parameters in trials.items():
            full = dict.fromkeys(self._grid.distributions, 0)
            full |= {name: int(parameters[own]) for name, own in self._names.items()}  # type: ignore[call-overload]
            wanted = self._grid.from_parameters(full)
            options = np.stack([*self._left.values()])
            at = nearest(wanted, options, self._grid.shape, self._rng)
            chosen = [*self._left][at]
            self._running[chosen] = index, bool((options[at] == wanted).all())
            del self._left[chosen]
        return [*self._running]

    def _tell(self, architecture: Architecture, accuracy: float) -> None:
        """Tell an outcome; where another network was asked for, as a trial of its own."""
        self._told.add(architecture)
        self._left.pop(architecture, None)
        outcome: dict[str, Any] = {
            "accuracy": accuracy,
            "log_params": (self._costs[architecture], 0.0),
        }
        index, asked_for = self._running.pop(architecture, (-1, False))
        if not asked_for:
            if index >= 0:
                self.client.mark_trial_abandoned(trial_index=index)
            parameters = self._grid.parameters(architecture)
            index = self.client.attach_trial(
                parameters={own: parameters[name] for name, own in self._names.items()}
            )
        self.client.complete_trial(trial_index=index, raw_data=outcome)
