"""What a launcher runs: one job trains one network."""

from typing import Any

from hydra.errors import CompactHydraException

from ssr_exp import config, stopping
from ssr_exp.errors import SsrError


def train(composed: Any) -> str:
    """Train the network that a job's configuration names, and say how that ended.

    Raises:
        CompactHydraException: with the sentence of an `SsrError`; Hydra prints no traceback for it.
    """
    from hydra_plugins.ssr_exp._launchers import enter_folder
    from ssr_exp.runs import local
    from ssr_exp.training import run

    try:
        with stopping.job():
            enter_folder()
            return run.train(config.read(composed, config.Config)).status.value
    except local.Busy as error:
        print(error)
        return local.BUSY
    except SsrError as error:
        raise CompactHydraException(str(error)) from error
