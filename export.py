"""Export a trained network: `python export.py paths.runs=DIR run=best format=onnx,executorch`."""

import hydra

from hydra_plugins.ssr_exp import _commands, exports
from ssr_exp import config

config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(composed: config.ExportConfig) -> str:
    """Write the files that a configuration asks for; the last line printed is their folder."""
    return exports.write(composed)


if __name__ == "__main__":
    _commands.run(main, config.ExportConfig)
