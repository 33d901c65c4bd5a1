"""A small lattice, a made-up truth about its networks, and records that tell it with noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssr_exp.config import SearchConfig
from ssr_exp.rescaling import cost, planning, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.search import diagnostics, history, rounds, space, summary, surrogate
from ssr_exp.search.belief import Belief
from ssr_exp.search.costs import Latencies
from ssr_exp.search.evidence import Evidence
from ssr_exp.search.history import History
from ssr_exp.search.loop import Search
from ssr_exp.search.space import Space

Tell = Callable[..., Record]
Begin = Callable[..., Search]
First = tuple[Architecture, ...]


@pytest.fixture(scope="session")
def small() -> Space:
    """512 networks: three segments of one or two blocks, four widths each."""
    plan = planning.trace(CifarResNet(14), (3, 8, 8), multiple=4)
    return space.from_plan(plan, width_steps=4)


@functools.cache
def truth(own: Space, architecture: Architecture) -> float:
    """Rise with depth and width, with falling returns; percent."""
    x = own.features(cost.encode(own.plan, [architecture]))[0, :6].numpy()
    weights = np.array([3.0, 6.0, 2.0, 5.0, 1.0, 4.0])
    return 90 - 20 * math.exp(-float(x @ weights) / 5)


@pytest.fixture(scope="session")
def tell(small: Space, make_record: Callable[..., Record]) -> Tell:
    """Make the record of a network: the truth, and noise that its seed decides."""

    @functools.cache
    def named(architecture: Architecture) -> dict[str, object]:
        modifiers = small.plan.modifiers(architecture)
        return {
            "network": small.code(architecture),
            "model": "resnet14",
            "modifiers": {"depth": modifiers.depth, "width": modifiers.width},
            "blocks": architecture.blocks,
            "widths": small.plan.channels(architecture),
            "status": Status.finished,
            **cost.count_one(small.plan, architecture)._asdict(),
            **{f"baseline_{k}": v for k, v in small.baseline._asdict().items()},
        }

    def told(architecture: Architecture, *, noise: float = 0.3, **fields: object) -> Record:
        seed = int(fields.get("seed", 0))  # type: ignore[call-overload]
        draw = np.random.default_rng([seed, *architecture.blocks, *architecture.widths])
        accuracy = min(truth(small, architecture) + noise * float(draw.normal()), 100.0)
        scores = {"val_acc": accuracy, "val_loss": (100 - accuracy) / 30, "best_val_acc": accuracy}
        return make_record(**(named(architecture) | scores | fields))

    return told


@pytest.fixture(scope="session")
def first(small: Space) -> First:
    """The baseline and all sentinels."""
    conf = SearchConfig().modifiers
    conf.kind = "sentinel_all"
    return tuple(sets.expand(small.plan, conf))


@pytest.fixture(scope="session")
def known(small: Space, tell: Tell, first: First) -> History:
    """What is known after the first networks."""
    return history.from_records(small, [tell(architecture) for architecture in first])


class World(Evidence):
    """A study whose trainings take no time."""

    def __init__(self, space: Space, tell: Tell) -> None:
        self.space, self.tell = space, tell
        self.all: list[Record] = []
        self.trained: list[str] = []
        self.broken: dict[str, Status] = {}
        self.short: list[Record] = []
        self.busy: set[str] = set()
        self.stop_after: int | None = None
        self.forgotten = 0

    def train(self, networks: Sequence[str], origin: str) -> dict[str, object]:
        for network in networks:
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                raise KeyboardInterrupt
            self.trained.append(network)
            status = self.broken.get(network, Status.finished)
            fields: dict[str, object] = {"status": status, "origin": origin}
            if status is not Status.finished:
                fields |= {"val_acc": None, "error": "it broke"}
            self.all = [r for r in self.all if r.network != network or r.val_acc]
            self.all.append(self.tell(self.space.parse(network), **fields))
        return {}

    @property
    def records(self) -> list[Record]:
        return list(self.all)

    def forget(self) -> None:
        self.forgotten += 1

    def elsewhere(self) -> list[Record]:
        return self.short

    def pending(self) -> set[str]:
        return self.busy

    def strangers(self) -> str:
        return ""


@pytest.fixture
def world(small: Space, tell: Tell) -> World:
    return World(small, tell)


def asked(**changes: object) -> SearchConfig:
    """Configure a search: `asked(rounds=2, budget__runs=9)`."""
    conf = SearchConfig()
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        setattr(getattr(conf, group) if group else conf, name, value)
    return conf


@pytest.fixture
def begin(tmp_path: Path, small: Space, first: First, world: World) -> Begin:
    """Set up a search of the small lattice: `begin(rounds=2, batch=3)`."""

    def search(
        *, at: str = "runs", trains: World = world, device: Latencies | None = None, **changes: Any
    ) -> Search:
        usual = {"rounds": 2, "batch": 3, "acquisition__prefilter": 30, "acquisition__samples": 16}
        conf = asked(**(usual | changes))
        book = rounds.notebook(Store(tmp_path / at), "study", conf)
        return Search(small, conf, first, book, trains, device)

    return search


@pytest.fixture
def unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the surrogate's hyperparameters as they begin, and tell little: both take long."""
    monkeypatch.setattr(surrogate, "fit_gpytorch_mll", lambda likelihood: likelihood)
    monkeypatch.setattr(diagnostics, "SLICES", 1)
    monkeypatch.setattr(summary, "MOST", 9)


@pytest.fixture(scope="session")
def believed(small: Space, known: History) -> Belief:
    """What is believed after the first networks, to look at."""
    return Belief.from_history(known, SearchConfig())


@pytest.fixture(autouse=True)
def compiles_nothing(no_compiler: None) -> None:
    """Any of these tests may optimise."""
