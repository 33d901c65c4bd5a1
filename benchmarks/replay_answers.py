"""What an arm would hand over after each round, held against trainings that no search saw.

Two rules: the cheapest network whose measured drop is allowed, which is all that a tool without a
surrogate of its own can say, and ours, which asks of the surrogate that the drop is kept with some
probability. Both are tried on what every arm has trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks import replay_arms
from benchmarks.table_of_networks import Table
from ssr_exp.config import Objective, SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import answer, history
from ssr_exp.search.belief import Belief

DROP = 1.0  # points of accuracy that the smallest network may lose
UNSEEN = 2  # trainings that an answer is held against


def measures(table: Table, rounds: Sequence[Sequence[Architecture]]) -> dict[str, list[float]]:
    """Measure the answers after each round; nothing of a table without unseen trainings."""
    if not table.unseen:
        return {}
    found: dict[str, list[float]] = {}
    full = table.log_params[table.baseline]
    for known in rounds:
        for rule, one in (
            ("measured", measured(table, known)),
            ("promised", promised(table, known)),
        ):
            drop = table.unseen[table.baseline] - table.unseen[one]
            values = {
                "params": 100 * math.exp(table.log_params[one] - full),
                "drop": drop,
                "kept": float(drop <= DROP),
            }
            for name, value in values.items():
                found.setdefault(f"{rule}_{name}", []).append(value)
    return found


def measured(table: Table, known: Sequence[Architecture]) -> Architecture:
    """Choose the cheapest network whose measured accuracy is within the drop."""
    least = table.accuracies[table.baseline] - DROP
    enough = [a for a in known if table.accuracies[a] >= least]
    return min(enough, key=lambda a: table.log_params[a])


def promised(table: Table, known: Sequence[Architecture]) -> Architecture:
    """Choose as `search.py objective=smallest` does."""
    conf = SearchConfig()
    conf.objective.kind, conf.objective.max_drop = Objective.smallest, DROP
    conf.finalists.seeds = UNSEEN
    records = [replay_arms.record(table.space, a, table.accuracies[a]) for a in known]
    known_runs = history.from_records(table.space, records)
    belief = Belief.from_history(known_runs, conf, val=table.val)
    return answer.good_enough(belief)[0]
