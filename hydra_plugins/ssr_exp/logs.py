"""Where Hydra sends what is logged: `hydra/job_logging=ssr`, and `ssr_screen` without a log file.

Hydra imports this file at every start.
"""

from typing import Any

from hydra.core.config_store import ConfigStore


def _setting(*handlers: str) -> dict[str, Any]:
    """Say to `logging.config` where messages go."""
    known = {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["shown"],
            "stream": "ext://sys.stdout",
        },
        "file": {
            "class": "ssr_exp.messages.LogFile",
            "formatter": "full",
            "folder": "${paths.runs}",
            "name": "${hydra.job.name}.log",
        },
    }
    plain = {"class": "ssr_exp.messages.ScreenFormatter", "format": "%(message)s"}
    full = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": plain, "full": {"format": full}},
        "filters": {"shown": {"()": "ssr_exp.messages.ScreenFilter"}},
        "handlers": {name: known[name] for name in handlers},
        "root": {"level": "INFO", "handlers": list(handlers)},
    }


for _group in ("hydra/job_logging", "hydra/hydra_logging"):
    _store = ConfigStore.instance()
    _store.store(group=_group, name="ssr", node=_setting("console", "file"), provider="ssr_exp")
    _store.store(group=_group, name="ssr_screen", node=_setting("console"), provider="ssr_exp")
