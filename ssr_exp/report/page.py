"""One HTML page of all trade-offs: it needs no network, and says what it knows of partial results.

Everything is inside the file: data as JSON, style and scripts. A content security policy allows
these very scripts and nothing else, so a name or an error text cannot run as one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any

from ssr_exp.report import page_data
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.store import Store

FILE = "report.html"
CHARTS = "echarts.common.min.js"  # Apache ECharts 6.1.0, Apache-2.0, as it is published
PARTS = "base theme study answer network chart take pins table surrogate about main".split()
SCRIPTS = tuple(f"{part}.js" for part in PARTS)
# Inside an element a browser looks for markup in JSON, and old ones for these two in strings.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write(
    store: Store,
    *,
    only: Sequence[str] = (),
    to: Path | None = None,
    fresh: Mapping[str, Predictions] = MappingProxyType({}),
) -> Path:
    """Write the page of a store's studies, whole or not at all, in place of the one before.

    Args:
        store: of the records.
        only: the names of the studies; none: all.
        to: the page; None: `report.html` in the store's folder.
        fresh: predictions of studies, where they are not those that the store has.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    path = to or store.root / FILE
    is_beside = os.path.realpath(path.parent) == os.path.realpath(store.root)
    shown = page_data.collect(store, only, fresh, is_beside=is_beside)
    store.write_text(path, render(shown))
    return path


def render(shown: Mapping[str, Any]) -> str:
    """Put what is shown, see `page_data.collect`, into one HTML document."""
    scripts = [_asset(CHARTS), '"use strict";\n' + "\n".join(_asset(name) for name in SCRIPTS)]
    policy = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return Template(_asset("page.html")).substitute(
        policy=f"default-src 'none'; script-src {policy}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        style=_asset("page.css"),
        data=_embedded(shown),
        charts=scripts[0],
        script=scripts[1],
    )


def _embedded(shown: Mapping[str, Any]) -> str:
    """Write JSON that cannot end the element that holds it."""
    text = json.dumps(shown, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, escaped in ESCAPES.items():
        text = text.replace(character, escaped)
    return text.encode("utf-8", "backslashreplace").decode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files("ssr_exp.report") / "assets" / name).read_text("utf-8")
