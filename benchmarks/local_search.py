"""What local search costs: its batches beside those of looking at every point of a lattice.

States are those of searches whose trainings a surrogate of really trained networks answers
(results/search/table.csv, with the noise of its repeats). In each state both propose a batch by
the same surrogate, and the joint expected improvement of the two batches is compared. The table's
features are the depth and the width of three stages and the costs, each on a log scale from the
lattice's lowest to full, so it answers for any network of three stages; of blocks that are
segments it takes the mean width of a stage.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import counting, proposals, replay_arms, table_of_networks
from benchmarks.measure import Figure
from ssr_exp.config import ModifiersConf, SearchConfig
from ssr_exp.rescaling import cost, planning, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.score import ACCURACY
from ssr_exp.search import history, space, surrogate
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale
from ssr_exp.search.proposals import propose
from ssr_exp.search.space import Space
from ssr_exp.search.surrogate import Surrogate

PART = "local_search"
TABLE = Path(__file__).parents[1] / "results" / "search" / "table.csv"
STAGES = 3


@dataclass(frozen=True)
class Lattice:
    """A CIFAR ResNet's lattice: layers, segments, channels' multiple and width steps."""

    layers: int
    kind: str
    multiple: int
    width_steps: int


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    lattices: tuple[Lattice, ...] = (
        Lattice(20, "stage", 1, 16),
        Lattice(20, "block", 4, 4),
        Lattice(44, "stage", 1, 16),
        Lattice(56, "stage", 1, 22),
    )
    rounds: tuple[int, ...] = (0, 1, 3, 6, 10)  # after which the batches are compared
    batch: int = 4
    draws: int = 65_536  # of a batch's joint improvement


SMOKE = Size((Lattice(8, "stage", 4, 4), Lattice(8, "block", 4, 4)), (0,), 2, 4096)


@dataclass(frozen=True)
class Truth:
    """What a surrogate of the table's networks says of any network of three stages."""

    scale: OutcomeScale
    fitted: Surrogate

    @classmethod
    def from_table(cls) -> Truth:
        """Fit it to all networks of the table."""
        table = table_of_networks.load(TABLE)
        values = torch.tensor(list(table.accuracies.values()), dtype=torch.float64)
        scale = OutcomeScale.from_values(ACCURACY, SearchConfig().surrogate.scale, values)
        X = table.space.features(cost.encode(table.space.plan, list(table.accuracies)))
        return cls(scale, surrogate.fit(X, scale.forward(values), SearchConfig().surrogate))

    def accuracy(self, own: Space, architecture: Architecture) -> float:
        """Answer a training: what is predicted, and noise that the network decides."""
        X = by_stage(own, own.features(cost.encode(own.plan, [architecture])))
        draw = np.random.default_rng([*architecture.blocks, *architecture.widths])
        noise = self.fitted.noise * float(draw.normal())
        return float(self.scale.back(self.fitted.predict(X)[0] + noise))


def by_stage(own: Space, X: Tensor) -> Tensor:
    """Place `n` points where the table's features are, `n x 8`: each stage's depth and width."""
    columns = []
    for stage in range(STAGES):
        for kind in ("depth", "width"):
            places = [
                at
                for at, (name, s) in enumerate(zip(own.names, own.segments, strict=True))
                if name.startswith(kind) and s * STAGES // len(own.plan.segments) == stage
            ]
            columns.append(X[:, places].mean(1) if places else torch.ones(len(X)).double())
    return torch.cat([torch.stack(columns, dim=1), X[:, -2:]], dim=1)


def measured(size: Size) -> list[Figure]:
    """Compare batches in all states of all lattices."""
    truth, figures, every = Truth.from_table(), [], []
    for one in size.lattices:
        own = spanned(one)
        with counting.one_thread():
            rows = compared(own, truth, size)
        ratios, whole, part = (list(column) for column in zip(*rows, strict=True))
        every += ratios
        name = f"ResNet-{one.layers} by {one.kind}, {len(own.lattice):,} points"
        figures += [
            Figure(PART, f"{name}: joint improvement over that of all points (median)",
                   statistics.median(ratios), "x", (min(ratios), max(ratios))),
            Figure(PART, f"{name}: a proposal from all points", statistics.median(whole), "s",
                   (min(whole), max(whole))),
            Figure(PART, f"{name}: a proposal by local search", statistics.median(part), "s",
                   (min(part), max(part))),
        ]  # fmt: skip
    return [
        Figure(
            PART,
            f"joint improvement of a batch of {size.batch}, local search over all points: median "
            f"of {len(every)} states",
            statistics.median(every),
            "x",
            (min(every), max(every)),
            at_least=0.98,
        ),
        *figures,
    ]


def spanned(one: Lattice) -> Space:
    """Span a lattice."""
    network = CifarResNet(one.layers)
    plan = planning.trace(network, (3, 32, 32), multiple=one.multiple, kind=one.kind)
    return space.from_plan(plan, width_steps=one.width_steps)


def compared(own: Space, truth: Truth, size: Size) -> list[tuple[float, float, float]]:
    """Search, and compare in some states; returns ratios, and the seconds of both proposals."""
    conf, rows = SearchConfig(), []
    trained = sets.expand(own.plan, ModifiersConf("sentinel_all"), few=True)
    for number in range(max(size.rounds) + 1):
        records = [replay_arms.record(own, a, truth.accuracy(own, a)) for a in trained]
        known = history.from_records(own, records)
        start = time.perf_counter()
        with sampled():
            _, batch = proposed(known, conf, size.batch)
        seconds = time.perf_counter() - start
        if number in size.rounds:
            start = time.perf_counter()
            belief, best = proposed(known, conf, size.batch)
            whole = time.perf_counter() - start
            gains = [improvement(belief, some, size.draws) for some in (batch, best)]
            rows.append((gains[0] / gains[1], whole, seconds))
            print(f"round {number}: {rows[-1]}", flush=True)
        trained += batch
    return rows


@contextmanager
def sampled() -> Iterator[None]:
    """Take every lattice for too large to look at all of it."""
    limit, space.LIMIT = space.LIMIT, 1
    try:
        yield
    finally:
        space.LIMIT = limit


def proposed(known: History, conf: SearchConfig, count: int) -> tuple[Belief, list[Architecture]]:
    """Propose a batch."""
    belief = Belief.from_history(known, conf)
    picks = propose.propose(belief, conf, count=count, seed=0)
    return belief, [known.space.parse(pick.network) for pick in picks]


def improvement(belief: Belief, architectures: list[Architecture], draws: int) -> float:
    """Estimate by how much a batch is expected to raise the hypervolume, by joint samples."""
    points = cost.encode(belief.history.space.plan, architectures)
    batch = replace(belief, candidates=belief.candidates.judge(points))
    return proposals.improvement(batch, np.arange(len(points)), draws)
