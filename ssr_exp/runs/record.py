"""The record of a run: its row, the contract between training and everything after it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ssr_exp import files

SCHEMA = 1  # raise when a reader of today could misread what is written

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
ROUND = re.compile(r"round(\d{1,6})")
FINALIST = "finalist"
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


class Fractions(BaseModel):
    """The effective modifiers: for each of `S` segments the share of blocks and of channels."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    depth: tuple[float, ...]
    width: tuple[float, ...]


class Record(BaseModel):
    """One training of one rescaled network.

    Accuracies are in percent, losses in nats, MACs and GeMMs for one image. Metrics are those of
    the last epoch's weights; `best_val_acc` is the highest epoch's. `latency_ms` is what one image
    takes on `latency_device`; `latencies` are all that were measured, in ms, by runtime, batch and
    device. What was not measured is None. `origin` says why the network was trained: a kind of
    modifiers, `round<k>` of a search, or `finalist`.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

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
    val_acc: float | None = Field(default=None, ge=0, le=100)
    val_loss: float | None = None
    best_val_acc: float | None = Field(default=None, ge=0, le=100)
    test_acc: float | None = Field(default=None, ge=0, le=100)
    test_loss: float | None = None
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
    def is_measured(self) -> bool:
        """Say whether it came to its end with an accuracy on val."""
        return self.status is Status.finished and self.val_acc is not None

    @property
    def round(self) -> int | None:
        """Name the search's round that proposed the network; None if none did."""
        match = ROUND.fullmatch(self.origin or "")
        return int(match[1]) if match else None

    def to_json(self) -> str:
        """Write as indented JSON, one key a line, with a checksum."""
        return files.to_json(self)


def parse(text: str | bytes) -> Record:
    """Read a record from JSON, as data only.

    Raises:
        Unreadable: if it is cut short, damaged, of a future version, or lacks what it needs.
    """
    return files.parse(text, Record, version=SCHEMA)
