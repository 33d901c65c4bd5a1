"""`ssr export` and `ssr report` do one thing: a comma in a value makes a list, not a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import configure_log
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ssr_exp.app.command_line import overrides
from ssr_exp.errors import SsrError


def run_once(
    context: HydraContext, task: TaskFunction, config: DictConfig, arguments: Sequence[str]
) -> list[Any]:
    """Run a task in this process, with `key=a,b` as the list `key=[a,b]`.

    Raises:
        SystemExit: with a message, if the command cannot be met.
    """
    loader = context.config_loader
    words = [_with_list(override) for override in overrides.parse(arguments, loader)]
    composed = loader.load_sweep_config(config, words)
    configure_log(composed.hydra.job_logging, composed.hydra.verbose)
    try:
        return [task(composed)]
    except SsrError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted: nothing was changed; repeat the command.") from None


def _with_list(override: Override) -> str:
    """Write values with commas between them as a list."""
    if override.is_sweep_override():
        return f"{override.key_or_group}=[{','.join(override.sweep_string_iterator())}]"
    return str(override.input_line)
