"""Weights & Biases: the same fields as the record, and the curves, in a run of its own.

For training W&B is a view. Nothing waits for it: a server that does not answer costs `timeout_s`,
again after ten minutes at the earliest, and runs go on offline. A search that is told to reads
finished runs from there.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssr_exp.config import LoggerConf, RunsConf, WandbMode
from ssr_exp.errors import SsrError, without_paths
from ssr_exp.files import Unreadable
from ssr_exp.runs import store
from ssr_exp.runs.record import ACCURACIES, LOSSES, Record, parse
from ssr_exp.runs.wandb.api import ApiRequest, close, connect, sentence

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

OFF = "disable_git disable_code x_disable_stats x_disable_meta x_disable_machine_info".split()
RESUMED = {"resume": "allow", "allow_val_change": True}
PRIVATE: dict[str, Any] = dict.fromkeys(OFF, True) | {
    "console": "off",
    "save_code": False,
    "x_save_requirements": False,
    "host": "local",
    "program": "train.py",
}
RETRY_AFTER_S = 600.0  # after a failure, further runs of this process start offline for so long
_failed_at: float | None = None
DELETED = "deleted"  # in what W&B says of a run whose id is never given again
FOLDER = re.compile(r"run-(\d{8}_\d{6})-(\w+)$")  # of a run: when it was opened, and its id
SECOND = 1.05  # W&B names folders by second and run

ENDED = ("finished", "failed")  # W&B's words; every other state is of a run that did not finish
DROPPED = {"git_commit": None}  # W&B keeps no null
PAGE = 200  # runs in one answer
LONGEST_NAME = 128  # characters of the name of a run
LONGEST_TAG = 64  # likewise
SEARCH = "search"  # the job type of a search's own run, see `ssr_exp.runs.wandb.search_run`
MOST_AXES = 32  # segments whose modifiers are logged one by one, too


def start(
    conf: LoggerConf,
    *,
    folder: Path,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str] = (),
    config: Mapping[str, Any],
    run_id: str | None = None,
) -> wandb.Run | None:
    """Open a W&B run, offline if the server cannot be reached; None if W&B is disabled.

    Args:
        conf: mode, project and privacy.
        folder: the run's folder; W&B's files go below it.
        name: the network's code, or the search.
        group: the study.
        job_type: what kind of network it is, or `SEARCH`.
        tags: besides those of `conf`.
        config: what the run was asked to do.
        run_id: of the run that this one goes on with, if W&B has it; None: a new one.

    Raises:
        SsrError: if W&B refuses what `conf` says.
    """
    if conf.mode is WandbMode.disabled:
        return None
    os.environ.setdefault("WANDB_ERROR_REPORTING", str(conf.share_machine).lower())
    os.environ.setdefault("WANDB_SILENT", "true")  # else it asks at a terminal for a key
    wanted: dict[str, Any] = {
        "project": conf.project,
        "entity": conf.entity,
        "dir": str(folder),
        "name": store.shortened(name, LONGEST_NAME),
        "group": group,
        "job_type": job_type,
        "tags": list(dict.fromkeys([*conf.tags, *(tag[:LONGEST_TAG] for tag in tags if tag)])),
        "config": dict(config),
        "reinit": "finish_previous",
    }
    if run_id is not None:
        _pass_a_second(folder)
        wanted |= {"id": run_id, **RESUMED}
    if conf.mode is WandbMode.online and (run := _online(conf, wanted)) is not None:
        return run
    try:
        return _offline(conf, wanted)
    except Exception as error:
        raise SsrError(
            f"W&B does not start ({sentence(error)}): mend logger.project, logger.entity or "
            "logger.tags, or type logger=disabled."
        ) from error


def opened_in(folder: Path) -> str | None:
    """Return the id of the W&B run that was opened last below a run's folder; None: of none."""
    matches = (FOLDER.search(path.name) for path in (folder / "wandb").glob("*run-*"))
    opened = [match.groups() for match in matches if match]
    return max(opened)[1] if opened else None


def _pass_a_second(folder: Path) -> None:
    """Wait until W&B, which names folders by second and run, gives a new one."""
    made = [path.stat().st_ctime for path in (folder / "wandb").glob("*run-*")]
    if (rest := max(made, default=0.0) + SECOND - time.time()) > 0:
        time.sleep(min(rest, SECOND))


def _online(conf: LoggerConf, wanted: dict[str, Any]) -> wandb.Run | None:
    """Open a run on the server; None, for a while at once, if it cannot be reached."""
    import wandb

    global _failed_at
    if _failed_at is not None and time.monotonic() - _failed_at < RETRY_AFTER_S:
        return None
    try:
        return wandb.init(mode="online", settings=_settings(conf), **wanted)
    except Exception as error:  # of the network, of the account, or of W&B's own process
        if "id" in wanted and DELETED in str(error):
            log.info("W&B: the run %s was deleted there: a new one", wanted["id"])
            for key in ("id", *RESUMED):  # offline, too: it could never be sent
                del wanted[key]
            return _online(conf, wanted)
        _failed_at = time.monotonic()
        log.warning(
            "W&B cannot be reached (%s): logging offline; later: wandb sync %s",
            sentence(error),
            _offline_runs(Path(wanted["dir"]), is_search=wanted["job_type"] == SEARCH),
        )
        wandb.teardown()
        return None


