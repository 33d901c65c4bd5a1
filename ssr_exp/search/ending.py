"""A search that ends before its rounds are full: why, and what it was like then."""

from __future__ import annotations

from collections.abc import Sequence

from ssr_exp.config import Acquisition, SearchConfig
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import is_done
from ssr_exp.search.belief import Belief
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.rounds import End, Planned


def no_gain(conf: SearchConfig, belief: Belief, picks: Sequence[Planned]) -> str | None:
    """Say why a batch is not worth its training, if it is not."""
    if not picks:
        return "no network that is left promises a gain"
    if (promise := picks[0].promise) is None:
        return None
    whole = belief.state.front.hypervolume if acquisition.kind(conf) is Acquisition.ehvi else 1.0
    share = promise / whole if whole > 0 else 1.0
    if share < conf.min_gain:
        return f"no network promises a gain of {conf.min_gain:g} (the best: {share:.2g})"
    return None


def describe(
    conf: SearchConfig, records: Sequence[Record], reason: str, number: int, *, at: int
) -> End:
    """Describe a search of these records as it is now, were it to end before a batch."""
    return End(
        reason=reason,
        number=number,
        at=at,
        rounds=conf.rounds,
        min_gain=conf.min_gain,
        confidence=conf.objective.confidence,
        runs=sum(is_done(r) and r.origin != FINALIST for r in records),
    )
