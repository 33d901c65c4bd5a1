"""Train rescaled versions of a ConvNet: `python train.py model=resnet56 modifiers=sentinel_all`."""

import hydra

from ssr_exp import config

config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: config.Config) -> None:
    """Train the one network of a job; the sweeper turns a command into jobs."""
    from ssr_exp.training import run

    run.train(config.read(composed))


if __name__ == "__main__":
    main()
