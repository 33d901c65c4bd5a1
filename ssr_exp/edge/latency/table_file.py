"""A table of measured latencies: one JSON file that can be made on the device and read anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field
from torch import nn

from ssr_exp import files
from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel, unwritten
from ssr_exp.rescaling import codes, saved
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs import store

SCHEMA = 1  # raise when a reader of today could misread what is written

Ms = Annotated[float, Field(gt=0)]


class Setting(FileModel):
    """What latencies are of; only those of one setting can be compared."""

    runtime: str  # its name
    version: str  # of it
    device: str  # the processor
    threads: Annotated[int, Field(ge=1)] = 1  # of a CPU
    batch: Annotated[int, Field(ge=1)] = 1  # images at once

    @property
    def slug(self) -> str:
        """A name for a file: of the runtime, the batch, the threads, and a hash of the rest."""
        rest = hashlib.sha256(json.dumps([self.version, self.device]).encode()).hexdigest()[:8]
        return f"{self.runtime}-b{self.batch}-t{self.threads}-{rest}"

    def __str__(self) -> str:
        """Say it in words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.runtime} ({self.version}), batch {self.batch}, {self.device}, {threads}"


class LatencyRow(FileModel):
    """One network's latency in ms: the median, and what a quarter and three quarters lie below.

    `fits` says whether a model may learn from it; the others check it.
    """

    network: Annotated[str, Field(max_length=codes.LONGEST)]
    ms: Ms
    low: Ms
    high: Ms
    fits: bool = True


class SeedNetwork(FileModel):
    """What is rescaled."""

    model: saved.Model  # the seed network
    segment: saved.Segmentation  # how it was split
    input_shape: saved.InputShape  # of one input: channels, height and width of an image, in pixels
    num_classes: Annotated[int, Field(ge=1)] | None  # how many logits there are, if it is known
    # what it is called with, if it is no batch of `input_shape`
    inputs: Signature | None = unwritten(None)

    @classmethod
    def from_plan(
        cls,
        model: ModelConf,
        split: SegmentConf,
        plan: Plan,
        num_classes: int | None,
        network: nn.Module | None = None,
    ) -> SeedNetwork:
        """Say what a plan is of; which of its segments are frozen changes no code's meaning.

        Args:
            model: the seed network's configuration.
            split: how it was split.
            plan: its plan.
            num_classes: how many logits there are; None: a user's own module decides.
            network: the seed network itself: of the user's own, its code is fingerprinted.
        """
        segment = saved.Segmentation.from_conf(split, plan.multiple)
        return cls(
            model=saved.Model.from_conf(model, plan.input_shape, network),
            segment=segment.model_copy(update={"frozen": ()}),
            input_shape=plan.input_shape,
            num_classes=num_classes,
            inputs=plan.inputs.stored,
        )

    def differs(self, other: SeedNetwork) -> str | None:
        """Say in what another seed differs from this one; None if it is the same."""
        for field in type(self).model_fields:
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"its {field} is {_spell(theirs)}, and here it is {_spell(mine)}"
        return None


class Timings(FileModel):
    """The latencies of a seed network's lattice in one setting."""

    schema_version: int = SCHEMA  # of this file
    seed: SeedNetwork  # what is rescaled
    setting: Setting  # what ran it
    repeats: Annotated[int, Field(ge=1)]  # measured turns of each network
    rows: tuple[LatencyRow, ...]  # of distinct networks


def read(path: Path) -> Timings:
    """Read a table.

    Raises:
        SsrError: if it is missing or damaged.
    """
    try:
        return files.read(path, Timings, version=SCHEMA)
    except FileNotFoundError:
        raise SsrError(
            f"there is no {path}: ssr latency STUDY --fit --out {path} writes it."
        ) from None
    except files.Unreadable as error:
        raise SsrError(f"{path} cannot be used: {error}; measure again.") from None


def write(path: Path, timings: Timings, *, option: str = "paths.runs=DIR") -> None:
    """Write a table, whole or not at all.

    Args:
        path: of the file.
        timings: the table.
        option: what chooses another place, for the sentence that says that this cannot be written.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    store.Store(path.parent, option).write_text(path, files.to_json(timings))


def _spell(value: BaseModel | Sequence[int] | int) -> str:
    return value.model_dump_json() if isinstance(value, BaseModel) else str(value)
