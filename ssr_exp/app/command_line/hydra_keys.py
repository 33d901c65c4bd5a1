"""Hydra's own keys, `hydra.job.name` and `hydra/launcher`, held against what there is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ssr_exp.app.command_line.keys import CONF, nearest
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
    if any(key.startswith(f"{name}.") for name in OPEN):
        return True
    if key.startswith((LAUNCHER, SWEEPER)):
        return False
    node = _schema()
    for part in key.split(".")[1:-1]:
        if not isinstance(node, DictConfig) or part not in list(node):  # `in` skips `???`
            return False
        kind, is_missing = OmegaConf.get_type(node, part), OmegaConf.is_missing(node, part)
        if kind is dict or (is_missing and kind is None):
            return True  # what is in it, at any depth, is anybody's
        node = None if is_missing else node[part]
    return False


@cache
def _schema() -> Any:
    return OmegaConf.structured(HydraConf)


@cache
def _keys() -> Sequence[str]:
    """List the keys that are always there, and those of all our launchers."""
    launchers = (key for p in PRESETS.glob("*.yaml") for key in _below(OmegaConf.load(p), LAUNCHER))
    return sorted({*_below(_schema(), "hydra"), *launchers})


def _groups() -> Sequence[str]:
    folders = (resources.files("hydra.conf") / "hydra").iterdir()
    names = ["launcher", "sweeper", *(folder.name for folder in folders if folder.is_dir())]
    return [f"hydra/{name}" for name in names]


def _below(node: Any, above: str) -> Iterator[str]:
    """List the keys of a configuration and of what is in it."""
    for key in node:
        path = f"{above}.{key}"
        yield path
        is_there = not (OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key))
        if is_there and isinstance(inner := node[key], DictConfig):
            yield from _below(inner, path)
