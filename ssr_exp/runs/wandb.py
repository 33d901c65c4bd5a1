"""Weights & Biases: the same fields as the record, and the curves, in a run of its own.

For training W&B is a view. Nothing waits for it: a server that does not answer costs `timeout_s`
once, and the run goes on offline. A search that is told to reads finished runs from there.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb

from ssr_exp.config import LoggerConf, RunsConf, WandbMode
from ssr_exp.errors import SsrError
from ssr_exp.parsing import Unreadable
from ssr_exp.runs.record import Record, parse

log = logging.getLogger(__name__)

PRIVATE: dict[str, Any] = {
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "host": "local",
    "program": "train.py",
}
PATH = re.compile(r"(?<![\w./])(?:[A-Za-z]:|~)?[\\/][^\s'\",;()]*")  # stays on this machine
RETRY_AFTER_S = 600.0  # after a failure, further runs of this process start offline for so long
_failed_at: float | None = None

ENDED = ("finished", "failed")  # W&B's words; every other state is of a run that did not finish
DROPPED = {"git_commit": None}  # W&B keeps no null
PAGE = 200  # runs in one answer
RETRIES = 3  # of a question; left to itself W&B retries for minutes and never says what was wrong
LONGEST_NAME = 128  # characters of the name of a run


def start(
    conf: LoggerConf,
    *,
    folder: Path,
    name: str,
    group: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
) -> wandb.Run | None:
    """Open a W&B run, offline if the server cannot be reached; None if W&B is disabled.

    Args:
        conf: mode, project and privacy.
        folder: the run's folder; W&B's files go below it.
        name: the network's code.
        group: the study.
        tags: besides those of `conf`.
        config: what the run was asked to do.

    Raises:
        SsrError: if W&B refuses what `conf` says.
    """
    global _failed_at
    if conf.mode is WandbMode.disabled:
        return None
    os.environ.setdefault("WANDB_ERROR_REPORTING", str(conf.share_machine).lower())
    wanted: dict[str, Any] = {
        "project": conf.project,
        "entity": conf.entity,
        "dir": str(folder),
        "name": name[:LONGEST_NAME],
        "group": group,
        "job_type": "train",
        "tags": [*conf.tags, *tags],
        "config": dict(config),
        "reinit": "finish_previous",
    }
    if conf.mode is WandbMode.online and not _recently_failed():
        try:
            return wandb.init(mode="online", settings=_settings(conf), **wanted)
        except Exception as error:  # of the network, of the account, or of W&B's own process
            _failed_at = time.monotonic()
            log.warning(
                "W&B cannot be reached (%s): logging offline; later: wandb sync %s",
                _sentence(error),
                folder / "wandb" / "offline-run-*",
            )
            wandb.teardown()
    try:
        return wandb.init(mode="offline", settings=_settings(conf), **wanted)
    except Exception as error:
        raise SsrError(
            f"W&B does not start ({_sentence(error)}): mend logger.project, logger.entity or "
            "logger.tags, or type logger=disabled."
        ) from error


def finish(run: wandb.Run | None, record: Record) -> None:
    """Write the record's fields to the run's summary and close it; never raises."""
    if run is None:
        return
    try:
        fields = record.model_dump(mode="json")
        if record.error is not None:
            fields["error"] = PATH.sub("<path>", record.error)
        run.summary.update(fields)
        run.finish(exit_code=0 if record.status.value == "finished" else 1)
    except Exception as error:
        log.warning("W&B did not finish (%s); later: wandb sync %s", error, run.dir)


def records(conf: RunsConf, logger: LoggerConf, *, study: str) -> list[Record]:
    """Read the records of a study from the server, in the order in which their runs started.

    A network that was trained again is there again. Runs that were never finished do not count;
    others that hold no record of this study are skipped, with one warning for all.

    Args:
        conf: whose runs, which of them, and how long all of it may take.
        logger: whose runs, where `conf` does not say.
        study: the runs' group.

    Raises:
        SsrError: if W&B has no such project, refuses the account or the filter, or is too slow.
    """
    if not 0 < conf.timeout_s < math.inf:
        raise SsrError(f"runs.timeout_s is {conf.timeout_s}; it must be above 0 seconds.")
    found: list[Record] = []
    skipped: list[str] = []
    for run in _runs(conf, logger, study):
        try:
            found.append(_record(run, study))
        except Unreadable as error:
            if "status" in run.summary_metrics or run.state in ENDED:
                skipped.append(f"{run.id}, as {error}")
    if skipped:
        counted = f"{len(skipped)} of {len(skipped) + len(found)} finished runs"
        log.warning("W&B: skipped %s of study %s: no record of it (%s)", counted, study, skipped[0])
    return found


def _record(run: Any, study: str) -> Record:
    """Read a run's record, as data only; W&B's own keys are none of a record's."""
    known = {**DROPPED, **run.config, **run.summary_metrics}
    record = parse(json.dumps({key: known[key] for key in Record.model_fields if key in known}))
    if record.study != study:
        raise Unreadable(f"it is of study {record.study!r}")
    return record


