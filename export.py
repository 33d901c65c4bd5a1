"""Export a trained network: `python export.py paths.runs=DIR run=best format=onnx,executorch`."""

import hydra

from ssr_exp import config
from ssr_exp.app import exports
from ssr_exp.app.command_line import commands

config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(composed: config.ExportConfig) -> str:
    """Write the files that a configuration asks for; the last line printed is their folder."""
    return exports.write(composed)


if __name__ == "__main__":
    commands.run(main, config.ExportConfig)
