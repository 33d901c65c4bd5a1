r"""Does a rescaled network learn faster from a trained seed's weights? One epoch, both ways.

    python -m benchmarks.inheriting --out results/inherit.json [-- dataset=image_folder ...]

Trains ResNet-20 once for `--epochs` epochs. Then each of `NETWORKS` is trained for one epoch with
each of three seeds: from fresh weights, and from slices of the trained ones, chosen by L1 norm and
by position. What stands after `--` is given to `train.py` in all of these.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store

ROOT = Path(__file__).parents[1]
NETWORKS = ("d3-3-3_w12-24-48", "d2-2-2_w12-24-48", "d2-2-2_w8-16-32", "d1-1-1_w16-32-64")
SEEDS = (0, 1, 2)
WORDS = [
    "model=resnet20",
    "dataset=digits",
    "recipe=sgd_cosine",
    "recipe.batch_size=32",
    "recipe.warmup_epochs=0.5",
    "trainer=cpu",
    "trainer.threads=1",
    "trainer.progress=false",
    "logger=disabled",
]
STARTS = {
    "fresh": ["init=fresh"],
    "l1": ["init=inherit", "init.channels=l1"],
    "first": ["init=inherit", "init.channels=first"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compare and write the figures."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [*WORDS, *options.words]
        (teacher,) = _train(folder / "seed", [*words, f"trainer.max_epochs={options.epochs}"])
        checkpoint = folder / "seed" / teacher.study / teacher.network / "seed0"
        first = [*words, "trainer.max_epochs=1", "modifiers=explicit"]
        first += [f"modifiers.network={','.join(NETWORKS)}", f"seed={','.join(map(str, SEEDS))}"]
        found = {}
        for start, how in STARTS.items():
            given = [f"checkpoint={checkpoint}"] if start != "fresh" else []
            found[start] = _train(folder / start, [*first, *how, *given])
    report = {
        **measure.conditions(),
        "words": _effective(words),
        "seed_network": {"epochs": options.epochs, "val_acc": teacher.val_acc},
        "first_epoch_val_acc": {network: _compared(network, found) for network in NETWORKS},
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["first_epoch_val_acc"], indent=1))


def _train(runs: Path, words: Sequence[str]) -> list[Record]:
    command = [sys.executable, "train.py", *words, f"paths.runs={runs}", "-m"]
    subprocess.run(command, cwd=ROOT, check=True)
    return [record for record in Store(runs).records() if record.status is Status.finished]


def _compared(network: str, found: dict[str, list[Record]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for start, records in found.items():
        own = sorted((r for r in records if r.network == network), key=lambda r: r.seed)
        accuracies = [round(float(r.val_acc or 0), 2) for r in own]
        rows[start] = {"mean": round(statistics.mean(accuracies), 2), "of_seeds": accuracies}
    return rows


def _effective(words: Sequence[str]) -> list[str]:
    """Keep the last word of each key; where images lie is nobody's business."""
    last = {word.partition("=")[0]: word for word in words}
    return ["dataset.root=DIR" if key == "dataset.root" else word for key, word in last.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inheriting", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    parser.add_argument("--epochs", type=int, default=15, help="of the seed network (15)")
    parser.add_argument("words", nargs="*", help="for train.py, after --")
    return parser


if __name__ == "__main__":
    main()
