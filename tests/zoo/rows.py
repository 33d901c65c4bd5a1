"""What was found out about each network: rows, kept as one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One network.

    Args:
        name: `torchvision/NAME` or `timm/NAME`.
        pixels: height and width of its images.
        params: of the seed network.
        blocks: how many each segment has.
        removable: blocks that depth can remove.
        points: of its lattice.
        smallest: share of the parameters that the smallest network keeps.
        fixed: share of the output channels, of all weights but the last, that no width changes.
        frozen: for each reason, how many channels stay at full size because of it.
        idle: parameters of the seed network that get no gradient.
        joint: blocks and widths of the network that was exported.
        device: where that network ran: `cpu`, or `meta`, without data.
        plan_s: seconds that the plan took.
        export_s: seconds that the export took.
        wall_s: seconds that all of it took.
        problems: what is wrong; nothing if all is well.
        commit: of this code.
    """

    name: str
    pixels: int = 0
    params: int = 0
    blocks: list[int] = field(default_factory=list)
    removable: int = 0
    points: int = 0
    smallest: float = 1.0
    fixed: float = 0.0
    frozen: dict[str, int] = field(default_factory=dict)
    idle: list[str] = field(default_factory=list)
    joint: list[list[int]] = field(default_factory=list)
    device: str = ""
    plan_s: float = 0.0
    export_s: float = 0.0
    wall_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    commit: str = ""


@dataclass
class Split:
    """A network that is split into segments of one kind.

    Args:
        blocks: how many each segment has.
        removable: blocks that depth can remove.
        smallest: share of the parameters that the smallest network keeps.
        changeable: share of the parameters that go with a block, or whose shape can change.
        changeable_of_used: the same without the parameters that the seed network never trains.
        frozen: for each reason, how many channels stay at full size because of it.
        plan_s: seconds that the plan took.
        refused: what was said, if the network has no segment of this kind.
    """

    blocks: list[int] = field(default_factory=list)
    removable: int = 0
    smallest: float = 1.0
    changeable: float = 0.0
    changeable_of_used: float = 0.0
    frozen: dict[str, int] = field(default_factory=dict)
    plan_s: float = 0.0
    refused: str = ""


@dataclass
class DenseRow:
    """One network of the other half: it puts out maps or several tensors, or reads no images.

    Args:
        name: `LIBRARY/NAME`.
        shape: of one input.
        params: of the seed network.
        idle: parameters of the seed network that get no gradient, though they ask for one.
        splits: for each kind of segments, what came of it.
        wall_s: seconds that all of it took.
        problems: what is wrong, the kind of segments first; nothing if all is well.
        commit: of this code.
    """

    name: str
    shape: list[int] = field(default_factory=list)
    params: int = 0
    idle: list[str] = field(default_factory=list)
    splits: dict[str, Split] = field(default_factory=dict)
    wall_s: float = 0.0
    problems: list[str] = field(default_factory=list)
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
    """Write rows, in their order."""
    path.write_text("".join(map(_line, rows)), encoding="utf-8")


def _row(values: dict[str, Any]) -> Row | DenseRow:
    if "splits" not in values:
        return Row(**values)
    splits = {kind: Split(**split) for kind, split in values["splits"].items()}
    return DenseRow(**{**values, "splits": splits})


def _line(row: Row | DenseRow) -> str:
    return json.dumps(dataclasses.asdict(row)) + "\n"
