"""What Hydra finds of this project: its sweepers, each of which calls `ssr_exp.app`.

Hydra imports this file at every start, so a command's module is imported when it runs.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig


class _Sweeper(Sweeper):
    """Hand a command line to the class that carries it out."""

    command: str

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what carrying out takes."""
        self.given = (hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the command; returns its records, or what its task returns.

        A study that is not there is told before the command is imported, which takes seconds.
        """
        from ssr_exp.app.command_line import typed_values

        context, _, config = self.given
        typed_values.study(typed_values.read(arguments, context.config_loader), config)
        results: list[Any] = get_class(self.command)(*self.given).run(arguments)
        return results


class SsrSweeper(_Sweeper):
    """Train each network that `ssr train` names."""

    command = "ssr_exp.app.sweeping.TrainCommand"


class SearchSweeper(_Sweeper):
    """Run the search of `ssr search`."""

    command = "ssr_exp.app.searching.SearchCommand"


class ListSweeper(_Sweeper):
    """Run `ssr export` or `ssr report` once."""

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the task; returns what it returns."""
        from ssr_exp.app import lists

        return lists.run_once(*self.given, arguments)


for _name, _sweeper in (("", SsrSweeper), ("_search", SearchSweeper), ("_list", ListSweeper)):
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name=f"ssr{_name}",
        node={"_target_": f"{__name__}.{_sweeper.__name__}"},
        provider="ssr_exp",
    )
