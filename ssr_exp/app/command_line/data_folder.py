"""A data set's folder that is not there: said before anything is imported that takes seconds."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString

from ssr_exp.app.command_line import quoting
from ssr_exp.errors import SsrError

KEY = "dataset.root"
INTERPOLATED = "${"  # read when the configuration is composed
OF_FILES = ("image_folder", "masks", "csv")  # others may be downloaded to a folder that is new
PLAIN = re.compile(r"[A-Za-z._/-][\w./-]*", re.ASCII)  # what Hydra and a shell read as it stands


def check(overrides: Sequence[Override]) -> None:
    """Refuse a folder of images that is not there; names the one beside it that may be meant.

    What is there and cannot be read, or holds no images, is told when it is read.

    Raises:
        SsrError: says what to type.
    """
    typed = {one.key_or_group: one for one in overrides}
    if "dataset" not in typed or typed["dataset"].value() not in OF_FILES or KEY not in typed:
        return
    for root in _texts(typed[KEY]):
        path = Path(root).expanduser()
        if root.strip() and not os.path.lexists(path):
            raise SsrError(f"{KEY}={root}: there is no folder {path}{_meant(path)}.")


def _texts(override: Override) -> Iterator[str]:
    value = override.value()
    for one in value.list if isinstance(value, ChoiceSweep) else [value]:
        text = one.text if isinstance(one, QuotedString) else one
        if isinstance(text, str) and INTERPOLATED not in text:
            yield text


def _meant(path: Path) -> str:
    """Name the folder beside a path whose name is most like its own, and what to type."""
    try:
        beside = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    except (OSError, ValueError):
        beside = []
    near = difflib.get_close_matches(path.name, filter(quoting.can_be_shown, beside), n=1)
    if not near:
        return f": type {KEY}=DIR, the folder of the images"
    meant = str(path.with_name(near[0]))
    word = f"{KEY}={meant}" if PLAIN.fullmatch(meant) else quoting.quoted(KEY, meant)
    return f", the nearest beside it is {near[0]}: type {word}"
