"""What a launcher runs: one job trains one network."""

import logging
from typing import Any

from hydra.errors import CompactHydraException

from ssr_exp import messages, signals, streams
from ssr_exp.app import configuration
from ssr_exp.config import Config
from ssr_exp.errors import SsrError, cause

log = logging.getLogger(__name__)


def train(composed: Any) -> str:
    """Train the network that a job's configuration names, and say how that ended.

    Raises:
        CompactHydraException: with the sentence of an `SsrError`; Hydra prints no traceback for it.
        RuntimeError: with the kind and the first line of any other error.
    """
    from ssr_exp.app.launchers import enter_folder, logs_apart
    from ssr_exp.runs import store
    from ssr_exp.training import run

    streams.outlive_readers()  # of a launcher's process
    try:
        with signals.job(), messages.job(has_own_screen=logs_apart()):
            enter_folder()
            return run.train(configuration.read(composed, Config)).status.value
    except store.Busy as error:
        print(error)
        return store.BUSY
    except SsrError as error:
        raise CompactHydraException(str(error)) from error
    except Exception as error:  # of any class: the next one survives the way to a launcher
        log.debug("a job broke", exc_info=True)
        raise RuntimeError(cause(error)) from None
