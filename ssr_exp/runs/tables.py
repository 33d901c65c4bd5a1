"""A table of results that were made elsewhere: one row for each training."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Count, Status

CODE = r"(^|_)(d\d+(-\d+)*_)?w\d+[a-z]*(-\d+[a-z]*)*$"
REQUIRED = ("network", "val_acc")
NEEDED = " and ".join(REQUIRED)
CHOOSE = "type runs.file=FILE, with a .csv or a .jsonl file"
EXAMPLE = '{"network": "d9-1-9_w16-8-32", "val_acc": 93.5}'


class TableRow(BaseModel):
    """One training; accuracies in percent, losses in nats. What is not known is None.

    `score` and `test_score` are those of any task, and `score_key` is what they are called; of a
    classification `val_acc` and `test_acc` may be given instead.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, allow_inf_nan=False, str_strip_whitespace=True
    )

    network: str = Field(pattern=CODE, description="a code such as d9-1-9_w16-8-32")
    val_acc: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="percent, from 0 to 100; only a failed or diverged run may have none",
    )
    score: float | None = Field(default=None, description="a number in the score's unit")
    test_score: float | None = Field(default=None, description="a number in the score's unit")
    score_key: str | None = Field(default=None, description="a score's name, or empty")
    study: str | None = Field(default=None, description="a study's name, or empty")
    seed: Count = Field(default=0, description="a whole number, 0 or more, or empty")
    epochs: Count | None = Field(default=None, description="a whole number, 0 or more, or empty")
    status: Status = Field(
        default=Status.finished, strict=False, description="finished, failed, diverged, or empty"
    )
    val_loss: float | None = Field(default=None, description="a number, or empty")
    test_acc: float | None = Field(
        default=None, ge=0, le=100, description="percent, from 0 to 100, or empty"
    )
    latency_ms: float | None = Field(default=None, gt=0, description="a number above 0, or empty")
    latency_device: str | None = Field(default=None, description="a device's name, or empty")
    wall_s: float | None = Field(default=None, ge=0, description="a number, 0 or more, or empty")

    @model_validator(mode="after")
    def _has_accuracy(self) -> TableRow:
        if self.status is Status.finished and self.value is None:
            raise ValueError("a finished run has a score")
        return self

    @property
    def value(self) -> float | None:
        """The score, whatever it is called."""
        return self.val_acc if self.score is None else self.score

    @property
    def test_value(self) -> float | None:
        """The score on test, whatever it is called."""
        return self.test_acc if self.test_score is None else self.test_score


def read(path: Path) -> list[TableRow]:
    """Read a table: `.csv` with a line of column names, or `.jsonl` with an object on each line.

    `network` and `val_acc` or `score` are required. Columns that a row does not have are ignored,
    so a `record.json` on one line is a row, too. Runs that did not finish are there, as such.

    Raises:
        SsrError: if it is no such file, or one of its rows is broken.
    """
    kinds = {
        ".csv": (_cells, TableRow.model_validate_strings),
        ".jsonl": (_objects, TableRow.model_validate),
    }
    if path.suffix.lower() not in kinds:
        raise SsrError(f"{path} is no table: {CHOOSE}.")
    split, validate = kinds[path.suffix.lower()]
    lines = split(path, _text(path))
    rows = [_row(f"{path} line {line}", fields, validate) for line, fields in lines]
    if not rows:
        raise SsrError(f"{path} holds no rows: one for each run is needed, with {NEEDED}.")
    for name in ("val_acc", "test_acc"):
        accuracies = [value for row in rows if (value := getattr(row, name)) is not None]
        if len(accuracies) > 1 and 0 < max(accuracies) <= 1:
            raise SsrError(
                f"{path}: no {name} is above 1, but accuracies are percent, from 0 to 100: "
                "multiply them by 100."
            )
    return rows


def _text(path: Path) -> str:
    """Read a file of text, with or without a byte-order mark."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SsrError(f"cannot read {path}: {why}; {CHOOSE}.") from error
    if "\0" in text:
        raise SsrError(f"{path} is not text in UTF-8: save the table as such.")
    return text


def _cells(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Split CSV into rows, each with the number of its line; empty ones are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                pass
            elif not names:
                names = _names(f"{path} line {line}", cells)
            elif len(cells) != len(names):
                raise SsrError(
                    f"{path} line {line}: {len(cells)} cells for {len(names)} columns; each row "
                    'must have a cell for each, and text with a comma in it stand in "quotes".'
                )
            else:
                stripped = (cell.strip() or None for cell in cells)
                yield line, dict(zip(names, stripped, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise SsrError(f"{path} line {line} is not CSV ({error}): mend it.") from None


def _names(place: str, cells: list[str]) -> list[str]:
    """Check a table's line of column names."""
    names = [cell.strip() for cell in cells]
    for name in REQUIRED:
        if name not in names and not (name == "val_acc" and "score" in names):
            raise SsrError(
                f"{place}: no column is named {name}; {NEEDED} are needed, separated by commas, "
                f"and these are there: {', '.join(names)[:200]}."
            )
    for name in TableRow.model_fields:
        if names.count(name) > 1:
            raise SsrError(f"{place}: {names.count(name)} columns are named {name}: leave one.")
    return names


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Split JSON lines into rows, each with the number of its line; empty ones are left out."""
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            fields = json.loads(content, parse_float=_number)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise SsrError(f"{path} line {line} is no JSON object: it must be like {EXAMPLE}.")
        yield line, fields


def _number(text: str) -> float:
    """Read 8.0 as 8: tools that know of missing values write whole numbers so."""
    return int(text[:-2]) if text.endswith(".0") else float(text)


def _row(place: str, fields: dict[str, Any], validate: Callable[[Any], TableRow]) -> TableRow:
    """Read a row, as data only."""
    given = {name: fields[name] for name in TableRow.model_fields if fields.get(name) is not None}
    try:
        return validate(given)
    except ValidationError as error:
        where = error.errors()[0]["loc"]
        name = str(where[0]) if where else "val_acc"
        said = f"is {given[name]!r:.60}" if name in given else "is missing"
        allowed = TableRow.model_fields[name].description
        raise SsrError(
            f"{place}: {name} {said}; it must be {allowed}. Mend the line or leave it out."
        ) from None
