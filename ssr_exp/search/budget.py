"""What a search may train at most, counted from its plans and their records."""

from __future__ import annotations

from collections.abc import Sequence

from ssr_exp.config import SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record
from ssr_exp.search.rounds import Round


def check(conf: SearchConfig, count: int) -> None:
    """Refuse a budget that does not even cover the first `count` networks.

    Raises:
        SsrError: says what would.
    """
    needs = {"runs": count, "epochs": count * conf.trainer.max_epochs}
    for name, need in needs.items():
        limit = getattr(conf.budget, name)
        if limit is not None and limit < need:
            raise SsrError(
                f"budget.{name}={limit} does not cover the {count} first networks ({need} "
                f"{name}): type budget.{name}={need} or more, or fewer first networks, such as "
                'modifiers=sentinel_joint (in Python sentinels="sentinel_joint").'
            )


def affordable(
    conf: SearchConfig,
    plans: Sequence[Round],
    records: Sequence[Record],
    *,
    count: int,
    running: int = 0,
    epochs: int | None = None,
) -> int:
    """Say how many of `count` more trainings the budget allows, beside those under way.

    Each takes `epochs`, as many as the search's own if that is None. Of the study's records, those
    of other searches are not counted.
    """
    usual = conf.trainer.max_epochs
    each = usual if epochs is None else epochs
    budget = conf.budget
    planned = {(network, plan.seed) for plan in plans for network in plan.networks}
    spent = [r for r in records if (r.network, r.seed) in planned]
    if budget.runs is not None:
        launched = sum(plan.launched for plan in plans)
        count = min(count, budget.runs - max(launched, len(spent)) - running)
    if budget.epochs is not None:
        remaining = budget.epochs - sum(r.epochs for r in spent)
        count = min(count, remaining // each - running)
    if budget.hours is not None:
        hours = [r.wall_s / 3600 for r in spent] or [0.0]
        hours_each = max(sum(hours) / len(hours) * each / usual, 1e-9)
        count = min(count, int((budget.hours - sum(hours)) / hours_each) - running)
    return max(count, 0)
