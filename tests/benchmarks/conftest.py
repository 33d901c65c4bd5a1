"""A store with one study, the table that is gathered from it, and no compiler."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import replay_arms, table_of_networks
from benchmarks.table_of_networks import Table
from ssr_exp.config import ModifiersConf
from ssr_exp.rescaling import cost, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.search.space import Space

STUDY = "resnet14-image_folder-0a1b2c3d"
LATTICE = {
    "model": "resnet14",
    "shortcut": "A",
    "multiple": 4,
    "width_steps": 4,
    "input_shape": [3, 8, 8],
    "num_classes": 10,
}


@pytest.fixture(autouse=True)
def compiles_nothing(no_compiler: None) -> None:
    """Any of these tests may optimise."""


@pytest.fixture(scope="session")
def small() -> Space:
    """512 networks: three segments of one or two blocks, four widths each."""
    return table_of_networks.spanned(**LATTICE)  # type: ignore[arg-type]


def accuracy(own: Space, architecture: Architecture, seed: int = 0) -> float:
    """Rise with depth and width, with falling returns, and noise; percent."""
    x = own.features(cost.encode(own.plan, [architecture]))[0, :6].numpy()
    draw = np.random.default_rng([seed, *architecture.blocks, *architecture.widths]).normal()
    rise = float(x @ np.array([3.0, 6.0, 2.0, 5.0, 1.0, 4.0]))
    return round(60 - 20 * math.exp(-rise / 5) + 0.3 * float(draw), 2)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, small: Space) -> Path:
    """A store with one study: all sentinels with two seeds, 40 other networks, a failure."""
    folder = tmp_path_factory.mktemp("study")
    runs, images = folder / "runs", folder / "images"
    for part, name in itertools.product(("train", "val"), "abcdefghij"):
        (images / part / name).mkdir(parents=True)
        (images / part / name / "0.jpg").touch()
    conf = {"dataset": {"root": str(images), "resize": 8}, "segment": {"width_steps": 4}}
    sentinels = tuple(sets.expand(small.plan, ModifiersConf("sentinel_all")))
    others = [a for a in small.lattice.sample(80, seed=1) if a not in sentinels]
    trained = [(a, seed) for a in sentinels for seed in (0, 1)] + [(a, 0) for a in others[:40]]
    records = Store(runs)
    for architecture, seed in trained:
        made = replay_arms.record(small, architecture, accuracy(small, architecture, seed))
        _write(records, conf, made.model_copy(update={"seed": seed}))
    failed = {"status": Status.failed, "val_acc": None}
    _write(records, conf, replay_arms.record(small, others[40], 50).model_copy(update=failed))
    study = {"model": {"name": "resnet14", "shortcut": "A"}, "segment": {"multiple": 4}}
    (runs / STUDY / "study.json").write_text(json.dumps(study))
    return runs


def _write(store: Store, conf: dict[str, Any], record: Record) -> None:
    folder = store.folder(STUDY, record.network, record.seed)
    store.write(folder, record.model_copy(update={"study": STUDY}))
    (folder / "config.json").write_text(json.dumps(conf))


@pytest.fixture(scope="session")
def gathered(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "table.csv"
    table_of_networks.gather(store, path)
    return path


@pytest.fixture(scope="session")
def table(gathered: Path) -> Table:
    return table_of_networks.load(gathered)
