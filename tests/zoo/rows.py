"""What was found out about each network: rows, kept as one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


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


def load(path: Path) -> dict[str, Row]:
    """Read rows by name; of two with the same name the later one counts."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row.name: row for row in (Row(**json.loads(line)) for line in lines if line)}


def append(path: Path, row: Row) -> None:
    """Add a row at once, so that a run that is stopped loses nothing."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def save(path: Path, rows: Iterable[Row]) -> None:
    """Write rows, in their order."""
    path.write_text("".join(map(_line, rows)), encoding="utf-8")


def _line(row: Row) -> str:
    return json.dumps(dataclasses.asdict(row)) + "\n"
