"""A search's last comparison, as `best/metrics.json` holds it: what is said of an answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import AliasChoices, Field

from ssr_exp.files import FileModel
from ssr_exp.runs import verdict
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import METRICS_FILE

log = logging.getLogger(__name__)

PAIR = 2  # networks that are compared: the answer and the baseline


class Figure(FileModel):
    """A score: the mean over trainings, and its standard deviation, None of a single one."""

    mean: float
    std: float | None
    seeds: int


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

    @property
    def figure(self) -> Figure:
        """Its score."""
        return Figure(mean=self.test_score_mean, std=self.test_score_std, seeds=len(self.seeds))


class StatedPromise(FileModel):
    """What an answer was expected to lose, with its 80 % interval, and how likely it keeps that."""

    drop: float
    low: float
    high: float
    probability: float
    allowed: float
    confidence: float


class Pair(FileModel):
    """The scores of the answer and of what it is compared with."""

    answer: Figure
    baseline: Figure


class AnswerLatency(FileModel):
    """What the answer takes for `batch` samples on a device, in ms, and what was allowed."""

    ms: float
    setting: str
    measured: bool
    cap: float | None = None
    batch: int = 1


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
        probability: that it is good enough on test, and the `confidence` that is asked for; None:
            of an earlier version, or a loss is predicted.
    """

    network: str
    params_share: float
    score: float
    is_poor: bool = False
    probability: float | None = None
    confidence: float | None = None
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


class Cheaper(Likeliest):
    """A trained network that is cheaper than the answer, good enough on val, and was passed over.

    Attributes:
        drop: what it lost on test, where that was too much; None: it was not tested, or is not
            likely enough.
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
        networks_tested: how many of the study's were, whatever for; None: of an earlier version.
        finals_study: that finalists were trained in, where the answer's training is of another one
            than theirs; None: it is not, or there are none.
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
    networks_tested: int | None = None
    finals_study: str | None = None

    @property
    def pair(self) -> Pair | None:
        """The scores of answer and baseline; of what earlier versions wrote, too."""
        if self.measured is not None:
            return self.measured
        rows = {row.role: row for row in self.results}
        if not {"answer", "baseline"} <= rows.keys():
            return None
        return Pair(answer=rows["answer"].figure, baseline=rows["baseline"].figure)

    @property
    def is_kept(self) -> bool | None:
        """Whether the promise held on test; None: it was not tested, or there is none."""
        if self.kept is not None or self.measured_on != "test" or self.promise is None:
            return self.kept
        return verdict.is_kept(self.drop, self.promise.allowed)

    def against(self, record: Record) -> str | None:
        """Say what speaks against the answer, whose record it is; of an earlier version, too."""
        if record.is_whole or self.verdict is not None or self.promise is None:
            return self.verdict
        return verdict.text(
            record.scored_by,
            drop=self.drop,
            allowed=self.promise.allowed,
            on=self.measured_on,
            probability=self.promise.probability,
            confidence=self.promise.confidence,
        )

    def drop_text(self, record: Record) -> str:
        """Write what the answer lost, how far seeds leave that open, and what it may lose."""
        score, error = record.scored_by, None
        if record.is_whole:
            return score.drop_text(abs(self.drop))
        if self.pair is not None:
            means = ((each.std, each.seeds) for each in (self.pair.answer, self.pair.baseline))
            error = verdict.standard_error(*means)
        allowed = None if self.promise is None else self.promise.allowed
        on = self.measured_on
        return verdict.drop_text(score, self.drop, error=error, allowed=allowed, on=on)

    def noise_text(self, record: Record) -> str | None:
        """Say what the baseline's seeds say against the drop; None: nothing, or it is alone."""
        if self.pair is None or self.promise is None or record.is_whole:
            return None
        spread = self.pair.baseline.std
        return verdict.noise_text(record.scored_by, spread, self.promise.allowed)

    @property
    def tested_text(self) -> str | None:
        """Say how often test was looked at; None: at answer and baseline alone."""
        if self.measured_on != "test" or (self.networks_tested or 0) <= PAIR:
            return None
        return f"{self.networks_tested} networks; each look at test makes it less honest"

    def promise_text(self, record: Record) -> str | None:
        """Say what became of the promise, then what it was; None: there is none."""
        if self.promise is None or record.is_whole:
            return None
        stated, on = self.promise.model_dump(), self.measured_on
        return verdict.promise_text(record.scored_by, stated, on=on, kept=self.is_kept)


def beside(finals: Sequence[Record], baseline: str, network: str) -> list[Record]:
    """Keep the finalists of one study, as trainings of different ones are not compared.

    Args:
        finals: those of an answer's, of one study after the other.
        baseline: its code.
        network: the code of another network, or that of the baseline.

    Returns:
        Those of the first study that tested both, else of the first that tested the baseline.
    """
    tested: dict[str, set[str]] = {}
    for one in finals:
        if one.test_score is not None:
            tested.setdefault(one.study, set()).add(one.network)
    both = [study for study, some in tested.items() if {baseline, network} <= some]
    both += [study for study, some in tested.items() if baseline in some]
    return [one for one in finals if one.study in both[:1]]


def read(best: Path) -> Comparison | None:
    """Read the last comparison in the folder of an answer, as data; None if none can be used."""
    path = best / METRICS_FILE
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("skipped %s: %s", path, str(error).partition("\n")[0])
        return None
