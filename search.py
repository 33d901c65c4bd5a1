"""Search rescaled versions of a ConvNet: `python search.py model=resnet56 rounds=3 batch=4`."""

from ssr_exp import signals, streams

streams.outlive_readers()
with signals.at_once():  # from the first moment on
    import hydra
    from omegaconf import DictConfig

    from ssr_exp.app import configuration, jobs
    from ssr_exp.app.command_line import commands

    configuration.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="search")
def main(composed: DictConfig) -> str:
    """Train the one network of a job; the sweeper runs the search and makes the jobs."""
    return jobs.train(composed)


if __name__ == "__main__":
    with signals.at_once():
        commands.run(main, "search")
