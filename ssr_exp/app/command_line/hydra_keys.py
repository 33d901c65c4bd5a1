"""Hydra's own keys, `hydra.job.name` and `hydra/launcher`, held against what there is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ssr_exp.app.command_line.keys import CONF, ValueKind, keys_of_schema, nearest
from ssr_exp.errors import SsrError

PRESETS = CONF / "hydra/launcher"
LAUNCHER, SWEEPER = "hydra.launcher", "hydra.sweeper"
# Dictionaries that take any key: what Ray and sbatch know is not ours to know.
OPEN = (f"{LAUNCHER}.ray.init", f"{LAUNCHER}.ray.remote", f"{LAUNCHER}.additional_parameters")


def hydra_word(override: Override, chosen: Mapping[str, Any]) -> str:
    """Return a word as Hydra takes it: a key that is to be added has its `+`.

    Args:
        override: of a key of Hydra's.
        chosen: the command's values by key: launcher and sweeper decide what keys there are.

    Raises:
        SsrError: if there is no such key; names the nearest one.
    """
    key, word = override.key_or_group, str(override.input_line)
    if override.is_delete() or _is_anothers(key, chosen):
        return word
    if _is_open(key):
        return f"++{word.lstrip('+')}"
    if key not in (names := _groups() if "/" in key else _keys()):
        near, value = nearest(key, names), word.partition("=")[2] or "VALUE"
        raise SsrError(
            f"{word}: there is no key {key}, the nearest is {near}: type "
            f"{shlex.quote(f'{near}={value}')}."
        )
    return word.lstrip("+")


def _is_anothers(key: str, chosen: Mapping[str, Any]) -> bool:
    """Say whether a key is of a launcher or sweeper that is not one of ours."""
    launcher = chosen.get("hydra/launcher")
    if key.startswith(f"{LAUNCHER}.") and launcher is not None:
        return not (PRESETS / f"{launcher}.yaml").exists()
    return key.startswith(f"{SWEEPER}.") and "hydra/sweeper" in chosen


def _is_open(key: str) -> bool:
    """Say whether a key is in something that is anybody's, at any depth."""
    if key.startswith((LAUNCHER, SWEEPER)):
        return any(key.startswith(f"{name}.") for name in OPEN)
    return any(
        (kind.is_dictionary or kind.type is Any) and key.startswith(f"{name}.")
        for name, kind in _keys().items()
    )


@cache
def _keys() -> dict[str, ValueKind]:
    """List the keys that are always there, and those of all our launchers."""
    keys = {f"hydra.{key}": kind for key, kind in keys_of_schema(HydraConf).items()}
    for path in PRESETS.glob("*.yaml"):
        node = OmegaConf.to_container(OmegaConf.load(path))
        keys |= dict.fromkeys(_below(node, LAUNCHER), ValueKind(str, True))
    return keys


def _groups() -> list[str]:
    folders = (resources.files("hydra.conf") / "hydra").iterdir()
    names = ["launcher", "sweeper", *(folder.name for folder in folders if folder.is_dir())]
    return [f"hydra/{name}" for name in names]


def _below(node: Any, above: str) -> Iterator[str]:
    """List the keys of a configuration and of what is in it."""
    for key, value in node.items():
        yield f"{above}.{key}"
        if isinstance(value, dict):
            yield from _below(value, f"{above}.{key}")
