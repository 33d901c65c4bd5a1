"""`ssr train`: one command becomes one job for each network that it names."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ssr_exp import messages, signals, terminal
from ssr_exp.app import configuration, continuing, launchers
from ssr_exp.app.command_line import overrides
from ssr_exp.app.composing import CachingConfigLoader
from ssr_exp.app.launching import Launches
from ssr_exp.app.studies.removing import PROG
from ssr_exp.app.sweep_display import SweepDisplay
from ssr_exp.config import Config
from ssr_exp.datasets import reading
from ssr_exp.errors import SsrError, cause
from ssr_exp.report import page, trade_offs
from ssr_exp.runs import removal, study_names
from ssr_exp.runs.store import Store
from ssr_exp.runs.study_names import Command
from ssr_exp.training import run, sweep
from ssr_exp.training.sweep import Errors, Member

log = logging.getLogger(__name__)

CONSOLE = "hydra.job_logging.handlers.console"
FAILURES = 4  # runs that failed and are told of one by one


class LaunchingCommand:
    """What a sweep and a search share: networks become jobs of the configured launcher."""

    name: Command = "train"
    shows_epochs = True  # of a command that trains one network

    def __init__(self, context: HydraContext, task: TaskFunction, command: DictConfig) -> None:
        self.loader, self.command = CachingConfigLoader(context.config_loader), command
        context = replace(context, config_loader=self.loader)
        self.open_launcher = partial(launchers.open, context, task, command)

    def run(self, arguments: list[str]) -> list[Any]:
        """Run what a command line asks for; returns the records' rows.

        Raises:
            SystemExit: with a message, if the command cannot be met, or a run failed.
        """
        self.asked: dict[Path, Member] = {}
        self.used: set[Path] = set()
        self.display = SweepDisplay(moves=self._is_ours)
        try:
            with signals.command(self._done):
                self.line = continuing.read(arguments, self.loader, self.command, self.name)
                self.launches = Launches(self.open_launcher(), self._progress, self._loudness)
                with self.line.uses:
                    return self.carry_out(list(self.line.words))
        except SsrError as error:
            raise SystemExit(str(error)) from None

    @abstractmethod
    def carry_out(self, arguments: list[str]) -> list[Any]:
        """Run what a command line asks for."""

    def members(self, jobs: Iterable[Sequence[str]]) -> list[Member]:
        """List the runs that command lines stand for."""
        return sweep.expand((job, self.compose(job)) for job in jobs)

    def compose(self, job: Sequence[str]) -> Config:
        """Compose the configuration of one training."""
        composed = self.loader.load_sweep_config(self.command, list(job))
        return configuration.read(composed, Config)

    def train(self, members: Sequence[Member]) -> Errors:
        """Train what is not done; returns by folder the errors that only the launcher knows.

        Raises:
            SsrError: if the launcher could not begin anything.
        """
        self.asked |= {member.folder: member for member in members}
        return self.launches.train(members)

    def use(self, members: Iterable[Member]) -> None:
        """Keep others from removing the studies of runs until this command has ended."""
        for member in members:
            if (study := member.folder.parents[1]) not in self.used:
                self.line.uses.enter_context(removal.using(member.store, study.name))
                self.used.add(study)

    def _done(self) -> tuple[int, int, str, str]:
        """Say how many networks of those asked for so far are done, what shows them, what goes on.

        See `signals.command`.
        """
        asked = list(self.asked.values())  # threads of an asynchronous search add to it
        done = sum(member.is_done for member in asked)
        goes_on = ""
        if done < len(asked) and self.launches.is_under_way:
            goes_on = launchers.left_running(self.launches.launcher)
        studies = list(dict.fromkeys(member.folder.parents[1] for member in asked))
        is_shown = len(studies) == 1 or self.name != "train"
        if not studies or not is_shown or self.line.is_aside:
            return done, len(asked), "", goes_on
        root, study = studies[0].parent, studies[0].name  # a search's own, before its finalists'
        shows = f"{PROG} show {study_names.title(root, study)}{study_names.at(root)}"
        return done, len(asked), shows, goes_on

    def _progress(self, members: Sequence[Member]) -> AbstractContextManager[None]:
        """Show how far runs are, a line for each that ended; a single network says it itself."""
        if not members or self._is_single:
            return nullcontext()
        if launchers.is_here(self.launches.launcher):
            self.display.told = run.ended_here
        return self.display.showing(members)

    def _loudness(self) -> list[str]:
        """Show of a single network each epoch; what else a training says, its log file has.

        Where that is a screen of its own, as on Slurm, it says there how it ended, too.
        """
        if not self._is_ours or self._is_single:
            return []
        has_own = "hydra_submitit_launcher" in str(self._setting("hydra.launcher._target_"))
        return [f"++{CONSOLE}.level={terminal.ENDED if has_own else terminal.PROGRESS}"]

    @property
    def _is_single(self) -> bool:
        return self.shows_epochs and len(self.asked) == 1

    @property
    def _is_ours(self) -> bool:
        """Whether what is logged goes where this project says."""
        return bool(self._setting(CONSOLE))

    def _setting(self, key: str) -> Any:
        return OmegaConf.select(self.command, key)


class TrainCommand(LaunchingCommand):
    """Expand modifiers, skip what is done, launch the rest, print the trade-offs."""

    def carry_out(self, arguments: list[str]) -> list[Any]:
        """Train a sweep.

        Raises:
            SystemExit: if a run failed.
        """
        members = self.members(self._split(arguments))
        self.line.begin_all(members)
        reading.print_all(member.reading for member in members if member.reading is not None)
        sweep.say_plan(members)
        errors = self.train(members)
        records = [record for member in members if (record := member.record()) is not None]
        others, root = sweep.study_records(members, records), members[0].store.root
        trade_offs.print_trade_offs(records, all_records=others, root=root)
        for store in {member.store.root: member.store for member in members}.values():
            name_page(store)
        if problems := sweep.problems(members, errors):
            log_folder = members[0].store.root / messages.FOLDER
            log_file = log_folder / f"{self._setting('hydra.job.name')}.log"
            raise SystemExit(_failures(problems, len(members), log_file))
        return records

    def _split(self, arguments: list[str]) -> list[list[str]]:
        """Take the product of all swept values."""
        (jobs,) = BasicSweeper.split_arguments(overrides.parse(arguments, self.loader), None)
        return jobs


def write_page(store: Store) -> Path | None:
    """Write the page of a folder of runs; what keeps it from being written is a warning."""
    try:
        return page.write(store)
    except SsrError as error:
        log.warning("the page was not written: %s", error)
    except Exception as error:  # what is only to be looked at ends neither a sweep nor a search
        log.warning("the page was not written: %s", cause(error))
        log.debug("the page was not written", exc_info=True)
    return None


def name_page(store: Store) -> None:
    """Write the page of a folder of runs, and say where it is."""
    if (path := write_page(store)) is not None:
        print(f"page: {path}", flush=True)


def _failures(problems: Sequence[str], total: int, log_file: Path) -> str:
    for problem in problems:
        messages.file_log.info("%s", problem)
    lines = [f"  {problem}" for problem in problems[:FAILURES]]
    if more := len(problems) - len(lines):
        lines.append(f"  ... and {more} more, for the reasons in {log_file}")
    first = f"{len(problems)} of {total} runs failed (repeat the command to try them again):"
    return "\n".join([first, *lines])
