"""The trade-off table: what each network costs, as a share of its baseline, and what it scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from ssr_exp import terminal
from ssr_exp.runs import pareto
from ssr_exp.runs.record import Record, Status

HEADINGS = (
    "network,blocks,channels,parameters,of baseline,MACs,of baseline,GeMMs,ms,val acc %,"
    "test acc %,seed,wall s"
).split(",")
LEFT = ("network", "blocks", "channels")
SPARE = ("wall s", "GeMMs", "channels", "blocks", "of baseline", "MACs", "seed", "ms")


def print_trade_offs(records: Sequence[Record], *, all_records: Sequence[Record] = ()) -> None:
    """Print one table for each study, the most accurate network first.

    Args:
        records: the rows.
        all_records: all records of these studies; a star compares with them, too.
    """
    console = terminal.console()
    for study in dict.fromkeys(record.study for record in records):
        rows, others = ([r for r in some if r.study == study] for some in (records, all_records))
        console.print(trade_offs(study, rows, all_records=others))


def trade_offs(
    study: str, records: Sequence[Record], *, all_records: Sequence[Record] = ()
) -> Table:
    """Lay out one study's records; a star marks those on the front of accuracy and parameters."""
    some = f"{len(records)} of {len(all_records)} runs"
    shown = some if len(all_records) > len(records) else "all runs"
    title = f"{study}  {shown} (* none with fewer parameters is as accurate)"
    given = {
        "ms": any(record.latency_ms is not None for record in records),
        "test acc %": any(record.test_acc is not None for record in records),
    }
    at = [n for n, heading in enumerate(HEADINGS) if given.get(heading, True)]
    best = front(all_records or records)
    ordered = sorted(records, key=lambda r: (_error(r), r.params))
    cells = (_cells(record, star=record in best) for record in ordered)
    rows = [[row[n] for n in at] for row in cells]
    return terminal.table(title, [HEADINGS[n] for n in at], rows, left=LEFT, spare=SPARE)


def front(records: Sequence[Record]) -> list[Record]:
    """Keep the finished records that no other one beats in accuracy and parameters.

    Accuracy is maximised, parameters are minimised.
    """
    measured = sorted((r for r in records if r.is_measured), key=lambda r: (r.params, _error(r)))
    points = [(r.params, r.val_acc or 0.0) for r in measured]
    best = {points[at] for at in pareto.front([p for p, _ in points], [a for _, a in points])}
    return [record for record, point in zip(measured, points, strict=True) if point in best]


def _error(record: Record) -> float:
    """Return what sorts the best first and what has no accuracy last, in percent."""
    return math.inf if record.val_acc is None else 100.0 - record.val_acc


def _cells(record: Record, *, star: bool) -> list[str]:
    ended = "" if record.status is Status.finished else record.status.value
    accuracy = ended if record.val_acc is None else f"{record.val_acc:.2f}"
    test = "" if record.test_acc is None else f"{record.test_acc:.2f}"
    ms = "" if record.latency_ms is None else f"{record.latency_ms:.4g}"
    return [
        f"{record.network}{' *' if star else ''}",
        "-".join(map(str, record.blocks)),
        "-".join(map(str, record.widths)),
        f"{record.params:,}",
        f"{record.params / record.baseline_params:.1%}",
        f"{record.macs / 1e6:,.2f}M",
        f"{record.macs / record.baseline_macs:.1%}",
        f"{record.gemms:,}",
        ms,
        accuracy,
        test,
        str(record.seed),
        f"{record.wall_s:.1f}",
    ]
