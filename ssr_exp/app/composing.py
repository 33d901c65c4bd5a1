"""Compose the configurations of a command's networks: presets once, and values for each.

Hydra reads every preset again for each network, and twice: where it is planned what is trained, and
where a launcher begins it. That was half of what a small network took.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

# Of Hydra's own values, those that it reads, or writes over, when all is composed.
HYDRA_KEYS = ("hydra.searchpath", "hydra.job", "hydra.runtime", "hydra.overrides")


class CachingConfigLoader(ConfigLoaderImpl):
    """Hydra's loader, which composes the presets of a command line once for all of its jobs."""

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader.get_search_path())
        self._cache: dict[tuple[str, ...], DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Travel to a launcher's process, which composes one job, without what was composed."""
        return self.__dict__ | {"_cache": {}}

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """Compose the configuration of one job: the same that Hydra composes."""
        words = OverridesParser.create().parse_overrides(list(sweep_overrides))
        self.validate_sweep_overrides_legal(words, RunMode.RUN, from_shell=True)
        values = [word for word in words if _is_value(word, master_config)]
        chosen = [str(word.input_line) for word in words if word not in values]
        presets = (*master_config.hydra.overrides.hydra, *chosen)
        if presets not in self._cache:
            self._cache[presets] = super().load_sweep_config(master_config, chosen)
        composed = copy.deepcopy(self._cache[presets])
        self._apply_overrides_to_config(values, composed)
        _write_overrides(words, composed, len(master_config.hydra.overrides.hydra))
        OmegaConf.copy_cache(from_config=master_config, to_config=composed)  # what is now stays
        return composed


def _is_value(word: Override, config: DictConfig) -> bool:
    """Say whether a word sets a value, and chooses no preset."""
    key = word.key_or_group
    if word.package is not None or "/" in key or key.startswith(HYDRA_KEYS):
        return False
    group, _, rest = key.partition(".")
    if isinstance(word.value(), dict) or (rest and group in config):
        return True
    return not rest and key in config and not OmegaConf.is_config(config._get_node(key))


def _write_overrides(words: Sequence[Override], composed: DictConfig, inherited: int) -> None:
    """Write the words of a job into its configuration, after those that are the command's."""
    kept, job = composed.hydra.overrides, composed.hydra.job
    task_words = [word for word in words if not word.is_hydra_override()]
    kept.task = [word.input_line for word in task_words]
    kept.hydra = [
        *kept.hydra[:inherited],
        *(word.input_line for word in words if word.is_hydra_override()),
    ]
    how = job.config.override_dirname
    job.override_dirname = get_overrides_dirname(
        task_words, exclude_keys=how.exclude_keys, item_sep=how.item_sep, kv_sep=how.kv_sep
    )
