"""Text for Markdown and its head: names stay names, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence

INERT = str.maketrans({"|": "\\|", "`": "'", "<": "&lt;", "[": "&#91;"})


def inert(value: object) -> str:
    """Keep a name from being read as Markdown or HTML, or from being shown as another one."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text.translate(INERT)


def quoted(text: str) -> str:
    """Quote a string for YAML, of which JSON is a part."""
    return json.dumps(text)


def numbers(values: Sequence[float]) -> str:
    """Write numbers as a list."""
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"
