"""Show all trade-offs: `python report.py paths.runs=DIR` writes one page, `to=wandb` dashboards."""

import hydra
from omegaconf import DictConfig

from ssr_exp.app import configuration, reports
from ssr_exp.app.command_line import commands

configuration.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="report")
def main(composed: DictConfig) -> str:
    """Write what a configuration asks for; the last line printed says where it is."""
    return reports.write(composed)


if __name__ == "__main__":
    commands.run(main, "report")
