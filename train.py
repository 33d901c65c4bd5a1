"""Train rescaled versions of a ConvNet: `python train.py model=resnet56 modifiers=sentinel_all`."""

from ssr_exp import signals, streams

streams.outlive_readers()
with signals.at_once():  # from the first moment on
    import hydra
    from omegaconf import DictConfig

    from ssr_exp.app import configuration, jobs
    from ssr_exp.app.command_line import commands

    configuration.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> str:
    """Train the one network of a job; the sweeper makes the jobs."""
    return jobs.train(composed)


if __name__ == "__main__":
    with signals.at_once():
        commands.run(main, "train")
