r"""Do answers keep their promise on test, and what does confidence cost? A replay of the demo.

    python -m benchmarks.promises --table results/search/demo.csv --out results/search/promises.json
    python -m benchmarks.promises --table results/search/demo.csv --out OUT --train

Each of 20 repetitions is the demo's search (the baseline and its sentinels, then two rounds of
four) with the trainings of one seed and with images of its own for val: the demo's held-out images
are drawn anew into its 287 val images and 359 for the test. The search sees one training of each
network on val. The answer of each confidence is then tested as finalists are, by the mean over
other seeds on the other images, against the baseline's. A promise is kept if the drop is within
one point.

The trainings are the table's. `--train` adds those that it lacks (see `benchmarks.demo_table`).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta

from benchmarks import measure
from benchmarks.demo_table import DemoTable
from benchmarks.replay_arms import record
from ssr_exp.config import ModifiersConf, SearchConfig
from ssr_exp.rescaling import cost, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import Record
from ssr_exp.search import answer, history, space
from ssr_exp.search.belief import Belief
from ssr_exp.search.proposals import propose
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space

REPETITIONS, ROUNDS, BATCH, DROP = 20, 2, 4, 1.0
SEEDS = (0, 1, 2)  # of the table's trainings
CONFIDENCES = (0.5, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class Demo:
    """One repetition: the seed whose trainings are seen, and which images are val."""

    table: DemoTable
    space: Space
    seed: int
    is_val: np.ndarray[Any, np.dtype[np.bool_]]

    def val(self, architecture: Architecture) -> float:
        """Return what a search sees of a network, in percent."""
        wrong = self.table.wrong(self.space.code(architecture), self.seed)
        return 100 * float(1 - wrong[self.is_val].mean())

    def test(self, architecture: Architecture) -> float:
        """Return the mean over the other seeds, on test, in percent."""
        code = self.space.code(architecture)
        others = [self.table.wrong(code, seed) for seed in SEEDS if seed != self.seed]
        return 100 * float(1 - np.mean([wrong[~self.is_val].mean() for wrong in others]))

    def record(self, architecture: Architecture) -> Record:
        """Write what a search sees."""
        return record(self.space, architecture, self.val(architecture))

    def believe(
        self, known: Sequence[Architecture], confidence: float
    ) -> tuple[Belief, SearchConfig]:
        """Fit the surrogate to what is known."""
        conf = SearchConfig()
        conf.objective.confidence, conf.finalists.seeds = confidence, len(SEEDS) - 1
        trained = history.from_records(self.space, [self.record(a) for a in known])
        val = ValSet({"": int(self.is_val.sum())}, int((~self.is_val).sum()))
        return Belief.from_history(trained, conf, val=val), conf


def repetition(table: DemoTable, own: Space, number: int) -> list[dict[str, Any]]:
    """Search once; returns a row for each confidence."""
    drawn = np.random.default_rng(number).permutation(table.size)
    demo = Demo(table, own, SEEDS[number % len(SEEDS)], drawn < table.val_size)
    known = list(dict.fromkeys(sets.expand(own.plan, ModifiersConf("sentinel_all"))))
    for at in range(ROUNDS):
        belief, conf = demo.believe(known, 0.8)  # ehvi does not ask for it
        picks = propose.propose(belief, conf, count=BATCH, seed=at)
        known += [own.parse(pick.network) for pick in picks]
    return [_answer(demo, known, confidence, number) for confidence in CONFIDENCES]


def _answer(
    demo: Demo, known: Sequence[Architecture], confidence: float, number: int
) -> dict[str, Any]:
    belief, _ = demo.believe(known, confidence)
    chosen, baseline = answer.good_enough(belief)[0], demo.space.plan.baseline
    promise, drop = belief.promises[chosen], demo.test(baseline) - demo.test(chosen)
    return {
        "repetition": number,
        "confidence": confidence,
        "network": demo.space.code(chosen),
        "params": int(cost.count_one(demo.space.plan, chosen).params),
        "expected": round(promise.drop, 3),
        "probability": round(promise.probability, 3),
        "val_drop": round(demo.val(baseline) - demo.val(chosen), 3),
        "test_drop": round(drop, 3),
        "kept": drop <= DROP,
    }


def summary(rows: Sequence[dict[str, Any]], full: int) -> list[dict[str, Any]]:
    """Say for each confidence how many promises held, and what the answers cost."""
    found = []
    for confidence in sorted({row["confidence"] for row in rows}):
        mine = [row for row in rows if row["confidence"] == confidence]
        kept, count = sum(row["kept"] for row in mine), len(mine)
        shares = sorted(row["params"] / full for row in mine)
        found.append(
            {
                "confidence": confidence,
                "kept": kept,
                "of": count,
                "at_least_95": round(float(beta.ppf(0.05, kept, count - kept + 1)), 3),
                "stated": round(statistics.mean(row["probability"] for row in mine), 3),
                "params_share_median": round(statistics.median(shares), 4),
                "params_share_geometric_mean": round(statistics.geometric_mean(shares), 4),
                "test_drop_mean": round(statistics.mean(row["test_drop"] for row in mine), 3),
                "baselines": sum(share == 1 for share in shares),
            }
        )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay, and write what came of it."""
    options = _parser().parse_args(arguments)
    table = DemoTable(options.table, trains=options.train)
    own = space.from_plan(table.study.plan, width_steps=SearchConfig().segment.width_steps)
    rows: list[dict[str, Any]] = []
    for number in range(options.repetitions):
        rows += repetition(table, own, number)
        for row in rows[-len(CONFIDENCES) :]:
            print(json.dumps(row), flush=True)
    found = summary(rows, own.baseline.params)
    about = {"table": options.table.name, "trainings": len(table.rows), "drop": DROP}
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    head = json.dumps(measure.conditions() | about | {"summary": found}, indent=1)[:-2]
    options.out.write_text(f'{head},\n "answers": [\n  {lines}\n ]\n}}\n')
    print(json.dumps(found, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.promises",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", type=Path, required=True, metavar="CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")
    parser.add_argument("--train", action="store_true", help="train what the table lacks")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    return parser


if __name__ == "__main__":
    main()
