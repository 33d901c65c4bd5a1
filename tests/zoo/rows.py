"""What was found out about each network: rows, kept as one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Row:  # one network; shares are of its parameters, where nothing else is said
    name: str  # `torchvision/NAME` or `timm/NAME`
    pixels: int = 0  # height and width of its images
    params: int = 0
    blocks: list[int] = field(default_factory=list)  # of each segment
    removable: int = 0  # blocks
    points: int = 0  # of its lattice
    smallest: float = 1.0  # share that the smallest network keeps
    fixed: float = 0.0  # share of the output channels, of all weights but the last, in no group
    frozen: dict[str, int] = field(default_factory=dict)  # reason: channels at full size
    idle: list[str] = field(default_factory=list)  # parameters that get no gradient in the seed
    joint: list[list[int]] = field(default_factory=list)  # blocks and widths that were exported
    device: str = ""  # where that network ran: `cpu`, or `meta`, without data
    plan_s: float = 0.0
    export_s: float = 0.0
    wall_s: float = 0.0  # that all of it took
    problems: list[str] = field(default_factory=list)
    commit: str = ""  # of this code


@dataclass
class Split:  # a network that is split into segments of one kind
    blocks: list[int] = field(default_factory=list)
    removable: int = 0
    smallest: float = 1.0
    changeable: float = 0.0  # share that goes with a block, or whose shape can change
    changeable_of_used: float = 0.0  # the same without what the seed network never trains
    frozen: dict[str, int] = field(default_factory=dict)
    plan_s: float = 0.0
    refused: str = ""  # what was said, if it has no segment of this kind


@dataclass
class DenseRow:  # one network that puts out maps or several tensors, or reads no images
    name: str  # `LIBRARY/NAME`
    shape: list[int] = field(default_factory=list)  # of one input
    params: int = 0
    idle: list[str] = field(default_factory=list)  # parameters that ask for a gradient in vain
    splits: dict[str, Split] = field(default_factory=dict)  # by kind of segments
    wall_s: float = 0.0
    problems: list[str] = field(default_factory=list)  # the kind of segments first
    commit: str = ""


def load(path: Path) -> dict[str, Row | DenseRow]:
    """Read rows by name; of two with the same name the later one counts."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row.name: row for row in (_row(json.loads(line)) for line in lines if line)}


def append(path: Path, row: Row | DenseRow) -> None:
    """Add a row at once, so that a run that is stopped loses nothing."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def save(path: Path, rows: Iterable[Row | DenseRow]) -> None:
    path.write_text("".join(map(_line, rows)), encoding="utf-8")


def _row(values: dict[str, Any]) -> Row | DenseRow:
    if "splits" not in values:
        return Row(**values)
    splits = {kind: Split(**split) for kind, split in values["splits"].items()}
    return DenseRow(**{**values, "splits": splits})


def _line(row: Row | DenseRow) -> str:
    return json.dumps(dataclasses.asdict(row)) + "\n"
