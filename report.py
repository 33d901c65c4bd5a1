"""Show all trade-offs: `python report.py paths.runs=DIR` writes one page, `to=wandb` dashboards."""

import hydra

from hydra_plugins.ssr_exp import _commands, reports
from ssr_exp import config

config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="report")
def main(composed: config.ReportConfig) -> str:
    """Write what a configuration asks for; the last line printed says where it is."""
    return reports.write(composed)


if __name__ == "__main__":
    _commands.run(main, config.ReportConfig)
