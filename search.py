"""Search rescaled versions of a ConvNet: `python search.py model=resnet56 rounds=3 batch=4`."""

from ssr_exp import signals, streams

streams.harden()
with signals.at_once():  # from the first moment on
    import hydra

    from ssr_exp import config
    from ssr_exp.app import jobs
    from ssr_exp.app.command_line import commands

    config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="search")
def main(composed: config.SearchConfig) -> str:
    """Train the one network of a job; the sweeper runs the search and makes the jobs."""
    return jobs.train(composed)


if __name__ == "__main__":
    with signals.at_once():
        commands.run(main, config.SearchConfig)
