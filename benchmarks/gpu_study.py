r"""The [GPU] part of the search: a study of ResNet-20 on CIFAR-10, and a table of its lattice.

    python -m benchmarks.gpu_study --part study --cifar DIR --out OUT
    python -m benchmarks.gpu_study --part table --cifar DIR --out OUT

A part works for `--budget-s` seconds (540), stops itself, and goes on when it is repeated with the
same `--runs`; it ends with status 0 when it is done, and with 3 when it wants to be repeated.
`study`: baseline, sentinels, three rounds, finalists; OUT/study.log, study.jsonl (all records) and
study-best.json (the last comparison). `table`: random networks until the time is over, several
processes on one GPU; OUT/table.jsonl. How to bring the packages there: `benchmarks/gpu.py`.
`--smoke` goes the same way on a CPU, with few images and networks; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import RUNS, few_images
from ssr_exp.runs.store import Store

ROOT = Path(__file__).parents[1]
AGAIN = 3  # the exit status of a part that wants to be repeated
PROCESSES = {"study": 4, "table": 8}  # that share the GPU: small networks do not fill it
RECIPE = [
    "model=resnet20",
    "recipe=sgd_cosine",
    "recipe.warmup_epochs=1",
    "recipe.batch_size=512",
    "recipe.lr=0.2",
    "trainer=gpu",
    "trainer.compile=false",  # a minute of compiling for each network would be most of the time
    "trainer.progress=false",
    "logger=disabled",
]
EPOCHS = {"study": 15, "table": 8}
SEARCH = [
    "rounds=3",
    "batch=8",
    "finalists.seeds=3",
    "finalists.epochs=60",
    "finalists.arms=[uniform_width,uniform_depth,family]",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on one part; returns 0 if it is done, 3 if it wants to be repeated."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        words = _words(options, Path(folder))
        end = time.monotonic() + options.budget_s
        done = (
            _study(options, words, end) if options.part == "study" else _table(options, words, end)
        )
    _gather(options)
    return 0 if done else AGAIN


def _words(options: argparse.Namespace, folder: Path) -> list[str]:
    cifar = few_images(options.cifar, folder) if options.smoke else options.cifar
    words = [*RECIPE, f"trainer.max_epochs={EPOCHS[options.part]}", "dataset=image_folder"]
    words += [f"dataset.root={cifar.resolve()}", f"paths.runs={_runs(options)}"]
    if options.smoke:
        words += ["model=resnet8", "trainer=cpu", "trainer.max_epochs=1", "recipe.batch_size=16"]
        words += ["dataset.val_fraction=0.25", f"paths.data={folder}", "recipe.warmup_epochs=0"]
    return [f"{key}={value}" for key, value in dict(w.split("=", 1) for w in words).items()]


def _study(options: argparse.Namespace, words: list[str], end: float) -> bool:
    """Train the sentinels in several processes, which share them out, then search."""
    first = [[*words, "modifiers=sentinel_all"]] * (1 if options.smoke else PROCESSES["study"])
    if not _all(["train.py"], first, end, options.out / "study-first.log"):
        return False
    search = SEARCH
    if options.smoke:
        search = ["rounds=1", "batch=2", "finalists.seeds=1", "finalists.epochs=1"]
    return _all(["search.py"], [[*words, *search]], end, options.out / "study.log")


def _table(options: argparse.Namespace, words: list[str], end: float) -> bool:
    """Train the sentinels and random networks until the time is over; it is never done."""
    count = 4 if options.smoke else 1000
    every = [*words, "modifiers=sentinel_all,random", f"modifiers.count={count}"]
    processes = 1 if options.smoke else PROCESSES["table"]
    return _all(["train.py"], [every] * processes, end, options.out / "table.log")


def _all(script: list[str], commands: list[list[str]], end: float, log: Path) -> bool:
    """Run commands side by side until the time is over; says whether all ended well."""
    with log.open("a") as file:
        running = [
            subprocess.Popen(
                [sys.executable, *script, *words], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
            )
            for words in commands
        ]
        for process in running:
            try:
                process.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return all(process.returncode == 0 for process in running)


def _gather(options: argparse.Namespace) -> None:
    """Copy all records, one a line, and the last comparison."""
    records = Store(_runs(options)).records()
    lines = [json.dumps(record.model_dump(mode="json")) for record in records]
    (options.out / f"{options.part}.jsonl").write_text("\n".join([*lines, ""]))
    for metrics in _runs(options).glob("*/best/metrics.json"):
        shutil.copy(metrics, options.out / f"{options.part}-best.json")
    print(f"{options.part}: {len(records)} records")


def _runs(options: argparse.Namespace) -> Path:
    return Path(options.runs / f"search-{options.part}").resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--part", required=True, choices=sorted(EPOCHS))
    parser.add_argument("--out", required=True, type=Path, help="folder of the small results")
    parser.add_argument("--cifar", required=True, type=Path, help="folder of CIFAR-10's images")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs (runs/gpu)")
    parser.add_argument("--budget-s", type=float, default=540, help="seconds of one call (540)")
    parser.add_argument("--smoke", action="store_true", help="as little as runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
