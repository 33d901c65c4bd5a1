"""A small lattice, a made-up truth about its networks, and records that tell it with noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from ssr_exp.config import SearchConfig
from ssr_exp.rescaling import cost, planning, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.record import Record, Status
from ssr_exp.search import history, space
from ssr_exp.search.history import History
from ssr_exp.search.space import Space

Tell = Callable[..., Record]


@pytest.fixture(scope="session")
def small() -> Space:
    """512 networks: three segments of one or two blocks, four widths each."""
    plan = planning.trace(CifarResNet(14), (3, 8, 8), multiple=4)
    return space.from_plan(plan, width_steps=4)


def truth(own: Space, architecture: Architecture) -> float:
    """Rise with depth and width, with falling returns; percent."""
    x = own.features(cost.encode(own.plan, [architecture]))[0, :6].numpy()
    weights = np.array([3.0, 6.0, 2.0, 5.0, 1.0, 4.0])
    return 90 - 20 * math.exp(-float(x @ weights) / 5)


@pytest.fixture
def tell(small: Space, make_record: Callable[..., Record]) -> Tell:
    """Make the record of a network: the truth, and noise that its seed decides."""

    def told(architecture: Architecture, *, noise: float = 0.3, **fields: object) -> Record:
        seed = int(fields.get("seed", 0))  # type: ignore[call-overload]
        draw = np.random.default_rng([seed, *architecture.blocks, *architecture.widths])
        accuracy = min(truth(small, architecture) + noise * float(draw.normal()), 100.0)
        modifiers = small.plan.modifiers(architecture)
        own = cost.of(small.plan, architecture)._asdict()
        known: dict[str, object] = {
            "network": small.code(architecture),
            "model": "resnet14",
            "modifiers": {"depth": modifiers.depth, "width": modifiers.width},
            "blocks": architecture.blocks,
            "widths": small.plan.channels(architecture),
            "val_acc": accuracy,
            "val_loss": (100 - accuracy) / 30,
            "best_val_acc": accuracy,
            "status": Status.finished,
            **own,
            **{f"baseline_{k}": v for k, v in small.baseline._asdict().items()},
        }
        return make_record(**(known | fields))

    return told


@pytest.fixture(scope="session")
def first(small: Space) -> tuple[Architecture, ...]:
    """The baseline and all sentinels."""
    conf = SearchConfig().modifiers
    conf.kind = "sentinel_all"
    return tuple(sets.expand(small.plan, conf))


@pytest.fixture
def known(small: Space, tell: Tell, first: tuple[Architecture, ...]) -> History:
    """What is known after the first networks."""
    return history.from_records(small, [tell(architecture) for architecture in first])


@dataclass
class World:
    """A study whose trainings take no time."""

    space: Space
    tell: Tell
    records: list[Record] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    broken: dict[str, Status] = field(default_factory=dict)
    elsewhere_: list[Record] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    stop_after: int | None = None
    fetched: int = 0

    def train(self, networks: Sequence[str], origin: str) -> dict[str, object]:
        for network in networks:
            if self.stop_after is not None and len(self.trained) >= self.stop_after:
                raise KeyboardInterrupt
            self.trained.append(network)
            status = self.broken.get(network, Status.finished)
            own = {"status": status, "origin": origin} | (
                {} if status is Status.finished else {"val_acc": None, "error": "it broke"}
            )
            self.records = [r for r in self.records if r.network != network or r.val_acc]
            self.records.append(self.tell(self.space.parse(network), **own))
        return {}

    def fetch(self) -> None:
        self.fetched += 1

    def read(self) -> list[Record]:
        return list(self.records)

    def elsewhere(self) -> list[Record]:
        return self.elsewhere_

    def pending(self) -> set[str]:
        return self.busy

    def strangers(self) -> str:
        return ""


@pytest.fixture
def world(small: Space, tell: Tell) -> World:
    return World(small, tell)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep BoTorch from compiling its optional kernel, which takes half a minute."""
    from botorch.acquisition.multi_objective import logei

    monkeypatch.setattr(logei, "_load_attempted", True, raising=False)
