"""Train rescaled versions of a ConvNet: `python train.py model=resnet56 modifiers=sentinel_all`."""

import hydra
from hydra.errors import CompactHydraException

from ssr_exp import config
from ssr_exp.errors import SsrError

config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: config.Config) -> str:
    """Train the one network of a job and say how that ended; the sweeper makes the jobs."""
    from ssr_exp.runs import local
    from ssr_exp.training import run

    try:
        return run.train(config.read(composed)).status.value
    except local.Busy as error:
        print(error)
        return local.BUSY
    except SsrError as error:  # Hydra prints its own errors without a traceback
        raise CompactHydraException(str(error)) from error


if __name__ == "__main__":
    main()
