"""Hydra's own keys, `hydra.job.name` and `hydra/launcher`, held against what there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ssr_exp.app.command_line.nearest import nearest
from ssr_exp.app.command_line.quoting import shell
from ssr_exp.errors import SsrError

LAUNCHER, SWEEPER = "hydra.launcher", "hydra.sweeper"
# Dictionaries that take any key: what Ray and sbatch know is not ours to know.
OPEN = (f"{LAUNCHER}.ray.init", f"{LAUNCHER}.ray.remote", f"{LAUNCHER}.additional_parameters")


class HydraKeys:
    """What may be said to Hydra itself by one command.

    Args:
        overrides: of the command: launcher and sweeper decide what keys there are.
        presets: the folder of our launchers.
    """

    def __init__(self, overrides: Sequence[Override], presets: Path) -> None:
        self._presets = presets
        self._chosen = {o.key_or_group: o.value() for o in overrides}

    def word(self, override: Override) -> str:
        """Return a word as Hydra takes it: a key that is to be added has its `+`.

        Raises:
            SsrError: if there is no such key; names the nearest one.
        """
        key, word = override.key_or_group, str(override.input_line)
        if override.is_delete() or self._is_anothers(key):
            return word
        if "/" in key:
            self._check(key, word, self._groups())
            return word.lstrip("+")
        if self._is_open(key):
            return f"++{word.lstrip('+')}"
        self._check(key, word, self._keys)
        return word.lstrip("+")

    def _check(self, key: str, word: str, known: Sequence[str]) -> None:
        if key not in known:
            near, value = nearest(key, known), word.partition("=")[2] or "VALUE"
            raise SsrError(
                f"{word}: there is no key {key}, the nearest is {near}: type "
                f"{shell(f'{near}={value}')}."
            )

    def _is_anothers(self, key: str) -> bool:
        """Say whether a key is of a launcher or sweeper that is not one of ours."""
        launcher = self._chosen.get("hydra/launcher")
        if key.startswith(f"{LAUNCHER}.") and launcher is not None:
            return not (self._presets / f"{launcher}.yaml").exists()
        return key.startswith(f"{SWEEPER}.") and "hydra/sweeper" in self._chosen

    def _is_open(self, key: str) -> bool:
        if any(key.startswith(f"{name}.") for name in OPEN):
            return True
        if key.startswith((LAUNCHER, SWEEPER)):
            return False
        node: Any = OmegaConf.structured(HydraConf)
        for part in key.split(".")[1:-1]:
            if not isinstance(node, DictConfig) or part not in list(node):  # `in` skips `???`
                return False
            kind, is_missing = OmegaConf.get_type(node, part), OmegaConf.is_missing(node, part)
            if kind is dict or (is_missing and kind is None):
                return True  # what is in it, at any depth, is anybody's
            node = None if is_missing else node[part]
        return False

    @cached_property
    def _keys(self) -> list[str]:
        """List the keys that are always there, and those of all our launchers."""
        found = list(_paths(OmegaConf.structured(HydraConf), "hydra"))
        for path in self._presets.glob("*.yaml"):
            found += _paths(OmegaConf.load(path), LAUNCHER)
        return sorted(set(found))

    def _groups(self) -> list[str]:
        own = [f"hydra/{name}" for name in ("launcher", "sweeper")]
        there = (resources.files("hydra.conf") / "hydra").iterdir()
        return own + [f"hydra/{folder.name}" for folder in there if folder.is_dir()]


def _paths(node: Any, above: str) -> Iterator[str]:
    """List the keys of a configuration and of what is in it."""
    for key in node:
        path = f"{above}.{key}"
        yield path
        is_there = not (OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key))
        if is_there and isinstance(inner := node[key], DictConfig):
            yield from _paths(inner, path)