def _runs(conf: RunsConf, logger: LoggerConf, study: str) -> list[Any]:
    """Ask for a study's runs, page by page, and never for a password."""
    entity, project = conf.entity or logger.entity, conf.project or logger.project
    wanted: dict[str, Any] = {"group": study}
    if conf.filters:
        wanted = {"$and": [wanted, conf.filters]}
    end = time.monotonic() + conf.timeout_s
    runs = []
    try:
        _close()
        wandb.setup(settings=wandb.Settings(silent=True, x_graphql_retry_max=RETRIES))
        owner = {"entity": entity} if entity else {}
        api = wandb.Api(owner | {"project": project}, timeout=math.ceil(conf.timeout_s))
        with _own_folder():
            for run in api.runs(filters=wanted, per_page=PAGE, lazy=False):
                runs.append(run)
                if time.monotonic() > end:
                    raise TimeoutError
    except Exception as error:
        place = f"{entity}/{project}" if entity else project
        why = _refusal(error, conf, place)
        raise SsrError(f"cannot read runs from W&B: {why}, or runs=local.") from error
    finally:
        _close()
    return runs


def _close() -> None:
    """End W&B's own process, unless it logs a run: jobs started later must not look for it."""
    if wandb.run is None:
        try:
            wandb.teardown()
        except (Exception, SystemExit) as error:
            log.debug("W&B ended with %s", error)


@contextmanager
def _own_folder() -> Iterator[None]:
    """Sweep away the folders that W&B makes, one for each run that it lists."""
    before = os.environ.get("WANDB_DIR")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["WANDB_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["WANDB_DIR"]
            if before is not None:
                os.environ["WANDB_DIR"] = before


def _refusal(error: Exception, conf: RunsConf, place: str) -> str:
    """Say what keeps runs from being read, and what helps."""
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    told = next((e for e in chain if getattr(e, "response", None) is not None), error)
    status = getattr(getattr(told, "response", None), "http_status", 0)
    text = _sentence(told)
    late = any(isinstance(e, TimeoutError) for e in chain)
    if late or "giving up after" in text:
        why = f"more than {conf.timeout_s:g} s" if late else str(told).splitlines()[-1][:200]
        return (
            f"no answer ({why}): check network and WANDB_BASE_URL, or type runs.timeout_s=SECONDS"
        )
    if isinstance(error, wandb.errors.UsageError):
        return "there is no API key here: type wandb login, or set WANDB_API_KEY"
    if isinstance(error, wandb.errors.AuthenticationError) or status == 401:
        return f"the API key is refused ({text}): type wandb login --relogin, or set WANDB_API_KEY"
    if status in (403, 404) or "permission denied" in text or "Could not find project" in text:
        return (
            f"no project {place} for this account ({text}): type runs.entity=NAME runs.project=NAME"
        )
    if conf.filters and (status == 400 or text.startswith("input:")):
        example = "MongoDB's words are allowed, such as runs.filters={state:finished}"
        return f"runs.filters={conf.filters} is refused ({text}): {example}"
    return text


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _recently_failed() -> bool:
    return _failed_at is not None and time.monotonic() - _failed_at < RETRY_AFTER_S


def _settings(conf: LoggerConf) -> wandb.Settings:
    """Keep what names the machine or its user to ourselves, unless asked to share it."""
    options: dict[str, Any] = {
        "init_timeout": conf.timeout_s,
        "login_timeout": conf.timeout_s,
        "finish_timeout": conf.timeout_s,
        "silent": True,
    }
    return wandb.Settings(**(options if conf.share_machine else options | PRIVATE))
