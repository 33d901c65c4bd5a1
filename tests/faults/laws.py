"""What must hold after any fault, measured on the files and on a log of trainings.

A finished record stays as it is, byte for byte. No training begins whose record is finished. What
bears its final name is whole. The next command ends with 0 and completes the work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssr_exp import files
from ssr_exp.app.ask_tell import enqueued, losses
from ssr_exp.rescaling import saved
from ssr_exp.runs import leases, predictions, proposal, record, store, studies, study_names
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.proposal import Proposal
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import BEST_CHECKPOINT, LAST_CHECKPOINT
from ssr_exp.runs.study_names import Begun
from ssr_exp.search import rounds
from ssr_exp.search.rounds import Round

TRAININGS = "trainings.log"  # beside the runs: what began, what ended
UNFINISHED = re.compile(r"\.\w.*\.\d+(-[0-9a-f]{8})?|\.check-\w+")  # of a write that was killed
OTHER = {
    store.LOCK_FILE,
    store.EPOCHS_FILE,
    "traceback.txt",
    "load.py",
    "hydra.yaml",
    "overrides.yaml",
}


def is_whole(path: Path) -> None:
    """Read a file that bears its final name; raise if it is not whole or nobody knows it."""
    content, name = path.read_bytes(), path.name
    if name == store.RECORD_FILE:
        record.parse(content)
    elif re.fullmatch(r"round\d+\.json", name):
        files.parse(content, Round, version=rounds.SCHEMA)
    elif name == predictions.FILE:
        files.parse(content, Predictions, version=predictions.SCHEMA)
    elif name == proposal.FILE:
        files.parse(content, Proposal, version=proposal.SCHEMA)
    elif name == study_names.FILE:
        files.parse(content, Begun, version=study_names.SCHEMA)
    elif name == saved.NETWORK:
        saved.read(path.parent)
    elif name == losses.FILE:
        files.parse(content, losses.Offered, version=losses.SCHEMA)
    elif name in (studies.FILE, store.CONFIG_FILE, store.METRICS_FILE, leases.FILE, enqueued.FILE):
        json.loads(content)
    elif name in (LAST_CHECKPOINT, BEST_CHECKPOINT, saved.WEIGHTS):
        files.read_checkpoint(path)
    elif name == "report.html":
        if not content.rstrip().endswith(b"</html>"):
            raise ValueError("the page has no end")
    elif name not in OTHER:
        raise ValueError("nobody knows what this is")


def broken(runs: Path) -> list[str]:
    """List the files below a folder of runs that claim to be whole and are not.

    What a killed write left, what was set aside as unreadable, W&B's own files, and what a folder
    that is being replaced holds claim nothing.
    """
    found = []
    for path in sorted(p for p in runs.rglob("*") if p.is_file()):
        parts = path.relative_to(runs).parts
        if UNFINISHED.fullmatch(path.name) or ".unreadable" in path.name:
            continue
        hidden = [part for part in parts if part.startswith(".") and part != store.LOCK_FILE]
        if "wandb" in parts or hidden:
            continue
        try:
            is_whole(path)
        except Exception as error:
            found.append(f"{path.relative_to(runs)}: {error}")
    return found


def finished(runs: Path) -> dict[str, bytes]:
    """Read the finished runs' records, by their folders."""
    found = {}
    for path in runs.glob(f"*/*/seed*/{store.RECORD_FILE}"):
        try:
            content = path.read_bytes()
            ended = record.parse(content).status
        except (OSError, files.Unreadable):
            continue
        if ended is not Status.failed:
            found[str(path.parent.relative_to(runs))] = content
    return found


@dataclass
class Broken:  # of one trial or of many: what was lost, trained again, or incomplete, in words
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)

    def add(self, other: Broken) -> None:
        for kind, words in vars(other).items():
            getattr(self, kind).extend(words)

    def counts(self) -> dict[str, int]:
        return {kind: len(words) for kind, words in vars(self).items()}

    def __bool__(self) -> bool:
        return any(vars(self).values())


class Witness:
    """Watches a folder, of `runs` and the log of trainings, through a fault and what follows."""

    def __init__(self, folder: Path) -> None:
        self.runs, self._log = folder / "runs", folder / TRAININGS
        self._kept: dict[str, bytes] = {}
        self._read = 0
        self._ended: dict[str, int] = {}  # trainings that ended with a result, by folder

    def look(self) -> Broken:
        """Hold all laws against what there is now, and remember it for the next look."""
        now, found = finished(self.runs), Broken()
        found.incomplete += broken(self.runs)
        for where, content in self._kept.items():
            if now.get(where) != content:
                found.lost.append(f"{where}: the record is {'other' if where in now else 'gone'}")
        self._follow(found)
        for where in self._ended:
            if where not in now and where not in self._kept:
                found.lost.append(f"{where}: ended, and left no record")
        self._kept |= now
        return found

    def forgive(self, where: str) -> None:
        """Expect a run to be trained again: its record was damaged on purpose."""
        self._kept.pop(where, None)
        self._ended.pop(where, None)

    def _follow(self, found: Broken) -> None:
        """Read the log on: a training must not begin once one has ended."""
        text = self._log.read_text() if self._log.exists() else ""
        lines, self._read = text[self._read :].splitlines(), len(text)
        for line in lines:
            what, where, *_ = line.split("\t")
            if what == "begin" and where in {*self._ended, *self._kept}:
                found.repeated.append(where)
            if what == "end" and line.split("\t")[2] != Status.failed.value:
                self._ended[where] = self._ended.get(where, 0) + 1


def results(runs: Path) -> dict[str, Any]:
    """List what decides: of each finished run, its accuracies."""
    return {where: _measured(content) for where, content in finished(runs).items()}


def _measured(content: bytes) -> tuple[float | None, ...]:
    one = record.parse(content)
    return one.score, one.val_loss, one.test_score


def compared(now: Mapping[str, Any], undisturbed: Mapping[str, Any]) -> list[str]:
    """Say which runs are missing, or measured something else than undisturbed."""
    return [
        f"{where}: {now.get(where)} and not {value}"
        for where, value in undisturbed.items()
        if now.get(where) != value
    ]
