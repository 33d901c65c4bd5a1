"""What val measured of each class, from the tables of records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssr_exp import files
from ssr_exp.runs.record import Kind, Record
from ssr_exp.runs.store import Store

NETWORK = "network.json"  # of a study, names its classes
KINDS = {"confusion": ("recall", "precision"), "iou": ("IoU",)}


def collect(
    store: Store, study: str, records: Sequence[Record], answers: Iterable[str]
) -> dict[str, Any] | None:
    """Gather the scores of each class, in percent, of the baseline and of a search's answers.

    Of a network that was trained with several seeds it is the first one. What has no value, such as
    the precision of a class that was never predicted, is None.

    Args:
        store: of the records.
        study: its name.
        records: of the study.
        answers: the codes of the networks that are shown beside the baseline.

    Returns:
        The names of the classes, how much of val each is, and the networks with a list of values
        for each class; None if the records hold no such table.
    """
    wanted = set(answers)
    chosen: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: (r.kind is not Kind.baseline, r.seed)):
        if record.is_measured and (record.kind is Kind.baseline or record.network in wanted):
            chosen.setdefault(record.network, record)
    kind = next((name for r in chosen.values() for name in KINDS if name in r.tables), None)
    if kind is None:
        return None
    shown = [(r, t) for r in chosen.values() if (t := _table(r, kind)) is not None]
    sizes = {len(table) for _, table in shown}
    if len(sizes) != 1:  # none, or records of several makes
        return None
    _, counts = shown[0]
    amounts = counts.sum(1) if kind == "confusion" else counts[:, 1]
    return {
        "names": _names(store, study, sizes.pop()),
        "amounts": [int(amount) for amount in amounts],
        "of": "images" if kind == "confusion" else "pixels",
        "columns": KINDS[kind],
        "networks": [
            {
                "kind": r.kind.value,
                "code": r.network,
                "seed": r.seed,
                "values": _values(table, kind),
            }
            for r, table in shown
        ],
    }


def _table(record: Record, kind: str) -> NDArray[np.float64] | None:
    """Read a table; None if it is damaged."""
    rows = record.tables.get(kind, ())
    width = len(rows) if kind == "confusion" else 2
    if not rows or any(len(row) != width for row in rows):
        return None
    table = np.array(rows, dtype=np.float64)  # None becomes not a number
    counts = table if kind == "confusion" else table[:, 1]
    return table if np.isfinite(counts).all() else None


def _values(table: NDArray[np.float64], kind: str) -> list[list[float | None]]:
    if kind == "iou":
        columns = [table[:, 0]]
    else:
        hits = 100 * table.diagonal()
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = [hits / table.sum(1), hits / table.sum(0)]
    rows = np.stack(columns, 1)
    return [[round(float(v), 2) if np.isfinite(v) else None for v in row] for row in rows]


def _names(store: Store, study: str, count: int) -> list[str]:
    """Name the classes; by their numbers where no file says more."""
    named = files.read_or_empty(store.study_folder(study) / NETWORK).get("classes")
    if isinstance(named, list) and len(named) == count:
        return [str(name) for name in named]
    return [str(number) for number in range(count)]
