"""How well latencies of a lattice are predicted from at most 60 measured networks.

The held-out networks are drawn evenly from the lattice, and measured in the same interleaved run as
those that the model is fitted to. The requirement is that of ResNet-56 in ONNX Runtime, one image.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Figure
from ssr_exp.config import LatencyConf, ModelConf, SegmentConf
from ssr_exp.edge import measured_networks
from ssr_exp.edge.latency import table
from ssr_exp.edge.latency.table import Subject
from ssr_exp.rescaling import lattice

PART = "latency_model"
REQUIRED = ("resnet56", "onnxruntime", 1)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    settings: tuple[tuple[str, str, int], ...] = (
        REQUIRED,
        ("resnet56", "eager", 1),
        ("resnet18", "onnxruntime", 1),
    )
    networks: int = 48
    held_out: int = 12
    repeats: int = 30
    spread: float = 0.5


SMOKE = Size((("resnet14", "eager", 1),), networks=8, held_out=4, repeats=1, spread=1e9)


def measured(size: Size) -> list[Figure]:
    """Measure a sample of each lattice, fit, and compare with what was held out."""
    return [figure for setting in size.settings for figure in _of(*setting, size=size)]


def _of(name: str, runtime: str, batch: int, *, size: Size) -> list[Figure]:
    study = measured_networks.untrained(
        ModelConf(name), SegmentConf(), num_classes=10, input_shape=(3, 32, 32)
    )
    points = lattice.from_plan(study.plan)
    subject = Subject(study.seed, study.seed_network, points)
    effort = LatencyConf(
        networks=size.networks, held_out=size.held_out, repeats=size.repeats, spread=size.spread
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.json"
        found = table.start(subject, table.here(runtime, batch=batch), path, effort)
    check = found.check()
    label = f"{name}, {runtime}, batch {batch}"
    print(f"{label}: {check}")
    middle, high = np.quantile(check.errors, (0.5, 0.9))
    at_most = 0.1 if (name, runtime, batch) == REQUIRED else None
    spread = (float(min(check.errors)), float(max(check.errors)))
    tried = [
        Figure(PART, f"{label}: {kind}, median error in cross-validation", error)
        for kind, error in check.model.errors.items()
    ]
    return [
        Figure(PART, f"{label}: networks of the lattice", float(points.size)),
        Figure(PART, f"{label}: networks measured", float(len(found.table.rows)), at_most=60),
        Figure(PART, f"{label}: held-out error, median", float(middle), "", spread, None, at_most),
        Figure(PART, f"{label}: held-out error, nine in ten", float(high)),
        *tried,
    ]
