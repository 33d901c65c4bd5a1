"""A search's plans: `<runs>/<study>/search/<search>/round<k>.json`, written before the launch.

Records say what was trained; a plan says what was meant to be, so that a search that was killed
goes on with the same batch. Round 0 holds the first networks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ssr_exp import files
from ssr_exp.config import CostAxis, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs.predictions import FOLDER, Expected
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.runs.store import Store

# What makes two searches the same one: how far it goes, and where else it reads, is not part of it.
PARTS = "surrogate acquisition objective cap modifiers segment batch seed".split()
SETTING = "source runtime batch threads".split()
LATER = {  # keys that came later: as they are by default, they must not rename earlier searches
    "segment": ("patterns", "depth", "at_most"),
    "modifiers": ("c_ratios", "c_ratios_of", "params", "macs", "monotone", "prefer", "together"),
}
RENAMED = (  # values whose names must not rename the searches before them
    ("surrogate", "outcome", "score", "val_acc"),
    ("surrogate", "scale", "auto", "logit"),
    ("objective", "max_drop", None, 1.0),
)
END = "end.json"
SCHEMA = 1  # raise when a reader of today could misread what is written


class Planned(Expected):
    """A network of a round; `attempts` counts its trainings that ended, launched on their own."""

    attempts: Annotated[int, Field(ge=0)] = 0


class Round(FileModel):
    """One batch; number 0 holds the first networks.

    `seed` is what they are trained with; `attempts` counts launches that came to their end, and
    `launched` the trainings in them. `size` is how many networks it is to get, where they are
    proposed one after the other; None: it has them all.
    """

    schema_version: int = SCHEMA
    number: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]
    planned: tuple[Planned, ...]
    attempts: Annotated[int, Field(ge=0)] = 0
    launched: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=0)] | None = None

    @property
    def networks(self) -> tuple[str, ...]:
        """The codes of the batch."""
        return tuple(one.network for one in self.planned)


class End(FileModel):
    """Why a search ended before its rounds were full, and what it was like then.

    Attributes:
        reason: in words.
        number: of the round that it would have gone on with, after the first `at` networks.
        rounds: that were asked for.
        min_gain: that a batch was to promise.
        confidence: how sure an answer was to be; None: kept by an earlier version.
        runs: finished trainings, without those of finalists.
    """

    schema_version: int = SCHEMA
    reason: str
    number: int
    at: int
    rounds: int
    min_gain: float
    confidence: float | None = None
    runs: int


@dataclass(frozen=True)
class Notebook:
    """The plans of one search, in a folder of the store."""

    store: Store
    folder: Path

    def read(self) -> list[Round]:
        """Read all plans, in order.

        Raises:
            SsrError: if one cannot be read.
        """
        return [_parsed(path) for path in sorted(self.folder.glob("round*.json"), key=_number)]

    def networks(self) -> set[str]:
        """Name all networks that were ever planned."""
        return {network for plan in self.read() for network in plan.networks}

    def write(self, plan: Round) -> None:
        """Write a plan, whole or not at all."""
        self.store.write_text(self.folder / f"round{plan.number}.json", files.to_json(plan))

    def write_end(self, end: End) -> None:
        """Write why the search ended."""
        if self.read_end() != end:
            self.store.write_text(self.folder / END, files.to_json(end))

    def read_end(self) -> End | None:
        """Read why the search ended; None: it has not, or that cannot be read."""
        try:
            return files.read(self.folder / END, End, version=SCHEMA)
        except (FileNotFoundError, files.Unreadable):
            return None


def notebook(
    store: Store,
    study: str,
    conf: SearchConfig,
    score: Score = ACCURACY,
    *,
    setting: str | None = None,
) -> Notebook:
    """Name a search's folder: the same command, with any number of rounds, names the same.

    On another device a search is another one. One of an earlier version, which did not tell them
    apart, goes on.

    Args:
        store: the study's.
        study: its name.
        conf: the search.
        score: what the networks are judged by.
        setting: of a device, its runtime and version, where its latency is traded or capped.
    """
    folder, identity = store.study_folder(study) / FOLDER, _identity(conf, score)
    earlier = folder / _named(conf, identity)
    if setting is None or earlier.exists():
        return Notebook(store, earlier)
    identity["latency"] |= {"setting": setting}
    return Notebook(store, folder / _named(conf, identity))


def _named(conf: SearchConfig, identity: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{conf.objective.kind.value}-{digest}"


def _identity(conf: SearchConfig, score: Score) -> dict[str, Any]:
    """List what makes a search another one."""
    asked, usual = asdict(conf), asdict(SearchConfig())
    for part, keys in LATER.items():
        for key in keys:
            if asked[part][key] == usual[part][key]:
                del asked[part][key]
    del asked["objective"]["confidence"]  # it may be asked again how sure an answer is
    identity = {part: asked[part] for part in PARTS}
    for part, key, now, earlier in RENAMED if score == ACCURACY else ():
        if identity[part][key] == now:
            identity[part] |= {key: earlier}
    drop = identity["objective"]["max_drop"]
    if drop is not None and "%" not in str(drop):
        identity["objective"] |= {"max_drop": float(drop)}
    if conf.objective.cost is CostAxis.latency_ms or conf.cap.latency_ms is not None:
        # How well it is measured, and where a table lies, does not make it another search.
        identity["latency"] = {key: asked["latency"][key] for key in SETTING}
    return identity


def others(book: Notebook) -> list[Notebook]:
    """List the notebooks of the study's other searches."""
    folders = sorted(path for path in book.folder.parent.glob("*/") if path != book.folder)
    return [Notebook(book.store, path) for path in folders]


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("round")
    return int(digits) if digits.isdigit() else -1


def _parsed(path: Path) -> Round:
    try:
        return files.read(path, Round, version=SCHEMA)
    except (FileNotFoundError, files.Unreadable) as error:
        raise SsrError(
            f"the plan {path} cannot be read ({error}): remove that file, and "
            "the search proposes this round anew."
        ) from None
