"""Export a trained network: `python export.py paths.runs=DIR run=best format=onnx,executorch`."""

import hydra
from omegaconf import DictConfig

from ssr_exp.app import configuration
from ssr_exp.app.command_line import commands

configuration.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(composed: DictConfig) -> str:
    """Write the files that a configuration asks for; the last line printed is their folder."""
    from ssr_exp.app import exports  # which takes seconds, and --help none

    return exports.write(composed)


if __name__ == "__main__":
    commands.run(main, "export")
