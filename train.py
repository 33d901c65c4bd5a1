"""Train rescaled versions of a ConvNet: `python train.py model=resnet56 modifiers=sentinel_all`."""

from ssr_exp import stopping, streams

streams.harden()
with stopping.at_once():  # from the first moment on
    import hydra

    from hydra_plugins.ssr_exp import _commands, jobs
    from ssr_exp import config

    config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: config.Config) -> str:
    """Train the one network of a job; the sweeper makes the jobs."""
    return jobs.train(composed)


if __name__ == "__main__":
    with stopping.at_once():
        _commands.run(main, config.Config)
