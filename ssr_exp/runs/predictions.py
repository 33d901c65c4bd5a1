"""What a surrogate predicted last, and how far it is to be believed: what pages show of it.

A search writes it after each look at the records, beside its plans; nothing is decided by it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from ssr_exp import files
from ssr_exp.files import FileModel
from ssr_exp.runs import last_comparison
from ssr_exp.runs.record import Count, Kind, Record, Status
from ssr_exp.runs.score import ACCURACY, VAL_LOSS, Score
from ssr_exp.runs.store import BEST_FOLDER, Store

log = logging.getLogger(__name__)

SCHEMA = 2  # raise when a reader of today could misread what is written
FILE = "predictions.json"
FOLDER = "search"  # in a study's folder
FEWEST = 4  # distinct networks that a surrogate can be fitted to
AXES = ("params", "macs", "gemms")  # exact costs
DIGITS = 4  # after the point, of percent
WITHIN_80 = 1.2816  # standard deviations on each side of a mean
OUTCOMES = {"val_acc": ACCURACY, "val_loss": VAL_LOSS}  # of schema 1
LONGEST_CODE = 20_000  # characters, as in `rescaling.codes`, of which runs know nothing

Code = Annotated[str, Field(min_length=1, max_length=LONGEST_CODE)]


class Expected(FileModel):
    """A network of a round, with the 80 % interval that its outcome was expected in."""

    network: Code
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    promise: float | None = None


class Batch(FileModel):
    """A round's networks; round 0 holds the first ones."""

    number: Count
    planned: tuple[Expected, ...]


class LeftOut(FileModel):
    """A training, predicted from all others; `z` is its distance in standard deviations."""

    network: Code
    seed: Count
    measured: float
    predicted: float
    low: float
    high: float
    z: float


class Sensitivity(FileModel):
    """The predicted change of the outcome from one modifier's lowest to full."""

    segment: str
    kind: str
    effect: float


class Promised(FileModel):
    """What a trained network is expected to lose on test, in the score's unit; `sigma` of that."""

    network: Code
    drop: float
    sigma: float


class Evaluation(FileModel):
    """What the noise of a drop on test is of, beside the surrogate's.

    Attributes:
        val: how many images networks are compared by; None: nothing is known of their error.
        test: how many finalists are tested on; 0: not known, or none.
        seeds: trainings of a network that its drop is averaged over.
    """

    val: Count | None
    test: Count
    seeds: Annotated[int, Field(ge=1)]


class Look(FileModel):
    """One look at the records, after a round.

    Errors are of trainings that were left out; `rmse`, `spread` and `noise` have the outcome's
    unit. `hypervolume` is that of the trained networks, higher is better: the area between their
    front and a tenth of the score's range below the baseline, over the natural logarithm of the
    cost, up to the baseline's: the score's unit times the logarithm.
    """

    round: Count
    runs: Count
    rmse: float
    spread: float
    spearman: float | None
    coverage: tuple[float, ...]
    noise: float
    hypervolume: float
    warnings: tuple[str, ...] = ()


class Sample(FileModel):
    """Points of the lattice, one entry of each column for each: its front, and a sample.

    `size` is the number of all points; `low` and `high` bound the 80 % interval that a training's
    outcome is expected in; `latency_ms` is there where a device's latency is known. `drop` and
    `drop_sigma` are what a `Promised` says of trained networks, but for the baseline, whose drop is
    certain only there; None where a loss is predicted, or of an earlier version.
    """

    size: Annotated[int, Field(ge=0)]
    network: tuple[Code, ...]
    params: tuple[Count, ...]
    macs: tuple[Count, ...]
    gemms: tuple[Count, ...]
    latency_ms: tuple[float, ...] | None
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    drop: tuple[float, ...] | None = None
    drop_sigma: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _has_equal_columns(self) -> Sample:
        columns = [getattr(self, name) for name in type(self).model_fields if name != "size"]
        if len({len(column) for column in columns if column is not None}) > 1:
            raise ValueError("its columns are of different lengths")
        return self


