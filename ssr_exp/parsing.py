"""Read JSON that others may have written, cut short or made by a newer version: as data only."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class Unreadable(ValueError):
    """A text that cannot be used; the message says why."""


def parse(text: str | bytes, model: type[Model], *, version: int) -> Model:
    """Read a model from JSON, strictly; nothing is instantiated but the model.

    Args:
        text: one JSON object.
        model: what it must hold, with a `schema_version`.
        version: the highest one that this reader knows.

    Raises:
        Unreadable: if the text is cut short, of a newer version, or lacks what the model needs.
    """
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no whole JSON file ({error})") from None
    if not isinstance(fields, dict):
        raise Unreadable("it holds no JSON object")
    its = fields.get("schema_version")
    if isinstance(its, int) and its > version:
        raise Unreadable(f"it is of version {its}, and this ssr_exp reads up to {version}")
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise Unreadable(f"{where}: {first['msg'].lower()}") from None
