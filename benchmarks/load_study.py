"""A folder of very many runs, as `train.py` leaves it: what `benchmarks.load` works with.

Its study is ResNet-110 on the embedded digits, whose lattice by default has 1,492,992 points. No
network of it was trained for this; **its outcomes are no results**. Those of the 609 networks of
`results/search/table.csv` are what these very networks gave in the study of that table (other
images, seed 0), since a small ResNet-20 is a small ResNet-110, too. All others are made up: the
logarithm of their error is the linear function of the surrogate's features that fits the real ones
best while no feature raises the error, and normal noise of `NOISE` points, drawn with `SEED`, is
added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import hydra
import numpy as np
from hydra.core.global_hydra import GlobalHydra
from numpy.typing import NDArray
from scipy import optimize

from benchmarks import replay_arms
from ssr_exp.app import configuration
from ssr_exp.config import Config
from ssr_exp.rescaling import cost, saved
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import proposal, provenance, studies, tables
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import CONFIG_FILE, LOCK_FILE, RECORD_FILE, Store
from ssr_exp.search import space
from ssr_exp.search.space import Space
from ssr_exp.training import answer_folder, opened_study
from ssr_exp.training.opened_study import OpenedStudy

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "results/search/table.csv"
WORDS = ("dataset=digits", "trainer=cpu", "logger=disabled")
NOISE, SEED = 0.5, 0
REAL, MADE_UP = "results/search/table.csv", "made up"  # devices of the records


def words(model: str, runs: Path) -> list[str]:
    """List the words of a command line that name the study."""
    return [f"model={model}", *WORDS, f"paths.runs={runs}"]


def opened(model: str, runs: Path) -> tuple[Config, OpenedStudy, Space]:
    """Compose and open the study, as `train.py` does."""
    configuration.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        conf = configuration.read(hydra.compose("train", overrides=words(model, runs)), Config)
    found = opened_study.open(conf)
    return conf, found, space.from_plan(found.plan, width_steps=conf.segment.width_steps)


def records(of: OpenedStudy, own: Space, count: int) -> list[Record]:
    """Make so many records of different networks: the baseline, the real ones, then others."""
    real = _real(own)
    drawn = own.lattice.sample(min(count + len(real), len(own.lattice)), seed=SEED)
    wanted = dict.fromkeys([own.plan.baseline, *real, *drawn])
    networks = list(wanted)[:count]
    accuracies = _made_up(own, networks, real) | real
    return [_record(of, own, a, accuracies[a], real=a in real) for a in networks]


def _real(own: Space) -> dict[Architecture, float]:
    """Read what the table's networks gave, on val in percent; no baseline of ours is among them."""
    rows = [row for row in tables.read(TABLE) if row.seed == SEED]
    found = {own.parse(row.network): row.val_acc or 0.0 for row in rows}
    found.pop(own.plan.baseline, None)
    return found


def _made_up(
    own: Space, networks: Sequence[Architecture], real: dict[Architecture, float]
) -> dict[Architecture, float]:
    """Make up what networks give: more of anything never raises the error, as in the fit."""

    def terms(some: Sequence[Architecture]) -> NDArray[np.float64]:
        X = own.features(cost.encode(own.plan, some)).numpy()
        return np.concatenate([X, np.ones((len(X), 1))], axis=1)

    rise = np.array([0.0] * own.features(own.lattice.points([0])).shape[1] + [np.inf])
    errors = np.log(100 - np.array(list(real.values())))
    weights = optimize.lsq_linear(terms(list(real)), errors, bounds=(-np.inf, rise)).x
    noise = NOISE * np.random.default_rng(SEED).normal(size=len(networks))
    accuracies = (100 - np.exp(terms(networks) @ weights) + noise).clip(0, 100).round(2)
    return dict(zip(networks, accuracies.tolist(), strict=True))


def _record(
    of: OpenedStudy, own: Space, network: Architecture, accuracy: float, *, real: bool
) -> Record:
    made = replay_arms.record(own, network, accuracy)
    named = {"study": of.name, "model": of.fields["model"]["name"], "dataset": "digits"}
    about = {
        "val_loss": round(-np.log(max(accuracy, 1.0) / 100), 4),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "started_at": "2026-01-01T00:00:00+00:00",
        "origin": "explicit" if real else "random",
        "wall_s": 10.0,
        "device": REAL if real else MADE_UP,
    }
    return made.model_copy(update=named | about)


def fill(model: str, runs: Path, count: int) -> Path:
    """Write a study of so many finished runs; returns the list of its networks.

    Locks and configurations lie beside the records, as after a training.
    """
    conf, of, own = opened(model, runs)
    store = Store(runs)
    asked = provenance.to_json(asdict(conf))
    made = records(of, own, count)
    for record in made:
        folder = store.folder(of.name, record.network, record.seed)
        folder.mkdir(parents=True)
        (folder / LOCK_FILE).touch()
        (folder / CONFIG_FILE).write_text(asked)
        (folder / RECORD_FILE).write_text(record.to_json())
    folder = store.study_folder(of.name)
    about = answer_folder.describe(of, conf)
    (folder / studies.FILE).write_text(provenance.to_json(of.fields))
    (folder / saved.NETWORK).write_text(provenance.to_json(about.model_dump(mode="json")))
    listed = proposal.Proposal(
        study=of.name, networks=tuple(r.network for r in made), created_at="2026-01-01"
    )
    path = runs.parent / "networks.json"
    path.write_text(json.dumps(listed.model_dump(mode="json")))
    return path
