"""What a launcher runs: one job trains one network."""

import logging
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException

from ssr_exp import messages, signals, streams
from ssr_exp.app import configuration
from ssr_exp.config import Config
from ssr_exp.errors import SsrError, cause

log = logging.getLogger(__name__)

_busy = threading.Event()  # while a training is under way in this process
_watched: list[int] = []  # the process that started this one

# A launcher's process imports this file, then composes its job: there Hydra warns, for each of
# them, that our presets have the names of plugins' schemas (see `launchers.open`).
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")


def train(composed: Any) -> str:
    """Train the network that a job's configuration names, and say how that ended.

    Raises:
        CompactHydraException: with the sentence of an `SsrError`; Hydra prints no traceback for it.
        RuntimeError: with the kind and the first line of any other error.
    """
    from ssr_exp.runs import store
    from ssr_exp.training import run

    streams.outlive_readers()  # of a launcher's process
    try:
        with _ends_with_command(), signals.job(), messages.job(has_own_screen=has_own_screen()):
            _enter_folder()
            return run.train(configuration.read(composed, Config)).status.value
    except store.Busy as error:
        log.info("%s", error)
        return store.BUSY
    except SsrError as error:
        raise CompactHydraException(str(error)) from error
    except Exception as error:  # of any class: the next one survives the way to a launcher
        log.debug("a job broke", exc_info=True)
        raise RuntimeError(cause(error)) from None


@contextmanager
def _ends_with_command() -> Iterator[None]:
    """Let a process of joblib's end when its command was killed: after the training of a block.

    Left to itself it waits for more of them without end, and keeps its memory, on a GPU, too.
    """
    if HydraConfig.initialized() and "joblib" in str(HydraConfig.get().launcher["_target_"]):
        end_with_parent()
    try:
        _busy.set()
        yield
    finally:
        _busy.clear()


def end_with_parent(look_s: float = 1.0) -> None:
    """End this process once the one that started it is gone and no training is under way here."""
    if _watched or multiprocessing.parent_process() is None:  # it is the command itself
        return
    _watched.append(os.getppid())

    def watch() -> None:
        while os.getppid() == _watched[0] or _busy.is_set():
            time.sleep(look_s)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def has_own_screen() -> bool:
    """Say whether a job's screen is a log file of its own, as submitit's is."""
    if not HydraConfig.initialized():
        return False
    return "hydra_submitit_launcher" in str(HydraConfig.get().launcher["_target_"])


def _enter_folder() -> None:
    """Go where the command was typed: a worker of a cluster begins elsewhere.

    Raises:
        SsrError: if this node has no such folder.
    """
    if not HydraConfig.initialized():
        return
    folder = Path(HydraConfig.get().runtime.cwd)
    if not folder.is_dir():
        raise SsrError(
            f"{os.uname().nodename} has no folder {folder}, where the command was typed: share it "
            "between the nodes."
        )
    os.chdir(folder)
