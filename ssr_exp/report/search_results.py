"""A search's last comparison, and the studies that its finalists were trained in."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence

from pydantic import AliasChoices, Field

from ssr_exp import terminal
from ssr_exp.files import FileModel
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, PICTURE_FILE, RECORD_FILE, Store

log = logging.getLogger(__name__)
PNG = b"\x89PNG\r\n\x1a\n"
ANSWERS = ("baseline", "answer", "finalist")  # how roles begin that are no arms
LARGEST_PICTURE = 4 * 2**20  # bytes, on a page


class ComparisonRow(FileModel):
    """A row of the last comparison, as `best/metrics.json` holds it."""

    role: str
    model: str
    network: str
    params: int
    params_share: float
    # The second names are of schema 1, which knew of accuracies alone.
    test_score_mean: float = Field(
        validation_alias=AliasChoices("test_score_mean", "test_acc_mean")
    )
    test_score_std: float | None = Field(
        validation_alias=AliasChoices("test_score_std", "test_acc_std")
    )
    seeds: list[int]


class StatedPromise(FileModel):
    """What an answer was expected to lose, with its 80 % interval, and how likely it keeps that."""

    drop: float
    low: float
    high: float
    probability: float
    allowed: float
    confidence: float

    @property
    def likely(self) -> str:
        """Write the probability."""
        return terminal.likely(self.probability)


class Figure(FileModel):
    """A score: the mean over trainings, and its standard deviation, None of a single one."""

    mean: float
    std: float | None
    seeds: int


class Pair(FileModel):
    """The scores of the answer and of what it is compared with."""

    answer: Figure
    baseline: Figure


class AnswerLatency(FileModel):
    """What the answer takes on a device and runtime, in ms, and what was allowed."""

    ms: float
    setting: str
    measured: bool
    cap: float | None = None


class FrontSize(FileModel):
    """The trade-off that was searched for: how many networks are on it, of how many."""

    networks: int
    trained: int
    cost: str = "params"


class Untrained(FileModel):
    """The cheapest network of the lattice that is expected to be good enough, not trained.

    Attributes:
        is_poor: whether the surrogate that expects it predicts poorly.
        cost: that the search is about, and `share` what it is of the baseline's; None: as
            `params_share`, of an earlier version.
    """

    network: str
    params_share: float
    score: float
    is_poor: bool = False
    cost: str = "params"
    share: float | None = None


class Likeliest(FileModel):
    """The network that is likeliest to be good enough, where none is likely enough.

    `cost` and `share` are as those of `Untrained`.
    """

    network: str
    params_share: float
    probability: float
    confidence: float
    cost: str = "params"
    share: float | None = None

    @property
    def likely(self) -> str:
        """Write the probability."""
        return terminal.likely(self.probability)


class Cheaper(Likeliest):
    """A trained network that is cheaper than the answer, good enough on val, and was passed over.

    Attributes:
        drop: what it lost on test; None: it was not tested, and is not likely enough to keep.
    """

    drop: float | None = None


class Size(FileModel):
    """The blocks and channels of a network, of each segment."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]


class Comparison(FileModel):
    """The last comparison, and what a search says beside it.

    Attributes:
        measured_on: the images that the answer is judged by: `test`, or `val` without finalists.
        drop: in the score's unit.
        learnt: what the networks were trained on, where they were tested.
        test_images: how many those were tested on, where that is known.
        full: the size of the baseline.
        front: of an `objective=tradeoff`.
        export: words for `export.py`; None: it cannot be exported.
        kept: whether the answer lost no more on test than it may; None: it was not tested.
        verdict: what speaks against it.
    """

    measured_on: str = Field(validation_alias=AliasChoices("measured_on", "accuracy"))
    drop: float
    results: tuple[ComparisonRow, ...] = ()
    promise: StatedPromise | None = None
    measured: Pair | None = None
    learnt: str | None = None
    test_images: int | None = None
    latency: AnswerLatency | None = None
    full: Size | None = None
    front: FrontSize | None = None
    untrained: Untrained | None = None
    likeliest: Likeliest | None = None
    cheaper: Cheaper | None = None
    export: tuple[str, ...] | None = ()
    kept: bool | None = None
    verdict: str | None = None


def read_comparison(store: Store, study: str) -> Comparison | None:
    """Read the last comparison of a study's search, as data; None if none can be used."""
    path = store.study_folder(study) / BEST_FOLDER / METRICS_FILE
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("skipped %s: %s", path, str(error).partition("\n")[0])
        return None


def read_finals(store: Store, study: str) -> list[Record]:
    """List the tested finalists of a study's answer and baseline; what they were beside stays out.

    Those that learned from val are in a study of their own, which `best/` names.
    """
    folder = store.study_folder(study) / BEST_FOLDER
    best = store.read(folder) if (folder / RECORD_FILE).exists() else None
    comparison = read_comparison(store, study)
    rows = () if comparison is None else comparison.results
    arms = {row.network for row in rows if not row.role.startswith(ANSWERS)}
    studies = dict.fromkeys([study] if best is None else [study, best.study])
    return [
        record
        for name in studies
        for record in store.records(name)
        if record.origin == FINALIST and record.test_score is not None
        if record.network not in arms
    ]


def read_picture(store: Store, study: str) -> str | None:
    """Read what a segmentation's answer makes of images, as a `data:` address; None without one."""
    path = store.study_folder(study) / BEST_FOLDER / PICTURE_FILE
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_PICTURE + 1)
    except OSError:
        return None
    if not content.startswith(PNG) or len(content) > LARGEST_PICTURE:
        log.warning("skipped %s: it is no PNG file, or a large one", path)
        return None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def finalist_studies(store: Store, studies: Mapping[str, Sequence[Record]]) -> dict[str, list[str]]:
    """Name for each study with an answer the others that its finalists were trained in.

    Finalists have learned from val, so their studies hold no score on it. One is the answer's
    own, others are of seed networks that it was compared with.

    Args:
        store: of the records.
        studies: the records of each.
    """
    finals = [name for name, records in studies.items() if _is_final(records)]
    return {
        name: [final for final in finals if _belongs(store, name, records[0], studies[final])]
        for name, records in studies.items()
        if finals and name not in finals
    }


def _is_final(records: Sequence[Record]) -> bool:
    tested = any(record.test_score is not None for record in records)
    return tested and all(record.score is None for record in records)


def _belongs(store: Store, study: str, first: Record, finals: Sequence[Record]) -> bool:
    """Say whether finalists of another study are what a study's answer was compared with."""
    folder = store.study_folder(study) / BEST_FOLDER
    best = store.read(folder) if (folder / RECORD_FILE).exists() else None
    if best is None or best.study == finals[0].study:
        return best is not None
    comparison = read_comparison(store, study)
    compared = {(r.model, r.network) for r in comparison.results} if comparison else set()
    is_another = finals[0].model != first.model and finals[0].dataset == first.dataset
    return is_another and any((r.model, r.network) in compared for r in finals)
