"""What a search may train at most, counted from its plans and their records."""

from __future__ import annotations

from collections.abc import Sequence

from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record
from ssr_exp.search.rounds import Round


def check(conf: SearchConfig, count: int) -> None:
    """Refuse a budget that does not even cover the first networks.

    Args:
        conf: the search.
        count: the first networks that are to be trained.

    Raises:
        SsrError: if it does not.
    """
    runs, epochs = conf.budget.runs, conf.budget.epochs
    each = conf.trainer.max_epochs
    for name, limit, need in (("runs", runs, count), ("epochs", epochs, count * each)):
        if limit is not None and limit < need:
            raise SsrError(
                f"budget.{name}={limit} does not cover the {count} first networks ({need} "
                f"{name}): type budget.{name}={need} or more, or fewer first networks, such as "
                "modifiers=sentinel_joint."
            )


def affordable(
    conf: SearchConfig,
    plans: Sequence[Round],
    records: Sequence[Record],
    *,
    count: int,
    running: int = 0,
) -> int:
    """Say how many of `count` more trainings the budget allows.

    Args:
        conf: the search.
        plans: all of them.
        records: of the study; those of other searches are not counted.
        count: trainings that are wanted.
        running: trainings under way.
    """
    budget = conf.budget
    planned = {(network, plan.seed) for plan in plans for network in plan.networks}
    spent = [r for r in records if (r.network, r.seed) in planned]
    if budget.runs is not None:
        launched = sum(plan.launched for plan in plans)
        count = min(count, budget.runs - max(launched, len(spent)) - running)
    if budget.epochs is not None:
        left = budget.epochs - sum(r.epochs for r in spent)
        count = min(count, left // conf.trainer.max_epochs - running)
    if budget.hours is not None:
        hours = [r.wall_s / 3600 for r in spent] or [0.0]
        each = max(sum(hours) / len(hours), 1e-9)
        count = min(count, int((budget.hours - sum(hours)) / each) - running)
    return max(count, 0)
