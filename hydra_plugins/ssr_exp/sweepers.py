"""What Hydra finds of this project: its sweepers, each of which calls `ssr_exp.app`.

Hydra imports this file at every start, so what is heavy is imported inside functions.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _Sweeper(Sweeper):
    """Hand a command line to what carries it out."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what carrying out takes."""
        self.given = (hydra_context, task_function, config)


class SsrSweeper(_Sweeper):
    """Train each network that `train.py` names."""

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run a sweep; returns its records."""
        from ssr_exp.app import sweeping

        return sweeping.TrainCommand(*self.given).run(arguments)


class SearchSweeper(_Sweeper):
    """Run the search of `search.py`."""

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run a search; returns its answers."""
        from ssr_exp.app import searching

        return searching.SearchCommand(*self.given).run(arguments)


class ListSweeper(_Sweeper):
    """Run `export.py` or `report.py` once."""

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the task; returns what it returns."""
        from ssr_exp.app import lists

        return lists.run_once(*self.given, arguments)


for _name, _sweeper in {
    "ssr": SsrSweeper,
    "ssr_search": SearchSweeper,
    "ssr_list": ListSweeper,
}.items():
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name=_name,
        node={"_target_": f"{__name__}.{_sweeper.__name__}"},
        provider="ssr_exp",
    )
