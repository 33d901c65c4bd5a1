"""`export.py` and `report.py` do one thing: a comma in a value makes a list, not a sweep."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ssr_exp.errors import SsrError


class ListCommand:
    """Run the task once, in this process, with `key=a,b` as the list `key=[a,b]`."""

    def __init__(self, context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
        self.loader, self.task, self.config = context.config_loader, task, config

    def run(self, arguments: list[str]) -> list[Any]:
        """Run the task.

        Raises:
            SystemExit: with a message, if the command cannot be met.
        """
        overrides = OverridesParser.create(config_loader=self.loader).parse_overrides(arguments)
        words = [self._word(override) for override in overrides]
        composed = self.loader.load_sweep_config(self.config, words)
        configure_log(composed.hydra.job_logging, composed.hydra.verbose)
        try:
            return [self.task(composed)]
        except SsrError as error:
            raise SystemExit(str(error)) from None
        except KeyboardInterrupt:
            raise SystemExit("interrupted: nothing was changed; repeat the command.") from None

    def _word(self, override: Override) -> str:
        """Write values with commas between them as a list."""
        if override.is_sweep_override():
            values = ",".join(map(str, override.sweep_string_iterator()))
            return f"{override.key_or_group}=[{values}]"
        return str(override.input_line)
