"""The trade-off table: what each network costs, as a share of its baseline, and what it scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ssr_exp import terminal
from ssr_exp.config import Objective, ObjectiveConf
from ssr_exp.runs import pareto, seed_means, study_names
from ssr_exp.runs.cost_words import PARAMS
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.seed_means import SeedMean

HEADINGS = ("network,parameters,of baseline,MACs,of baseline,GeMMs,ms,val,test,seed,wall s").split(
    ","
)
LEFT = ("network",)
FEWER = {
    PARAMS: "fewer parameters",
    "macs": "fewer MACs",
    "gemms": "fewer GeMMs",
    "latency_ms": "a lower latency",
}
HEADS = {"latency_ms": "ms"}  # above a cost that is no share of the baseline's
SPARE = ("wall s", "GeMMs", "of baseline", "MACs", "seed", "ms")


def print_trade_offs(
    records: Sequence[Record],
    *,
    all_records: Sequence[Record] = (),
    root: Path | None = None,
    cost: str = PARAMS,
) -> None:
    """Print one table for each study, the best network first.

    Args:
        records: the rows.
        all_records: all records of these studies; a star compares with them, too.
        root: the store's folder, which knows of names of one's own; None: studies have none.
        cost: what is traded for the score, a field of records.
    """
    console = terminal.console()
    for study in dict.fromkeys(record.study for record in records):
        rows, others = ([r for r in some if r.study == study] for some in (records, all_records))
        title = study if root is None else study_names.title(root, study)
        console.print(trade_offs(title, rows, all_records=others, cost=cost))


def trade_offs(
    study: str,
    records: Sequence[Record],
    *,
    all_records: Sequence[Record] = (),
    cost: str = PARAMS,
) -> Table:
    """Lay out one study's records; a star marks those on the front of score and cost."""
    score = records[0].scored_by
    some = f"{len(records)} of {len(all_records)} runs"
    shown = some if len(all_records) > len(records) else "all runs"
    cost = traded(all_records or records, cost)
    means = seed_means.on_val(all_records or records).values()
    by = ", by the mean over seeds" if any(len(one.records) > 1 for one in means) else ""
    title = f"{study}  {shown} (* none with {FEWER[cost]} is as {score.good}{by})"
    given = {
        "ms": any(record.latency_ms is not None for record in records),
        "test": any(record.test_score is not None for record in records),
    }
    at = [n for n, heading in enumerate(HEADINGS) if given.get(heading, True)]
    named = {"val": score.heading, "test": score.on("test").heading}
    best = {record.network for record in front(all_records or records, cost)}
    ordered = sorted(records, key=lambda r: (_badness(r), r.params))
    cells = (_cells(r, star=r.is_measured and r.network in best) for r in ordered)
    rows = [[row[n] for n in at] for row in cells]
    headings = [named.get(HEADINGS[n], HEADINGS[n]) for n in at]
    return terminal.table(title, headings, rows, left=LEFT, spare=SPARE)


def print_front(records: Sequence[Record], *, answer: str, cost: str = PARAMS) -> None:
    """Print a study's front in short; what is said of the answer below stands there alone."""
    cost = traded(records, cost)
    if not (best := networks_on_front(records, cost)):
        return
    score = best[0].records[0].scored_by
    rows = []
    for one in reversed(best):
        record = one.records[0]
        code, share = terminal.shortened(record.network), _share(record, cost)
        if record.network == answer:
            rows.append([f"{code}  the answer: below", "", ""])
        else:
            spread = "" if one.deviation is None else f" +- {score.number(one.deviation)}"
            rows.append([code, share, f"{score.number(one.mean)}{spread}"])
    headings = ["network", HEADS.get(cost, "of baseline"), score.heading]
    title = f"trade-off: none with {FEWER[cost]} is as {score.good}"
    terminal.console().print(terminal.table(title, headings, rows, left=LEFT))


def traded(records: Sequence[Record], cost: str) -> str:
    """Say which cost the front of records is of: parameters, where not all have the one asked.

    Latencies of several devices are not compared.
    """
    measured = [r for r in records if r.is_measured]
    devices = {r.latency_device for r in measured} if cost in HEADS else set()
    has_all = all(getattr(r, cost) is not None for r in measured)
    return cost if has_all and len(devices) < 2 else PARAMS


def _share(record: Record, cost: str) -> str:
    """Write a record's cost as a share of the baseline's; of latency, in ms."""
    if cost in HEADS:
        return f"{getattr(record, cost):.4g}"
    return f"{getattr(record, cost) / getattr(record, f'baseline_{cost}'):.1%}"


def front(records: Sequence[Record], cost: str = PARAMS) -> list[Record]:
    """Keep the finished trainings of the networks on the front, the cheapest network first."""
    return [record for one in networks_on_front(records, cost) for record in one.records]


def size(records: Sequence[Record], objective: ObjectiveConf) -> dict[str, Any]:
    """Say, as plain data, how many networks are on the front of a study's records, of how many.

    Nothing of a search that trades nothing off.
    """
    if objective.kind is not Objective.tradeoff:
        return {}
    cost = traded(records, objective.cost.value)
    counts = {"networks": len(networks_on_front(records, cost))}
    return {"front": counts | {"trained": len(seed_means.on_val(records)), "cost": cost}}


def networks_on_front(records: Sequence[Record], cost: str = PARAMS) -> list[SeedMean]:
    """Keep the networks that no other one beats in score, the mean over their seeds, and cost."""
    cost = traded(records, cost)
    pairs = []
    for one in seed_means.on_val(records).values():
        first = one.records[0]
        pairs.append(((getattr(first, cost), first.scored_by.sign * one.mean), one))
    pairs.sort(key=lambda pair: (pair[0][0], -pair[0][1]))
    points = [point for point, _ in pairs]
    best = {points[at] for at in pareto.front([p for p, _ in points], [s for _, s in points])}
    return [one for point, one in pairs if point in best]


def _badness(record: Record) -> float:
    """Return what sorts the best first and what has no score last."""
    return math.inf if record.score is None else -record.scored_by.sign * record.score


def _cells(record: Record, *, star: bool) -> list[str]:
    ended = "" if record.status is Status.finished else record.status.value
    number = record.scored_by.number
    val = ended if record.score is None else number(record.score)
    test = "" if record.test_score is None else number(record.test_score)
    ms = "" if record.latency_ms is None else f"{record.latency_ms:.4g}"
    return [
        f"{terminal.shortened(record.network)}{' *' if star else ''}",
        f"{record.params:,}",
        f"{record.params / record.baseline_params:.1%}",
        f"{record.macs / 1e6:,.2f}M",
        f"{record.macs / record.baseline_macs:.1%}",
        f"{record.gemms:,}",
        ms,
        val,
        test,
        str(record.seed),
        f"{record.wall_s:.1f}",
    ]
