"""What Hydra runs: it composes a command's configuration, and the command's task takes it."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from ssr_exp.app import configuration
from ssr_exp.app.command_line import commands
from ssr_exp.app.command_line.keys import CONF

configuration.register()  # in a launcher's process, which imports this file for its task


def train(composed: DictConfig) -> str:
    """Train the one network of a job; the sweeper of the command makes the jobs."""
    from ssr_exp.app import jobs

    return jobs.train(composed)


def report(composed: DictConfig) -> str:
    """Write what a configuration asks for; the last line printed says where it is."""
    from ssr_exp.app import reports

    return reports.write(composed)


def export(composed: DictConfig) -> str:
    """Write the files that a configuration asks for; the last line printed is their folder."""
    from ssr_exp.runs import study_names

    if composed.study is not None:  # told before torch is imported, if it is not there
        study_names.find(Path(composed.paths.runs), str(composed.study))
    from ssr_exp.app import exports

    return exports.write(composed)


TASKS = {"train": train, "search": train, "report": report, "export": export}


def run(command: str) -> None:
    """Carry out a command on what was typed, `sys.argv`.

    Args:
        command: one of `TASKS`.

    Raises:
        SystemExit: with a sentence, if it cannot be met.
    """
    configuration.register()
    composing = hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)
    commands.run(composing(TASKS[command]), command)
