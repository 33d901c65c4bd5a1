"""What is typed for a key, and the study that it names: found before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ssr_exp import messages
from ssr_exp.app.command_line import overrides
from ssr_exp.runs import study_names

Typed = Mapping[str, Override]
"""The words of a command line by their keys."""


def read(arguments: Sequence[str], loader: ConfigLoader | None = None) -> Typed:
    """Read the words of a command line."""
    return {messages.key_of(str(o.input_line)): o for o in overrides.parse(arguments, loader)}


def value(typed: Typed, key: str) -> str | None:
    """Read a single value; None where several are swept over, or none is typed.

    The fingerprint 70e94321 is a number to Hydra, and is one of ours as it is typed.
    """
    override = typed.get(key)
    if override is None or override.is_sweep_override() or override.value() is None:
        return None
    value = override.value()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return override.get_value_string() if is_number else str(value)


def study(typed: Typed, composed: Any) -> Path | None:
    """Find the folder of the study that `study=` names; None: none is typed.

    Args:
        typed: the words.
        composed: the configuration, which says where studies lie if no word does.

    Raises:
        SsrError: if there is no such study.
    """
    if (named := value(typed, "study")) is None:
        return None
    place = value(typed, "paths.runs")
    if place is None or "${" in place:  # which is resolved there
        place = str(OmegaConf.select(composed, "paths.runs"))
    root = Path(place)
    return root / study_names.find(root, named)
