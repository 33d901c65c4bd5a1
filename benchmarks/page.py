"""How large a page of a large study is, and how long Chromium takes to show it and to answer.

Its runs are the really trained ones of `results/search/table.csv`, some of them twice under another
seed to make 1,000; the lattice's 10,000 points are predicted by a surrogate of 200 of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import browser, measure, replay_arms
from benchmarks.measure import Figure
from ssr_exp.report import page
from ssr_exp.rescaling import planning
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs import predictions, tables
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.search import refit, space
from ssr_exp.search.space import Space

PART = "page"
TABLE = Path(__file__).parents[1] / "results/search/table.csv"
ORIGINS = ("sentinel_all", "uniform_width", "random", "round1", "round2", "explicit")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    runs: int = 1000
    learned_from: int = 200
    width_steps: int = 16  # a lattice of 13,824 points, of which a page shows 10,000
    rounds: int = 7


SMOKE = Size(30, 12, 2, 1)


def measured(size: Size) -> list[Figure]:
    """Write a page, open it, use it."""
    with tempfile.TemporaryDirectory() as folder, browser.started() as chromium:
        store = Store(folder)
        filled(store, size)
        contestants = {"write": measure.timed(lambda: page.write(store))}
        path = page.write(store)
        contestants |= {name: shown(chromium, path, act) for name, act in ACTIONS.items()}
        seconds = measure.interleaved(contestants, rounds=size.rounds)
        megabytes = path.stat().st_size / 1e6
    what = f"{size.runs:,} runs"
    return [
        Figure(PART, f"file, {what}", megabytes, "MB", at_most=8),
        measure.duration(PART, f"writing it, {what}", seconds["write"]),
        measure.duration(PART, f"open until it answers, {what}", seconds["open"], at_most=2),
        *(measure.duration(PART, name, seconds[name]) for name in ACTIONS if name != "open"),
    ]


def filled(store: Store, size: Size) -> None:
    """Fill a store with a study of so many runs, and with predictions."""
    plan = planning.trace(CifarResNet(20), (3, 32, 32), multiple=4)
    own = space.from_plan(plan, width_steps=size.width_steps)
    records = resampled(own, size.runs)
    for record in records:
        store.write(store.folder(record.study, record.network, record.seed), record)
    learned = [records[0], *records[1 : size.learned_from]]
    told = refit.predict(learned, plan, width_steps=size.width_steps)
    assert told is not None
    folder = store.study_folder(told.study) / predictions.FOLDER
    predictions.write(store, folder, told)


def resampled(own: Space, count: int) -> list[Record]:
    """Make so many records of the table's rows, the baseline's first; later ones are repeats."""
    known = of_table(own)
    return [
        known[number % len(known)].model_copy(
            update={
                "seed": known[number % len(known)].seed + 2 * (number // len(known)),
                "origin": ORIGINS[number % len(ORIGINS)],
            }
        )
        for number in range(count)
    ]


def of_table(own: Space) -> list[Record]:
    """Make a record of each row of the table, the baseline's first."""
    baseline = own.code(own.plan.baseline)
    rows = sorted(tables.read(TABLE), key=lambda row: row.network != baseline)
    return [
        replay_arms.record(own, own.parse(row.network), row.val_acc or 0.0).model_copy(
            update={"seed": row.seed, "val_loss": row.val_loss, "wall_s": row.wall_s or 0.0}
        )
        for row in rows
    ]


Act = Callable[[Any], None]


def shown(chromium: Any, path: Path, act: Act | None) -> measure.Contestant:
    """Open a page and do something; what counts is that alone, or the opening."""

    def once() -> float:
        with chromium.new_page(viewport={"width": 1400, "height": 1000}) as sheet:
            start = time.perf_counter()
            sheet.goto(path.as_uri())
            sheet.wait_for_selector("html[data-ready]")
            painted(sheet)
            if act is not None:
                start = time.perf_counter()
                act(sheet)
                painted(sheet)
            return time.perf_counter() - start

    return once


def painted(sheet: Any) -> None:
    """Wait until the browser has drawn what was asked for."""
    sheet.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def hover(sheet: Any) -> None:
    """Move over the chart."""
    box = sheet.locator("#scatter").bounding_box()
    for share in (0.3, 0.5, 0.7):
        sheet.mouse.move(box["x"] + share * box["width"], box["y"] + 0.4 * box["height"])


def slide(sheet: Any) -> None:
    """Move a slider by ten steps."""
    sheet.evaluate(
        "for (let i = 1; i <= 10; i += 1) { const drop = document.getElementById('drop');"
        " drop.value = i / 10; drop.dispatchEvent(new Event('input')); }"
    )


ACTIONS: dict[str, Act | None] = {
    "open": None,
    "moving over three places of the chart": hover,
    "ten steps of a slider": slide,
    "sorting the table": lambda sheet: sheet.click("th[data-column=macs] button"),
    "another cost axis": lambda sheet: sheet.select_option("#axis", "macs"),
    "the surrogate's view": lambda sheet: sheet.click("#tab-surrogate"),
}
