"""The surrogate whose kernel some of very many runs fit, beside the exact one that all fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy import stats

from benchmarks import measure, proposals
from benchmarks.measure import Figure
from ssr_exp.config import SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import surrogate
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.proposals import propose

EVERYTHING = 10**9  # runs: none are too many
DRAWS = 65_536  # for the joint improvement of a batch


def compared(part: str, known: History, *, batch: int, sample: int) -> list[Figure]:
    """Look and propose with all runs in the kernel's fit, and with those that stand for them."""
    found: dict[str, tuple[Belief, list[Architecture]]] = {}
    most = {"all": EVERYTHING, "some": min(surrogate.MOST, len(known) // 2)}

    def proposed(name: str) -> None:
        with exact_up_to(most[name]):
            belief = Belief.from_history(known, SearchConfig())
            picks = propose.propose(belief, SearchConfig(), count=batch, seed=0)
        found[name] = belief, [known.space.parse(pick.network) for pick in picks]

    contestants = {name: measure.timed(lambda name=name: proposed(name)) for name in most}
    seconds = measure.interleaved(contestants, rounds=1, warm_up=0)
    (exact, best), (ours, chosen) = found["all"], found["some"]
    X = _sampled(exact, sample)
    mean, sigma = exact.surrogate.predict(X)
    other, its = ours.surrogate.predict(X)
    distance = float(torch.sqrt(((other - mean) / sigma).square().mean()))
    rank = float(stats.spearmanr(mean.numpy(), other.numpy()).statistic)
    gain = _gain(exact, chosen) / _gain(exact, best)
    name = f"{most['some']} of {len(known):,} runs fit the kernel, beside all of them"
    return [
        measure.duration(part, "look and proposal, all runs fit the kernel", seconds["all"]),
        measure.ratio(part, f"{name}: time, all over some", seconds["all"], seconds["some"]),
        Figure(part, f"{name}: rank correlation of means", rank, at_least=0.99),
        Figure(part, f"{name}: difference of means, in standard deviations", distance),
        Figure(part, f"{name}: standard deviation, median", float((its / sigma).median()), "x"),
        Figure(part, f"{name}: joint improvement of the batch", gain, "x", at_least=0.95),
    ]


@contextmanager
def exact_up_to(runs: int) -> Iterator[None]:
    """Let so many runs be few enough for an exact fit."""
    usual, surrogate.MOST = surrogate.MOST, runs
    try:
        yield
    finally:
        surrogate.MOST = usual


def _sampled(belief: Belief, count: int) -> torch.Tensor:
    space = belief.history.space
    numbers = np.random.default_rng(0).integers(len(space.lattice), size=count)
    return space.features(space.lattice.points(numbers))


def _gain(exact: Belief, batch: Sequence[Architecture]) -> float:
    """Ask the exact surrogate by how much a batch is expected to raise the hypervolume."""
    return proposals.improvement(exact, exact.history.space.numbers(batch), DRAWS)
