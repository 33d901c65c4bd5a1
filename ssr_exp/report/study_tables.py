"""Studies as tables and as plain data: all of them in a list, two of them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from ssr_exp import terminal
from ssr_exp.report import study_outcome, trade_offs
from ssr_exp.report.study_outcome import NONE, mean_text, share
from ssr_exp.report.study_overview import StudySummary
from ssr_exp.runs import studies
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.terminal import counted

MOST = 4  # differences in a line
LEVELS = 8  # of cost, in a comparison of fronts
UNITS = ("B", "kB", "MB", "GB", "TB")
THOUSAND = 1000
LEFT = ("study", "network", "data", "differs in")
SPARE = ("data", "network", "device time", "stopped", "diverged", "answer", "size")

Point = tuple[int, float]
"""Parameters of a network, and its score on val: the mean over its seeds."""


def listing(summaries: Sequence[StudySummary]) -> Table:
    """Lay out studies, a row for each; columns that hold nothing are left out."""
    rows = [_row(one, summaries) for one in summaries]
    headings = [key for key in rows[0] if key in ("study", "done") or any(row[key] for row in rows)]
    cells = [[row[key] for key in headings] for row in rows]
    return terminal.table(
        counted(len(rows), "study", "studies"),
        headings,
        cells,
        left=LEFT,
        spare=SPARE,
    )


def _row(one: StudySummary, all_of_them: Sequence[StudySummary]) -> dict[str, str]:
    counts = {
        "done": one.count(Status.finished),
        "diverged": one.count(Status.diverged),
        "failed": one.count(Status.failed),
        "under way": one.under_way,
        "stopped": one.stopped,
    }
    return {
        "study": one.title,
        "network": one.network,
        "data": one.dataset,
        "differs in": differences(one, all_of_them),
        **{name: str(count) if count or name == "done" else "" for name, count in counts.items()},
        "best": "" if one.best is None else mean_text(one.best),
        "answer": "" if one.answer is None else f"{share(one.answer)} of parameters",
        "device time": terminal.duration(one.seconds),
        "size": bytes_text(one.size),
    }


def differences(one: StudySummary, all_of_them: Sequence[StudySummary]) -> str:
    """Say in what a study differs from others of its network and data, in one line."""
    if one.holds_finalists:
        names = {other.folder: other.title for other in all_of_them}
        return f"finalists of {names.get(one.finalists_of or '', one.finalists_of or 'a search')}"
    said = [f"{key} {value}" for key, value in one.differs.items()]
    more = [f"{len(said) - MOST} more"] if len(said) > MOST else []
    return ", ".join([*said[:MOST], *more])


def as_data(one: StudySummary) -> dict[str, Any]:
    """Say of a study what the list says, as JSON holds it; all of its names, and its commands."""
    return {
        "study": one.folder,
        "name": one.begun.name,
        "network": one.network,
        "dataset": one.dataset,
        "differs_in": dict(one.differs),
        "finalists_of": one.finalists_of,
        "runs": {
            **{status.value: one.count(status) for status in Status},
            "under_way": one.under_way,
            "stopped": one.stopped,
        },
        "best": _best_run(one.best),
        "answer": _run(one.answer),
        "promise": study_outcome.promise(one),
        "against_it": study_outcome.against(one),
        "hours": round(one.seconds / 3600, 4),
        "bytes": one.size,
        "last_run": one.last or None,
        "begun_with": {asked.command: list(asked.words) for asked in one.begun.asked},
    }


def _best_run(best: SeedMean | None) -> dict[str, Any] | None:
    """Say what scored best: its first run, with the mean over its seeds."""
    if best is None:
        return None
    return {**(_run(best.records[0]) or {}), "score": best.mean, "seeds": best.seeds}


def _run(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    keys = "network seed score_key score test_score params macs baseline_params".split()
    return {key: getattr(record, key) for key in keys}


def apart(one: StudySummary, other: StudySummary) -> dict[str, tuple[str, str]]:
    """Say in what two studies differ: of each key both values."""
    told = studies.told_apart({one.folder: one.fields, other.folder: other.fields})
    here, there = told[one.folder], told[other.folder]
    keys = dict.fromkeys([*here, *there])
    return {key: (here.get(key, NONE), there.get(key, NONE)) for key in keys}


def comparison(one: StudySummary, other: StudySummary) -> Iterator[Table | str]:
    """Lay out two studies side by side: what differs, what came of it, their fronts."""
    titles = [one.title, other.title]
    differing = apart(one, other)
    if differing:
        rows = [[key, *values] for key, values in differing.items()]
        yield terminal.table("they differ in", ["setting", *titles], rows, left=["setting"])
    else:
        yield "they differ in nothing that their files say"
    left, right = study_outcome.describe(one), study_outcome.describe(other)
    rows = [[key, left[key], right[key]] for key in left]
    yield terminal.table("what came of them", ["", *titles], rows, left=[""])
    if one.best is None or other.best is None:
        return
    keys = [each.records[0].scored_by.key for each in (one.best, other.best)]
    if keys[0] != keys[1]:
        yield f"their scores are not the same ({keys[0]}, {keys[1]}), so no fronts are compared"
        return
    how = one.best.records[0].scored_by
    heading = f"best {how.heading} with at most so many parameters"
    number = how.number
    rows = [
        [f"{cost:,}", *(NONE if value is None else number(value) for value in values)]
        for cost, values in levels(one, other)
    ]
    yield terminal.table(heading, ["parameters", *titles], rows)


def levels(
    one: StudySummary, other: StudySummary
) -> list[tuple[int, tuple[float | None, float | None]]]:
    """Say what each study's front scores at costs where one of them changes.

    Args:
        one: a study.
        other: another one, judged by the same score.

    Returns:
        Parameters, the smallest first, and both scores; None where nothing so small was trained.
    """
    fronts = [_front(one.records), _front(other.records)]
    costs = sorted({cost for front in fronts for cost, _ in front})
    step = -(-len(costs) // LEVELS) or 1
    kept = [*costs[-1::-step]][::-1]
    return [(cost, (_best(fronts[0], cost), _best(fronts[1], cost))) for cost in kept]


def _best(front: Sequence[Point], cost: int) -> float | None:
    return next((value for params, value in reversed(front) if params <= cost), None)


def _front(records: Sequence[Record]) -> list[Point]:
    return [(one.records[0].params, one.mean) for one in trade_offs.networks_on_front(records)]


def bytes_text(size: float) -> str:
    """Write a size on disk: 1.2 GB."""
    for unit in UNITS:
        if size < THOUSAND or unit == UNITS[-1]:
            break
        size /= THOUSAND
    return f"{size:.0f} {unit}" if unit in UNITS[:2] or size >= 10 else f"{size:.1f} {unit}"


def counts_text(one: StudySummary) -> str:
    """Say how many runs ended how: 12 finished, 1 failed."""
    named: Mapping[str, int] = {
        **{status.value: one.count(status) for status in Status},
        "under way": one.under_way,
        "stopped before its end": one.stopped,
    }
    return ", ".join(f"{count} {name}" for name, count in named.items() if count) or "no runs yet"
