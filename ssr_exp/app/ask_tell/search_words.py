"""How the search of a study was typed, where a command began it: Python goes on with that."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssr_exp import messages
from ssr_exp.app import configuration
from ssr_exp.app.command_line import keys
from ssr_exp.config import SearchConfig
from ssr_exp.errors import cause, one_line
from ssr_exp.runs import study_names
from ssr_exp.training import loop_settings

log = logging.getLogger(__name__)

PRESETS = "experiment"  # of all parts
PARTS = (*loop_settings.SEARCH_PARTS, loop_settings.FINALISTS, "segment")
LATTICE = tuple(f"segment.{key}" for key in loop_settings.LATTICE)  # no other study by these
TRAINED = ("finalists.epochs", "finalists.arms")  # of those that a command trains itself


def read(root: Path, study: str, *, trust: bool) -> dict[str, Any]:
    """Read the settings of the search that was typed last, by their keys; without one, nothing.

    Words that could call code, or send results away, are taken only with `trust`.
    """
    asked = study_names.read(root / study).by("search")
    if asked is None:
        return {}
    mine = [word for word in asked.words if messages.part_of(word) in (*PARTS, PRESETS)]
    words = [word for word in mine if trust or not study_names.needs_trust(word)]
    title = study_names.title(root, study)
    if left := [word for word in mine if word not in words]:
        log.warning(
            "%s was searched with %s, which is taken with trust=True alone",
            title,
            one_line(shlex.join(left)),
        )
    try:
        found = _composed(words)
    except (HydraException, OmegaConfBaseException) as error:  # a preset of one's own, perhaps
        log.warning(
            "%s was searched with %s, which cannot be read here (%s): pass what of it is to "
            "count in options=",
            title,
            one_line(shlex.join(words)),
            one_line(cause(error)),
        )
        return {}
    if words:
        log.info("words of %s's last search: %s", title, one_line(shlex.join(words)))
    return found


def of_loop(root: Path, study: str, *, trust: bool) -> dict[str, Any]:
    """Read what a search by command has changed of a study that a loop began, by its keys."""
    found, usual = read(root, study, trust=trust), _composed(())
    asked = study_names.read(root / study).by("search")
    typed = {messages.key_of(word) for word in asked.words} if asked else set()
    changed = {k: v for k, v in found.items() if {k, messages.part_of(k)} & typed or v != usual[k]}
    parts = loop_settings.SEARCH_PARTS
    return {k: v for k, v in changed.items() if messages.part_of(k) in parts or k in LATTICE}


def _composed(words: Sequence[str]) -> dict[str, Any]:
    """Compose words as `ssr search` does; returns each value by its key."""
    configuration.register()
    Plugins.instance()  # registers the sweeper that the command's file names
    loader = ConfigLoaderImpl(create_config_search_path(str(keys.CONF)))
    composed = loader.load_configuration("search", list(words), run_mode=RunMode.RUN)
    single = {
        name: OmegaConf.select(composed, name)
        for name, kind in keys.keys_of_schema(SearchConfig).items()
        if name.partition(".")[0] in PARTS and name not in TRAINED
        if kind.is_one or kind.is_list or kind.is_dictionary or kind.type is Any
    }
    return {
        name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for name, value in single.items()
    }
