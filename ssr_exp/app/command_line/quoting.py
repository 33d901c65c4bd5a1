"""A value as it must be typed: quoted for Hydra, and around that for the shell."""

from __future__ import annotations

import json
import os
import shlex
import unicodedata
from collections.abc import Mapping
from typing import Any

from hydra._internal.grammar.utils import escape_special_characters
from hydra.core.override_parser.types import Override, Quote, QuotedString


def quoted(key: str, text: str) -> str:
    """Write an argument that Hydra reads as a text, whatever it holds, for a POSIX shell.

    A home folder, `~`, is spelled out: shell and Hydra leave it alone here.
    """
    if text.startswith("~"):
        text = os.path.expanduser(text)
    return shlex.quote(f"{key}={spelled(text)}")


def spelled(value: Any) -> str:
    """Write plain data as Hydra reads it: texts in quotes, keys of dictionaries without."""
    if isinstance(value, str):
        literal = value.replace("${", "\\${")  # else OmegaConf would look it up
        return QuotedString(literal, Quote.double).with_quotes()
    if isinstance(value, Mapping):
        pairs = (f"{escape_special_characters(str(k))}: {spelled(v)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spelled, value))}]"
    return json.dumps(value)


def shown(text: str) -> str:
    """Write what a terminal would act on, a line break above all, as Python's `repr` does."""
    return "".join(c if _is_plain(c) else repr(c)[1:-1] for c in text)


def can_be_shown(text: str) -> bool:
    """Say whether a text can be copied from the screen."""
    return all(map(_is_plain, text))


def _is_plain(character: str) -> bool:
    joins = "\u200c\u200d"  # within letters and emoji
    is_space = unicodedata.category(character) == "Zs"
    return character.isprintable() or is_space or character in joins


def is_misread(override: Override) -> bool:
    """Say whether Hydra reads the name of a file or folder as something else.

    `2024_01` is a number to it, `true` a truth, `[a]` a list, and `a,b` two values.
    """
    raw, value = override.get_value_string(), override.value()
    if value is None:
        return False
    if isinstance(value, str) and value == raw:
        return "${" in raw and os.path.exists(raw)  # OmegaConf would look it up
    if isinstance(value, bool | list | dict):
        return True
    if isinstance(value, int | float):
        return str(value) != raw.strip()
    return os.path.exists(os.path.expanduser(raw))