def _offline(conf: LoggerConf, wanted: Mapping[str, Any]) -> wandb.Run | None:
    """Open a run that needs no server, but W&B's own process: if that has died, another one."""
    import wandb

    try:
        return wandb.init(mode="offline", settings=_settings(conf), **wanted)
    except (wandb.errors.UsageError, ValueError):  # of what it was asked
        raise
    except Exception as error:
        log.warning("W&B's process is gone (%s): starting another one", sentence(error))
        close(always=True)
        return wandb.init(mode="offline", settings=_settings(conf), **wanted)


def finish(run: wandb.Run | None, record: Record) -> None:
    """Write the record's fields to the run's summary and close it; never raises."""
    if run is None:
        return
    try:
        fields = record.model_dump(mode="json")
        if record.error is not None:
            fields["error"] = without_paths(record.error)
        run.summary.update(fields)
        run.finish(exit_code=0 if record.status.value == "finished" else 1)
    except Exception as error:
        tell_unsent(run, error)
        close(always=True)


def tell_unsent(run: wandb.Run, error: Exception, *, is_search: bool = False) -> None:
    """Say how what W&B did not take of a run is sent later; for a while runs start offline."""
    global _failed_at
    _failed_at = time.monotonic()
    told = (
        "W&B did not finish (%s), and runs that begin here in the next %g minutes stay offline "
        "(%s); later: wandb sync --no-skip-online %s"
    )
    place = Path(run.sync_dir)  # in wandb/ of the run's folder
    offline = _offline_runs(place.parent.parent, is_search=is_search)
    minutes, kept = RETRY_AFTER_S / 60, shlex.quote(str(place))
    log.warning(told, sentence(error), minutes, offline, kept)


def _offline_runs(folder: Path, *, is_search: bool) -> str:
    """Write, for a shell, where runs lie that begin offline: the study's trainings, or a search's.

    `folder` is that of a run: `<study>/<network>/seed<seed>`, or of the search.
    """
    if is_search:
        return f"{shlex.quote(str(folder))}/wandb/offline-run-*"
    return f"{shlex.quote(str(folder.parent.parent))}/*/seed*/wandb/offline-run-*"


def axes(record: Record) -> dict[str, float]:
    """List a network's modifiers one by one, by the names of config keys: `depth_1`, `width_1`.

    W&B's panels reach no entry of a list. Of networks with more than `MOST_AXES` segments there
    are too many to be looked at, and none is listed.
    """
    shares = {"depth": record.modifiers.depth, "width": record.modifiers.width}
    return {
        f"{kind}_{number}": share
        for kind, values in shares.items()
        for number, share in enumerate(values, start=1)
        if len(values) <= MOST_AXES
    }


def records(conf: RunsConf, logger: LoggerConf, *, study: str) -> list[Record]:
    """Read the records of a study from the server, in the order in which their runs started.

    A network that was trained again is there again. Runs that were never finished do not count;
    others that hold no record of this study are skipped, with one warning for all. The runs of
    searches themselves are none.

    Args:
        conf: whose runs, which of them, and how long all of it may take.
        logger: whose runs, where `conf` does not say.
        study: the runs' group.

    Raises:
        SsrError: if W&B has no such project, refuses the account or the filter, or is too slow.
    """
    records: list[Record] = []
    skipped: list[str] = []
    for run in _runs(conf, logger, study):
        try:
            records.append(_record(run, study))
        except Unreadable as error:
            is_search = getattr(run, "job_type", None) == SEARCH
            if not is_search and ("status" in run.summary_metrics or run.state in ENDED):
                skipped.append(f"{run.id}, as {error}")
    if skipped:
        counted = f"{len(skipped)} of {len(skipped) + len(records)} finished runs"
        log.warning("W&B: skipped %s of study %s: no record of it (%s)", counted, study, skipped[0])
    return records


def _record(run: Any, study: str) -> Record:
    """Read a run's record, as data only; W&B's own keys are none of a record's."""
    logged = {**DROPPED, **run.config, **run.summary_metrics}
    names = (*Record.model_fields, *ACCURACIES, *LOSSES)  # the last two: of schema 1
    record = parse(json.dumps({name: logged[name] for name in names if name in logged}))
    if record.study != study:
        raise Unreadable(f"it is of study {record.study!r}")
    return record


def _runs(conf: RunsConf, logger: LoggerConf, study: str) -> list[Any]:
    """Ask for a study's runs, page by page."""
    wanted: dict[str, Any] = {"group": study}
    if conf.filters:
        wanted = {"$and": [wanted, conf.filters]}
    request = ApiRequest(
        what="read runs from W&B",
        entity=conf.entity or logger.entity,
        project=conf.project or logger.project,
        timeout_s=conf.timeout_s,
        slower="runs.timeout_s=SECONDS",
        elsewhere="runs.entity=NAME runs.project=NAME",
        instead="runs=local",
        filters=conf.filters,
    )
    end = time.monotonic() + conf.timeout_s
    runs = []
    with connect(request) as api:
        for run in api.runs(filters=wanted, per_page=PAGE, lazy=False):
            runs.append(run)
            if time.monotonic() > end:
                raise TimeoutError
    return runs


def _settings(conf: LoggerConf) -> wandb.Settings:
    """Keep what names the machine or its user to ourselves, unless asked to share it."""
    import wandb

    options: dict[str, Any] = {
        "init_timeout": conf.timeout_s,
        "login_timeout": conf.timeout_s,
        "finish_timeout": conf.timeout_s,
        "finish_timeout_raises": True,
        "silent": True,
    }
    return wandb.Settings(**(options if conf.share_machine else options | PRIVATE))
