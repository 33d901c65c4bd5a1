"""A study that has too few records for a surrogate, told with what is to be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from ssr_exp.config import ModifiersConf, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs.predictions import FEWEST
from ssr_exp.runs.record import Record, Status
from ssr_exp.search.history import History
from ssr_exp.search.space import Space
from ssr_exp.terminal import counted

LOWER_RATE = (
    "repeat the command with a lower learning rate (recipe.lr, or of a LightningModule of your own "
    "task.arguments.NAME=VALUE)"
)


class TooFew(SsrError):
    """The study has too few records for a surrogate."""


def check(
    trained: History,
    records: Sequence[Record],
    *,
    is_loop: bool,
    strangers: Callable[[], str],
) -> None:
    """Refuse to believe anything of a study that has too few records.

    Args:
        trained: the finished ones.
        records: all of the study.
        is_loop: whether a loop of the user's own trains.
        strangers: says what there is to say of records of other studies.

    Raises:
        TooFew: says how many there are, and what to do.
    """
    baseline, count = trained.space.plan.baseline, len(trained.networks)
    if baseline in trained.networks and count >= FEWEST:
        return
    failed = [r for r in records if r.status is not Status.finished]
    broken = [r for r in failed if r.network == trained.space.code(baseline)]
    if broken and baseline not in trained.networks:
        raise TooFew(_no_baseline(broken[0], is_loop=is_loop))
    if is_loop:
        again = ", and tell failed ones again, study.tell(CODE, score, replace=True)"
        raise TooFew(
            f"the study has {counted(count, 'network')} with a score, and an answer needs "
            f"{FEWEST}, the baseline among them: go on with study.ask(){again * bool(failed)}."
        )
    also = f" ({len(failed)} runs failed or diverged)" if failed else ""
    remedy = "type modifiers=sentinel_all rounds=1, and the search trains the first ones"
    if failed:  # the plan of these is done
        others = min(2 * FEWEST, trained.space.lattice.size)
        remedy = (
            f"type modifiers=random modifiers.count={others} modifiers.draw_seed=1 rounds=1, which "
            "begins with others, too (and with others again by another number)"
        )
    if any(record.status is Status.diverged for record in failed):
        remedy += f", or {LOWER_RATE}"
    raise TooFew(
        f"the study has {counted(count, 'network')} with a finished run{also}, and the "
        f"surrogate needs {FEWEST}, the baseline among them: {remedy}.{strangers()}"
    )


def refuse_first(space: Space, conf: SearchConfig, count: int) -> NoReturn:
    """Say that the first networks are too few, and what gives more.

    Raises:
        SsrError: always.
    """
    size, steps = space.lattice.size, conf.segment.width_steps
    is_all = conf.modifiers.kind == "sentinel_all"
    these = f"these are {count}"
    remedy = f"modifiers={'random' if is_all else 'sentinel_all'}"
    if is_all and size < ModifiersConf().count:
        remedy += f" modifiers.count={size}"
    if size < FEWEST:
        these = f"the lattice is too small, it has {size}"
        wider = f"segment.width_steps={2 * steps} or more"
        remedy = f"{wider}, or a smaller segment.multiple, for more widths"
    raise SsrError(
        f"the surrogate needs {FEWEST} networks to begin with, and {these}: type {remedy}."
    )


def _no_baseline(broken: Record, *, is_loop: bool) -> str:
    remedy = "mend the cause, then repeat the command"
    if broken.status is Status.diverged:
        remedy = LOWER_RATE
    if is_loop:
        remedy = "mend the training, then study.tell(CODE, score, replace=True)"
    why = f" ({broken.error})" if broken.error else ""
    if not broken.error and not is_loop:  # every run that ends here says why
        remedy = "leave its row out of the table, and the search trains it"
    status = broken.status.value
    return f"the baseline {status}{why}, and nothing can be compared without it: {remedy}."