class Predictions(FileModel):
    """What is believed of a study's networks.

    Attributes:
        study: whose.
        search: the folder of the search; empty if no search is behind it.
        outcome: what is predicted: the score, or a loss.
        score: what the networks are judged by.
        levels: the intervals that `Look.coverage` is of.
        created_at: date and time, ISO 8601.
        looks: at the records, in order; the last one is what the rest is of.
        rounds: of the search.
        left_out: the trainings.
        sensitivities: of each segment's depth and width.
        lattice: some of its points.
        latency: the device and runtime that latencies are of.
        latencies: of trained networks there, in ms, by code: measured if they were, else predicted.
        timed: the networks, trained or not, whose latency was measured there; None: of an earlier
            version.
        max_drop: what the search's answer may lose of the score, in its unit.
        seen: finished records that were there; the surrogate may have learned from fewer.
        cost: that the search trades for the score: one of `AXES`, or `latency_ms`.
        caps: on costs, and on the drop, in absolute numbers, by their keys.
        confidence: with which the answer is to keep within `max_drop`; None: nobody says.
        promises: of the trained networks.
        evaluation: what they count; None: of an earlier version.
        val_warnings: what speaks against comparing networks by their val images.
    """

    schema_version: int = SCHEMA
    study: str
    search: str
    outcome: Score
    score: Score
    levels: tuple[float, ...]
    created_at: str
    looks: tuple[Look, ...] = Field(min_length=1)
    rounds: tuple[Batch, ...]
    left_out: tuple[LeftOut, ...]
    sensitivities: tuple[Sensitivity, ...]
    lattice: Sample
    latency: str | None
    max_drop: float
    seen: Count
    cost: str = AXES[0]
    caps: dict[str, float] = Field(default_factory=dict)
    confidence: float | None = None
    promises: tuple[Promised, ...] = ()
    evaluation: Evaluation | None = None
    val_warnings: tuple[str, ...] = ()
    latencies: dict[Code, float] = Field(default_factory=dict)
    timed: tuple[Code, ...] | None = None

    @classmethod
    def upgraded(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Write fields of schema 1, which knew of accuracy alone, as this schema does."""
        if fields.get("schema_version") != 1 or fields.get("outcome") not in OUTCOMES:
            return fields
        outcome = OUTCOMES[fields["outcome"]].model_dump(mode="json")
        score = ACCURACY.model_dump(mode="json")
        return fields | {"outcome": outcome, "score": score, "schema_version": SCHEMA}


def write(store: Store, folder: Path, predictions: Predictions) -> Predictions:
    """Write predictions, whole or not at all, in place of those before; keeps earlier looks.

    Returns what was written.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    path = folder / FILE
    before = _read(path) if path.exists() else None
    if before is not None and before.study == predictions.study:
        now = predictions.looks[0].round
        earlier = tuple(look for look in before.looks if look.round < now)
        predictions = predictions.model_copy(update={"looks": (*earlier, *predictions.looks)})
    store.write_text(path, files.to_json(predictions, compact=True))
    return predictions


def read(folder: Path) -> Predictions | None:
    """Read what a search wrote last beside its plans; None, with a warning, if it cannot be."""
    return _read(folder / FILE)


def latest(store: Store, study: str) -> Predictions | None:
    """Read a study's predictions: those from most trainings, of a search with rounds, the newest.

    If the study's answer is of another search that knows as many trainings, as where it is asked
    for again with another drop, they are of that search, and rounds and looks of the first one.
    What cannot be read is skipped with a warning.
    """
    folder = store.study_folder(study) / FOLDER
    stored = [_read(path) for path in sorted([*folder.glob(FILE), *folder.glob(f"*/{FILE}")])]
    mine = [one for one in stored if one is not None and one.study == study]
    if not mine:
        return None
    found = max(mine, key=lambda one: (one.seen, bool(one.rounds), one.created_at))
    told = last_comparison.read(store.study_folder(study) / BEST_FOLDER)
    if told is None or told.promise is None or math.isclose(found.max_drop, told.promise.allowed):
        return found
    # The nearest: a share of the baseline's score moves where finalists scored on val, too.
    allowed, as_recent = told.promise.allowed, [one for one in mine if one.seen == found.seen]
    least = min(abs(one.max_drop - allowed) for one in as_recent)
    nearest = [one for one in as_recent if math.isclose(abs(one.max_drop - allowed), least)]
    if found in nearest:
        return found
    answered = max(nearest, key=lambda one: (bool(one.rounds), one.created_at))
    return answered if answered.rounds else continued(answered, found)


def continued(predictions: Predictions, before: Predictions) -> Predictions:
    """Keep the rounds of a search before, and its earlier looks."""
    now = predictions.looks[-1].model_copy(update={"round": before.looks[-1].round})
    update = {"rounds": before.rounds, "looks": (*before.looks[:-1], now)}
    return predictions.model_copy(update=update)


def are_due(records: Sequence[Record], before: Predictions | None) -> bool:
    """Say whether runs of a study were finished that its last predictions did not learn from."""
    measured = [record for record in records if record.is_measured]
    if len({record.network for record in measured}) < FEWEST or not has_baseline(measured):
        return False
    return before is None or before.seen < len(measured)


def has_baseline(records: Sequence[Record]) -> bool:
    """Say whether the seed network was trained, without which nothing is predicted."""
    return any(r.kind is Kind.baseline and r.status is Status.finished for r in records)


def _read(path: Path) -> Predictions | None:
    """Read predictions, as data only."""
    try:
        return files.read(path, Predictions, version=SCHEMA)
    except (FileNotFoundError, files.Unreadable) as error:
        log.warning("skipped %s: %s", path, error)
        return None
