"""The record of a run: its row, the contract between training and everything after it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, computed_field, model_validator

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs.score import ACCURACY, Direction, Score

SCHEMA = 2  # raise when a reader of today could misread what is written

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
ROUND = re.compile(r"round(\d{1,6})")
FINALIST = "finalist"
NOT_TOLD = "not told"  # a device or a precision, by a loop of the user's own
ACCURACIES = {"val_acc": "score", "best_val_acc": "best_score", "test_acc": "test_score"}
LOSSES = {"val_loss": "val/loss", "test_loss": "test/loss"}
ORIGINS = ("sentinel", "uniform", "scbp", "random", "proposed")  # modifiers, up to a _


class Status(StrEnum):
    """How a run ended."""

    finished = "finished"
    failed = "failed"
    diverged = "diverged"


class Kind(StrEnum):
    """Why a network was trained, as far as pages and dashboards tell networks apart."""

    baseline = "baseline"
    sentinel = "sentinel"
    uniform = "uniform"
    scbp = "scbp"
    random = "random"
    proposed = "proposed"
    finalist = "finalist"
    other = "other"


class Fractions(FileModel):
    """The effective modifiers: for each of `S` segments the share of blocks and of channels."""

    depth: tuple[float, ...]
    width: tuple[float, ...]


class Record(FileModel):
    """One training of one rescaled network.

    `score` is what the task judges networks by, on val and of the last epoch's weights, and
    `score_key`, `direction`, `unit` and `bounds` say how (see `Score`); `scores` are those of each
    epoch, `best_score` the best of them, and `test_score` the same on test. `metrics` are what
    else was measured, by key; losses in nats; `tables` are those of val, such as `confusion`, with
    a row for each true class. MACs and GeMMs are of one image. `latency_ms` is what one image takes
    on `latency_device`; `latencies` are all that were measured, in ms, by runtime, batch and
    device. What was not measured, or has no value, is None. `origin` says why the network was
    trained: a kind of modifiers, `round<k>` of a search, or `finalist`.

    Classification writes `val_acc`, `best_val_acc` and `test_acc`, in percent, and `val_loss` and
    `test_loss` beside them, for scripts; so did schema 1, which had nothing else.
    """

    schema_version: int = SCHEMA
    study: str
    network: str
    model: str
    dataset: str
    modifiers: Fractions
    blocks: tuple[Count, ...]
    widths: tuple[Count, ...]
    seed: Count
    epochs: Count
    status: Status
    error: str | None = None
    score: float | None = None
    score_key: str = ACCURACY.key
    direction: Direction = ACCURACY.direction
    unit: str = ACCURACY.unit
    bounds: tuple[float | None, float | None] = ACCURACY.bounds
    best_score: float | None = None
    test_score: float | None = None
    scores: tuple[float | None, ...] = ()
    metrics: dict[str, float | None] = Field(default_factory=dict)
    tables: dict[str, tuple[tuple[float | None, ...], ...]] = Field(default_factory=dict)
    params: Count
    macs: Count
    gemms: Count
    baseline_params: Annotated[Count, Field(gt=0)]
    baseline_macs: Annotated[Count, Field(gt=0)]
    baseline_gemms: Annotated[Count, Field(gt=0)]
    latency_ms: float | None = Field(default=None, gt=0)
    latency_device: str | None = None
    latencies: dict[str, float] | None = None
    wall_s: float = Field(ge=0)
    device: str
    precision: str
    versions: dict[str, str]
    git_commit: str | None
    started_at: str
    origin: Annotated[str, Field(max_length=100)] | None = None

    @classmethod
    def upgraded(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Write fields of schema 1, whose score was an accuracy, as this schema does."""
        if "score" in fields or not (fields.get("schema_version") == 1 or "val_acc" in fields):
            return fields
        fields = dict(fields)
        renamed = {new: fields.pop(old) for old, new in ACCURACIES.items() if old in fields}
        losses = {
            key: fields.pop(old) for old, key in LOSSES.items() if fields.get(old) is not None
        }
        return fields | renamed | {"metrics": losses, "schema_version": SCHEMA}

    @model_validator(mode="after")
    def _is_within_bounds(self) -> Record:
        try:
            low, high = self.scored_by.limits
        except SsrError as error:
            raise ValueError(str(error)) from None
        for value in (self.score, self.best_score, self.test_score):
            if value is not None and not low <= value <= high:
                raise ValueError(f"a score of {value:g} is out of bounds")
        return self

    @property
    def scored_by(self) -> Score:
        """How its scores are to be read."""
        return Score(
            key=self.score_key, direction=self.direction, unit=self.unit, bounds=self.bounds
        )

    def value(self, key: str) -> float | None:
        """Look up what val measured by a key: the score, or a metric."""
        return self.score if key == self.score_key else self.metrics.get(key)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def val_acc(self) -> float | None:
        """The accuracy on val in percent, of a classification."""
        return self.score if self.score_key == ACCURACY.key else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def best_val_acc(self) -> float | None:
        """The highest epoch's accuracy on val in percent, of a classification."""
        return self.best_score if self.score_key == ACCURACY.key else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def test_acc(self) -> float | None:
        """The accuracy on test in percent, of a classification."""
        return self.test_score if self.score_key == ACCURACY.key else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def val_loss(self) -> float | None:
        """The loss on val, in nats."""
        return self.metrics.get("val/loss")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def test_loss(self) -> float | None:
        """The loss on test, in nats."""
        return self.metrics.get("test/loss")

    @property
    def kind(self) -> Kind:
        """Say why the network was trained.

        A finalist is one whatever its size; else a full network is the baseline, whoever asked.
        """
        origin = self.origin or ""
        if origin == FINALIST:
            return Kind.finalist
        if all(share == 1 for share in (*self.modifiers.depth, *self.modifiers.width)):
            return Kind.baseline
        if origin == "compound":
            return Kind.uniform
        if self.round is not None:
            return Kind.proposed
        first = origin.partition("_")[0]
        return Kind(first) if first in ORIGINS else Kind.other

    @property
    def is_whole(self) -> bool:
        """Whether it is of the seed network itself, or of one that costs the same."""
        return (self.params, self.macs) == (self.baseline_params, self.baseline_macs)

    @property
    def is_measured(self) -> bool:
        """Say whether it came to its end with a score on val."""
        return self.status is Status.finished and self.score is not None

    @property
    def round(self) -> int | None:
        """Name the search's round that proposed the network; None if none did."""
        match = ROUND.fullmatch(self.origin or "")
        return int(match[1]) if match else None

    def to_json(self) -> str:
        """Write as indented JSON, one key a line, with a checksum."""
        return files.to_json(self)


def n_tested(records: Iterable[Record]) -> int:
    """Count the networks that were tested, whatever for: the looks at test."""
    return len({record.network for record in records if record.test_score is not None})


def parse(text: str | bytes) -> Record:
    """Read a record from JSON, as data only.

    Raises:
        Unreadable: if it is cut short, damaged, of a future version, or lacks what it needs.
    """
    return files.parse(text, Record, version=SCHEMA)
