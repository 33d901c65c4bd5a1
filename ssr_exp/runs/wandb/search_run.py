"""A search's own run in W&B: what its surrogate believes after each round, and its answer.

The run is opened for each look and finished at once, since trainings of the same process have runs
of their own between two looks. Each opening goes on with the same run: online W&B appends to it;
offline each leaves a folder, and `wandb sync` of all of them makes one run. Every look brings all
tables whole, so the last one alone says everything but the curves; that is needed, too, since the
summary of what is sent last replaces those before. Nothing here stops a search.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssr_exp import files, messages
from ssr_exp.config import LoggerConf, WandbMode
from ssr_exp.runs import store
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Record
from ssr_exp.runs.wandb import api, training_run
from ssr_exp.runs.wandb.charts import ROUND, best, charts, scalars, tables

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

NOTE = "wandb.json"  # in a search's folder: which run is its own, and the last round that it has
STAGED = "staged-"  # folders below the search's `wandb/`: what a later `wandb sync` sends
BEFORE = -1  # all rounds
LONGEST = 128  # characters of the name of an artifact
ALIAS = "best"
KEPT = (
    "network model dataset seed epochs blocks widths score score_key test_score params macs gemms"
).split()


@dataclass
class SearchRun:
    """What a search of a study tells W&B.

    Args:
        config: what it was asked to do.
        is_asked: whether the user spoke of W&B, and wants to read how it is sent later.
    """

    conf: LoggerConf
    store: store.Store
    folder: Path
    study: str
    config: Mapping[str, Any]
    is_asked: bool = False
    _last: tuple[Predictions, Sequence[Record]] | None = field(default=None, init=False)

    def look(self, told: Predictions, records: Sequence[Record]) -> None:
        """Log what is believed after a round, with all looks before; never raises."""
        self._last = told, records
        note, last = self._note(), told.looks[-1]
        if [last.round, last.runs] == [note["round"], note.get("runs")]:
            return  # a finished search was repeated
        with self._run(note) as run:
            if run is None:
                return
            run.define_metric(ROUND, hidden=True)
            run.define_metric("search/*", step_metric=ROUND)
            for look in told.looks[:-1]:
                if look.round > note["round"]:  # one that the run does not have
                    run.log(scalars(look, told.levels))
            run.log(_numbers(told, records) | charts(told, records))
            self._write(note | {"round": last.round, "runs": last.runs})

    def answer(self, record: Record, folder: Path) -> None:
        """Log the answer's folder, with all that loading it takes, as an artifact; never raises."""
        import wandb

        with self._run(self._note()) as run:
            if run is None:
                return
            fields = record.model_dump(mode="json", exclude_none=True)
            shown = {key: fields[key] for key in KEPT if key in fields}
            made = wandb.Artifact(artifact(self.study), "model", metadata=shown)
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    # What is sent later is copied, as another answer may replace the folder.
                    policy: Any = "mutable" if run.offline else "immutable"
                    made.add_file(str(path), name=path.name, policy=policy, skip_cache=True)
            run.log_artifact(made, aliases=[ALIAS, self.folder.name])
            if self._last is not None:
                run.summary.update(_numbers(*self._last) | tables(*self._last))
            run.summary.update({f"{ALIAS}/{key}": shown[key] for key in shown})
            if run.offline:
                where = log if self.is_asked else messages.file_log
                where.info("W&B: for the search's own run, wandb sync %s", self._folders())

    @contextmanager
    def _run(self, note: dict[str, Any]) -> Iterator[wandb.Run | None]:
        """Open the search's run for a moment; what goes wrong with it is a warning.

        Where W&B opens another one, as the one of the note was deleted, the note is of that.
        """
        if self.conf.mode is WandbMode.disabled:
            yield None
            return
        staged = self.folder / "wandb" / f"{STAGED}{secrets.token_hex(4)}"  # another's stay
        with api.variable("WANDB_DATA_DIR", str(staged)):
            run = self._open(note)
            try:
                yield run
            except Exception as error:  # of the disk, or of W&B's own process
                _warn(error)
            finally:
                if run is not None:
                    self._finish(run, staged)
                api.close()

    def _open(self, note: dict[str, Any]) -> wandb.Run | None:
        try:
            self._write(note)
            run = training_run.start(
                self.conf,
                folder=self.folder,
                name=self.folder.name,
                group=self.study,
                job_type=training_run.SEARCH,
                tags=[self.study],
                config=self.config,
                run_id=str(note["id"]),
            )
            if run is not None and run.id != note["id"]:
                note |= {"id": run.id, "round": BEFORE}
                self._write(note)
            return run
        except Exception as error:
            _warn(error)
            return None

    def _finish(self, run: wandb.Run, staged: Path) -> None:
        """Close the run; what was sent in time need not be kept."""
        try:
            run.finish()
        except Exception as error:
            training_run.tell_unsent(run, error, is_search=True)
            return
        if not run.offline:
            shutil.rmtree(staged, ignore_errors=True)

    def _folders(self) -> Path:
        return self.folder / "wandb" / "*run-*"

    def _note(self) -> dict[str, Any]:
        """Read which run is the search's own; without a note, a new one."""
        try:
            note = files.read_fields(self.folder / NOTE)
            return {"id": str(note["id"]), "round": int(note["round"]), "runs": note.get("runs")}
        except (OSError, ValueError, KeyError, TypeError):
            return {"id": secrets.token_hex(4), "round": BEFORE}

    def _write(self, note: Mapping[str, Any]) -> None:
        self.store.write_text(self.folder / NOTE, json.dumps(dict(note)) + "\n")


def artifact(study: str) -> str:
    """Name the artifact of a study's answer."""
    return store.folder_name(f"best-{study}")[-LONGEST:]


def _numbers(told: Predictions, records: Sequence[Record]) -> dict[str, float]:
    """List the numbers of the last look."""
    return scalars(told.looks[-1], told.levels) | best(records, max_drop=told.max_drop)


def _warn(error: Exception) -> None:
    told = api.sentence(error)
    log.warning("W&B: the search goes on, and its own run lacks something: %s", told)
