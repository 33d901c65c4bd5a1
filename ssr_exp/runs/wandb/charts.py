"""What W&B shows of a search, by its names there: numbers of each round, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from ssr_exp.runs import pareto, seed_means, verdict
from ssr_exp.runs.predictions import Look, Predictions
from ssr_exp.runs.record import Kind, Record

if TYPE_CHECKING:
    import wandb

ROUND = "search/round"
RMSE, SPREAD = "search/rmse", "search/spread"  # of left-out trainings; of guessing their mean
SPEARMAN = "search/spearman"
NOISE = "search/noise"
HYPERVOLUME = "search/hypervolume"
RUNS = "search/runs"
BEST_SCORE, BEST_PARAMS = "search/best_score", "search/best_params"
LOOKS = "search/looks"  # a table

SCATTER, LINE, BAR = "wandb/scatter/v0", "wandb/line/v0", "wandb/bar/v0"  # W&B's own charts


@dataclass(frozen=True)
class Chart:
    """A chart of a table that is logged with it.

    Args:
        key: its name.
        form: one of W&B's own charts.
        fields: of the form, and the columns that they show.
        title: above it; `{score}` stands for the score's name and unit.
    """

    key: str
    form: str
    fields: dict[str, str]
    title: str

    @property
    def table(self) -> str:
        """Name its table, as W&B does."""
        return f"{self.key}_table"


NETWORKS = Chart(
    "search/networks",
    SCATTER,
    {"x": "log10_params", "y": "score"},
    "{score} against log10 of parameters, all trained networks",
)
FRONT = Chart(
    "search/front",
    LINE,
    {"x": "log10_params", "y": "score", "stroke": "front"},
    "Front of {score} and log10 of parameters: trained, and predicted for the lattice",
)
LEFT_OUT = Chart(
    "search/left_out",
    SCATTER,
    {"x": "measured", "y": "predicted"},
    "Each training, measured, and predicted from all others",
)
BATCHES = Chart(
    "search/batches",
    SCATTER,
    {"x": "measured", "y": "expected"},
    "Proposed networks, measured, and as expected before their training",
)
CALIBRATION = Chart(
    "search/calibration",
    LINE,
    {"x": "level", "y": "share", "stroke": "look"},
    "Share of left-out trainings inside their intervals, by the intervals' level",
)
SENSITIVITIES = Chart(
    "search/sensitivities",
    BAR,
    {"label": "modifier", "value": "effect"},
    "Predicted change of the outcome from one modifier's lowest to full",
)
ALL = (NETWORKS, FRONT, LEFT_OUT, BATCHES, CALIBRATION, SENSITIVITIES)

Rows = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Names of columns, and rows."""


def coverage(level: float) -> str:
    """Name the share of left-out trainings that an interval of a level held."""
    return f"search/coverage_{100 * level:.0f}"


def scalars(look: Look, levels: Sequence[float]) -> dict[str, float]:
    """List the numbers of a look, by their names."""
    numbers = {
        ROUND: look.round,
        RUNS: look.runs,
        RMSE: look.rmse,
        SPREAD: look.spread,
        SPEARMAN: look.spearman,
        NOISE: look.noise,
        HYPERVOLUME: look.hypervolume,
    }
    numbers |= {coverage(level): part for level, part in zip(levels, look.coverage, strict=False)}
    return {key: value for key, value in numbers.items() if value is not None}


def best(records: Sequence[Record], *, max_drop: float) -> dict[str, float]:
    """Find the smallest network within `max_drop` of the baseline's score, by its names."""
    scores, params = _scores(records), {r.network: r.params for r in records}
    baselines = {r.network for r in records if r.kind is Kind.baseline} & set(scores)
    if not baselines:
        return {}
    score, whole = records[0].scored_by, scores[baselines.pop()]
    drops = {network: score.drop(value, whole) for network, value in scores.items()}
    enough = [network for network, drop in drops.items() if verdict.is_kept(drop, max_drop)]
    chosen = min(enough, key=lambda network: (params[network], drops[network]))
    return {BEST_SCORE: scores[chosen], BEST_PARAMS: params[chosen]}


def charts(told: Predictions, records: Sequence[Record]) -> dict[str, Any]:
    """Draw all charts that there are rows for, and the table of looks, by their names."""
    name = told.score.heading
    drawn = {chart.key: _draw(chart, rows, name) for chart, rows in _shown(told, records)}
    return drawn | {LOOKS: _table(_listed(told.looks))}


