"""JSON files of ours: written with a checksum, and read as data only, whoever wrote them.

What others wrote may be cut short or of a newer version. A bit that a disk lost can leave JSON that
is whole and wrong, "90.2" for "91.2": the checksum tells. A file without one is taken as it is, so
those of earlier versions, and those written by hand, stay readable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)

CHECKSUM = "checksum"  # the first key of a file, so that its line can be removed


class Unreadable(ValueError):
    """A text that cannot be used; the message says why."""


def write(model: BaseModel, *, compact: bool = False) -> str:
    """Write a model as JSON that `parse` can tell from a damaged one.

    Args:
        model: what is written.
        compact: in one line; else indented, one key a line.
    """
    held = model.model_dump(mode="json")
    whole = {CHECKSUM: _checksum(held), **held}
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    return json.dumps(whole, **layout) + "\n"


def parse(text: str | bytes, model: type[Model], *, version: int) -> Model:
    """Read a model from JSON, strictly; nothing is instantiated but the model.

    Args:
        text: one JSON object.
        model: what it must hold, with a `schema_version`.
        version: the highest one that this reader knows.

    Raises:
        Unreadable: if the text is cut short, damaged, of a newer version, or lacks what the model
            needs.
    """
    found = fields(text)
    its = found.get("schema_version")
    if isinstance(its, int) and its > version:
        raise Unreadable(f"it is of version {its}, and this ssr_exp reads up to {version}")
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise Unreadable(f"{where}: {first['msg'].lower()}") from None


def fields(text: str | bytes) -> dict[str, Any]:
    """Read what a file of ours says, without its checksum, which is held against it.

    Raises:
        Unreadable: if the text is cut short, or was changed since it was written.
    """
    try:
        found: Any = json.loads(text)
        if not isinstance(found, dict):
            raise Unreadable("it holds no JSON object")
        whole = CHECKSUM not in found or found.pop(CHECKSUM) == _checksum(found)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no whole JSON file ({error})") from None
    if not whole:
        raise Unreadable(
            f"its {CHECKSUM} says that it was changed since it was written: if you edited it "
            f'yourself, remove the line "{CHECKSUM}" from it'
        )
    return found


def read_or_empty(path: Path) -> dict[str, Any]:
    """Read what a file of ours says; of one that is missing or damaged, nothing."""
    try:
        return fields(path.read_bytes())
    except (OSError, Unreadable):
        return {}


def _checksum(held: Mapping[str, Any]) -> str:
    """Hash what a file says, however it is laid out: numbers are written as they are read."""
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
