"""Weights & Biases: the same fields as the record, and the curves, in a run of its own.

W&B is a view. Nothing waits for it: a server that does not answer costs `timeout_s` once, and the
run goes on offline.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from ssr_exp.config import LoggerConf, WandbMode
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record

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
        "name": name,
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


def _sentence(error: Exception) -> str:
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