def tables(told: Predictions, records: Sequence[Record]) -> dict[str, Any]:
    """List the tables of `charts` alone, by their names."""
    listed = {chart.table: _table(rows) for chart, rows in _shown(told, records)}
    return listed | {LOOKS: _table(_listed(told.looks))}


def _shown(told: Predictions, records: Sequence[Record]) -> list[tuple[Chart, Rows]]:
    """Pair each chart with its rows, where there are any."""
    pairs: list[tuple[Chart, Rows]] = [
        (NETWORKS, _networks(records)),
        (FRONT, _fronts(told, records)),
        (LEFT_OUT, _listed(told.left_out)),
        (BATCHES, _batches(told, records)),
        (CALIBRATION, _calibration(told)),
        (SENSITIVITIES, _sensitivities(told)),
    ]
    return [(chart, rows) for chart, rows in pairs if rows[1]]


def _draw(chart: Chart, rows: Rows, score: str) -> Any:
    import wandb

    return wandb.plot_table(
        vega_spec_name=chart.form,
        data_table=_table(rows),
        fields=chart.fields,
        string_fields={"title": chart.title.format(score=score)},
    )


def _table(rows: Rows) -> wandb.Table:
    import wandb

    columns, data = rows
    return wandb.Table(columns=list(columns), data=[list(row) for row in data])


def _scores(records: Sequence[Record]) -> dict[str, float]:
    return {network: one.mean for network, one in seed_means.on_val(records).items()}


def _networks(records: Sequence[Record]) -> Rows:
    """List all finished trainings."""
    columns = "network kind round seed params log10_params macs gemms latency_ms score".split()
    rows = []
    for r in records:
        if r.is_measured:
            costs = [r.params, _log10(r.params), r.macs, r.gemms, r.latency_ms]
            rows.append([r.network, r.kind.value, r.round, r.seed, *costs, r.score])
    return columns, rows


def _fronts(told: Predictions, records: Sequence[Record]) -> Rows:
    """List the networks that none with fewer parameters matches, as trained and as predicted."""
    scores, params = _scores(records), {r.network: r.params for r in records}
    networks, sample = list(scores), told.lattice
    series = {"trained": (networks, [params[n] for n in networks], list(scores.values()))}
    if told.outcome == told.score:
        series["predicted"] = list(sample.network), list(sample.params), list(sample.mean)
    rows = [
        [name, networks[at], counts[at], _log10(counts[at]), values[at]]
        for name, (networks, counts, values) in series.items()
        for at in pareto.front(counts, told.score.sign * np.asarray(values))
    ]
    return "front network params log10_params score".split(), rows


def _batches(told: Predictions, records: Sequence[Record]) -> Rows:
    """List the networks of all rounds whose outcome was predicted, with what became of them."""
    finished = [record for record in reversed(records) if record.is_measured]
    measured = {record.network: record.value(told.outcome.key) for record in finished}
    rows = [
        [batch.number, one.network, one.low, one.mean, one.high, measured.get(one.network)]
        for batch in told.rounds
        for one in batch.planned
        if one.mean is not None
    ]
    return "round network low expected high measured".split(), rows


def _calibration(told: Predictions) -> Rows:
    rows: list[list[Any]] = [["as it should be", level, level] for level in told.levels]
    for look in told.looks:
        pairs = zip(told.levels, look.coverage, strict=False)
        rows += [[f"round {look.round}", level, share] for level, share in pairs]
    return ("look", "level", "share"), rows


def _sensitivities(told: Predictions) -> Rows:
    rows = [[f"{s.segment} {s.kind}", s.segment, s.kind, s.effect] for s in told.sensitivities]
    return ("modifier", "segment", "kind", "effect"), rows


def _listed(items: Sequence[BaseModel]) -> Rows:
    """List plain data, a field a column; what is a list itself becomes words."""
    rows = [list(item.model_dump().values()) for item in items]
    cells = [[" ".join(map(str, c)) if isinstance(c, tuple) else c for c in row] for row in rows]
    return list(type(items[0]).model_fields) if items else [], cells


def _log10(count: int) -> float:
    return math.log10(max(count, 1))
