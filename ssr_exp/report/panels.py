"""The parts of a dashboard in W&B: which runs, and the panels that show them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Kind, Record
from ssr_exp.runs.score import ACCURACY, Score

COSTS = {"params": "parameters", "macs": "MACs", "gemms": "GeMMs", "latency_ms": "latency in ms"}
FIRST = (Kind.baseline, Kind.sentinel, Kind.uniform, Kind.scbp, Kind.random, Kind.other)
GRID, HIGH = 24, 10  # columns of W&B's grid, and rows of a panel


@dataclass(frozen=True)
class Facts:
    """What a dashboard is built from.

    Args:
        entity: the owner of the project.
        project: where the runs are.
        study: their group.
        axes: config keys of the modifiers that differ between its networks.
        costs: which costs the records have.
        searched: whether a search logs a run of its own.
        best: the answer's record.
        score: what its networks are judged by.
    """

    entity: str
    project: str
    study: str
    axes: tuple[str, ...] = ()
    costs: tuple[str, ...] = ("params", "macs", "gemms")
    searched: bool = False
    best: Record | None = None
    score: Score = ACCURACY


@dataclass(frozen=True)
class Client:
    """The parts of wandb-workspaces, which is an extra and slow to import."""

    workspaces: Any
    reports: Any
    expr: Any = field(repr=False)


def client() -> Client:
    """Import wandb-workspaces.

    Raises:
        SsrError: if it is not installed.
    """
    try:
        with quiet():
            from wandb_workspaces import expr, workspaces
            from wandb_workspaces.reports import v2
    except ImportError as error:
        raise SsrError(
            f"to=wandb needs wandb-workspaces ({error}): type pip install 'ssr_exp[dashboards]'."
        ) from None
    return Client(workspaces, v2, expr)


def quiet() -> AbstractContextManager[object]:
    """Hide wandb-workspaces' own deprecation warnings."""
    return warnings.catch_warnings(action="ignore")


def filters(use: Client, study: str, kinds: Sequence[str] = ()) -> str:
    """Write a filter for a study's runs, in W&B's words.

    Raises:
        SsrError: if a name cannot be written in them.
    """
    parts: dict[str, Any] = {f"Metric('Group') == {study!r}": study}
    if kinds:
        parts[f"Metric('JobType') in {list(kinds)!r}"] = list(kinds)
    text = " and ".join(parts)
    try:
        with quiet():
            read = use.expr.expr_to_filters(text)
        values = [one.value for one in read.filters or [read]]
    except (ValueError, SyntaxError):
        values = []
    if values != list(parts.values()):  # its parser changes = and < inside of names, too
        raise SsrError(f"W&B's filters cannot name study {study!r}: type to=page.")
    return text


def runset(
    facts: Facts, use: Client, name: str, kinds: Sequence[str], *, study: str | None = None
) -> Any:
    """Take the runs of some kinds, of the dashboard's study or of another."""
    return use.reports.Runset(
        entity=facts.entity,
        project=facts.project,
        name=name,
        filters=filters(use, study or facts.study, kinds),
    )


def runsets(facts: Facts, use: Client) -> list[Any]:
    """Tell first networks from proposed ones."""
    return [
        runset(facts, use, "sentinels and other first networks", [k.value for k in FIRST]),
        runset(facts, use, "proposed", [Kind.proposed.value]),
    ]


def logged_as(score: Score, part: str = "") -> str:
    """Name a score in a run's summary: accuracies are there by the name of schema 1, too."""
    if score == ACCURACY:
        return f"{part or 'val'}_acc"
    return f"{part}_score" if part else "score"


def scatters(facts: Facts, wr: Any) -> list[Any]:
    """Draw the score against each cost that there is."""
    score = wr.SummaryMetric(logged_as(facts.score))
    return [
        wr.ScatterPlot(
            title=f"{facts.score.heading} against {COSTS[cost]}",
            x=wr.SummaryMetric(cost),
            y=score,
            log_x=True,
        )
        for cost in COSTS
        if cost in facts.costs
    ]


def modifiers(facts: Facts, wr: Any) -> list[Any]:
    """Draw the modifiers that differ side by side, and what they give."""
    if not facts.axes:
        return []
    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(wr.Config(key), display_name=key.replace("_", " ")) for key in facts.axes]
    columns.append(column(wr.SummaryMetric("params"), display_name="parameters", log=True))
    columns.append(
        column(wr.SummaryMetric(logged_as(facts.score)), display_name=facts.score.heading)
    )
    title = f"Depth and width modifier of each segment, parameters, {facts.score.heading}"
    return [wr.ParallelCoordinatesPlot(title=title, columns=columns)]


def surrogate(facts: Facts, wr: Any) -> list[Any]:
    """Draw how well the surrogate predicts, round by round, and what it believes now."""
    from ssr_exp.runs.wandb import charts

    lines = {
        "Error on left-out trainings, and of guessing the mean": [charts.RMSE, charts.SPREAD],
        "Rank correlation on left-out trainings": [charts.SPEARMAN],
        "Hypervolume": [charts.HYPERVOLUME],
        f"{facts.score.heading} of the smallest within the allowed drop": [charts.BEST_SCORE],
    }
    plots = [wr.LinePlot(title=title, x=charts.ROUND, y=keys) for title, keys in lines.items()]
    tables = [
        wr.CustomChart(
            query={"summaryTable": {"tableKey": chart.table}},
            chart_name=chart.form,
            chart_fields=chart.fields,
            chart_strings={"title": chart.title.format(score=facts.score.heading)},
        )
        for chart in charts.ALL
    ]
    return [*tables, *plots]


def laid(wr: Any, panels: Sequence[Any], *, columns: int = 2) -> list[Any]:
    """Lay panels out in columns."""
    wide = GRID // columns
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        panel.layout = wr.Layout(x=column * wide, y=row * HIGH, w=wide, h=HIGH)
    return list(panels)
