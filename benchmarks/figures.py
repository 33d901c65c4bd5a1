"""`make figures`: draw the README's pictures from committed results, as the page shows them.

They are screenshots of pages of `results/cifar10/runs`, of `results/demo` (what `make demo` left,
without weights) and of `results/search/table.csv`; `python -m benchmarks.cifar10 --keep RUNS` and
`python -m benchmarks.figures --keep runs/demo` renew the former two.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import browser
from benchmarks import page as pages
from ssr_exp.config import ModifiersConf
from ssr_exp.report import page
from ssr_exp.rescaling import planning, sets
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs import predictions
from ssr_exp.runs.store import EXPORTS, Store
from ssr_exp.search import refit, space

RESULTS = Path(__file__).parents[1] / "results"
CIFAR10, DEMO, FIGURES = RESULTS / "cifar10/runs", RESULTS / "demo", RESULTS / "figures"
KEPT = ("record.json", "study.json", "network.json", "metrics.json", "predictions.json", "end.json")
SETS = ("sentinel_all", "uniform_width", "uniform_depth")  # of the table; the others are random
STEPS = 4  # of the table's lattice


@dataclass(frozen=True)
class Picture:
    """A screenshot.

    Args:
        name: of its file.
        source: whose page, `cifar10`, `demo` or `table`.
        view: which of its tabs.
        width: of the window, in pixels.
        height: likewise; None: of the whole page.
        dark: whether the page is.
        study: that it shows; None: the page's first.
    """

    name: str
    source: str
    view: str
    width: int = 1400
    height: int | None = None
    dark: bool = False
    study: str | None = None


PICTURES = (
    Picture("cifar10", "cifar10", "trade", height=1430, study="resnet20-image_folder-48826d58"),
    Picture(
        "cifar10-resnet56", "cifar10", "trade", height=1430, study="resnet56-image_folder-ef6ebe88"
    ),
    Picture("cifar10-scbp", "cifar10", "trade", study="resnet20-image_folder-ec8a03f6"),
    Picture("trade-offs", "demo", "trade", height=1430),
    Picture("surrogate", "demo", "surrogate"),
    Picture("phone", "demo", "trade", 390, 1720, dark=True),
    Picture("table", "table", "trade", height=860),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, or keep what is drawn from."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="RUNS", help="renew results/demo from there")
    parser.add_argument("--out", type=Path, default=FIGURES, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.keep is not None:
        shutil.rmtree(DEMO, ignore_errors=True)
        keep(options.keep, DEMO)
    for path in draw(options.out):
        print(path)


def keep(runs: Path, to: Path) -> None:
    """Copy what a page is made of, without weights and logs; other studies there stay."""
    for study in runs.glob("*/"):
        shutil.rmtree(to / study.name, ignore_errors=True)
    for path in sorted(runs.glob("*/**/*.json")):
        parts = path.relative_to(runs).parts
        left_out = EXPORTS in parts or any(part.startswith(".") for part in parts)
        if not left_out and (path.name in KEPT or path.name.startswith("round")):
            target = to / path.relative_to(runs)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def draw(to: Path) -> list[Path]:
    """Draw all pictures; returns their files."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser.started() as chromium:
        table = Store(Path(folder, "table"))
        fill_from_table(table)
        written = {"table": page.write(table)}
        for name, runs in {"cifar10": CIFAR10, "demo": DEMO}.items():
            written[name] = page.write(Store(runs), to=Path(folder, f"{name}.html"))
        return [drawn(chromium, written[p.source], p, to) for p in PICTURES]


def drawn(chromium: Any, path: Path, picture: Picture, to: Path) -> Path:
    """Draw one."""
    size = {"width": picture.width, "height": picture.height or 900}
    scheme = "dark" if picture.dark else "light"
    file = to / f"{picture.name}.png"
    with chromium.new_page(viewport=size, color_scheme=scheme) as sheet:
        study = "" if picture.study is None else f"&study={picture.study}"
        sheet.goto(f"{path.as_uri()}#view={picture.view}{study}")
        sheet.wait_for_selector("html[data-ready]")
        pages.painted(sheet)
        sheet.screenshot(path=file, full_page=picture.height is None)
    return file


def fill_from_table(store: Store) -> None:
    """Fill a store with the runs of the committed table, and with predictions."""
    about = json.loads((RESULTS / "search/table.json").read_text())
    plan = planning.trace(CifarResNet(20), (3, 12, 12), multiple=4)
    own = space.from_plan(plan, width_steps=STEPS)
    origins = {own.code(a): kind for kind in SETS[::-1] for a in sets.expand(plan, _set(kind))}
    names = {"study": about["study"], "model": "resnet20", "dataset": "image_folder"}
    records = [
        record.model_copy(
            update=names
            | {"origin": origins.get(record.network, "random"), "epochs": about["epochs"][0]}
        )
        for record in pages.of_table(own)
    ]
    for record in records:
        store.write(store.folder(record.study, record.network, record.seed), record)
    store.write_text(
        store.study_folder(names["study"]) / "study.json", json.dumps(about["definition"])
    )
    told = refit.predict(records, plan, width_steps=STEPS)
    assert told is not None
    predictions.write(store, store.study_folder(told.study) / predictions.FOLDER, told)


def _set(kind: str) -> ModifiersConf:
    return ModifiersConf(kind=kind)


if __name__ == "__main__":
    main()
