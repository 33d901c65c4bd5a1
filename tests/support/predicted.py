"""Predictions to show, to write and to read."""

from __future__ import annotations

from typing import Any

from ssr_exp.runs.predictions import Look, Predictions
from ssr_exp.runs.score import ACCURACY

STUDY = "resnet20-digits-0a1b2c3d"


def look(number: int = 0, runs: int = 8, **fields: Any) -> Look:
    """Make a look: `look(2, 12, rmse=0.1)`."""
    usual: dict[str, Any] = {"rmse": 0.5, "spread": 1.5, "spearman": 0.9, "noise": 0.25}
    usual |= {"coverage": (0.5, 0.75, 1.0), "hypervolume": 3.5}
    return Look(round=number, runs=runs, **(usual | fields))


def lattice(**columns: Any) -> dict[str, Any]:
    """Make a sample of two points: `lattice(mean=[90.0, 91.0])`."""
    usual = {"size": 512, "network": ["d1_w4", "d1_w8"], "params": [10, 20], "macs": [100, 200]}
    usual |= {"gemms": [5, 5], "latency_ms": None}
    usual |= {"mean": [90.0, 91.0], "low": [89.0, 90.0], "high": [91.0, 92.0]}
    return usual | columns


def predictions(*looks: Look, **fields: Any) -> Predictions:
    """Make predictions of a study: `predictions(look(0, 8), search="tradeoff-1")`."""
    looks = looks or (look(),)
    ends = {"measured": 90.0, "predicted": 91.0, "low": 89.0, "high": 92.0, "z": -1.0}
    usual: dict[str, Any] = {
        "study": STUDY,
        "search": "tradeoff-00000000",
        "outcome": ACCURACY,
        "score": ACCURACY,
        "levels": (0.5, 0.8, 0.95),
        "created_at": "2026-01-01T00:00:00+00:00",
        "looks": looks,
        "rounds": [{"number": 0, "planned": [{"network": "d1_w4"}]}],
        "left_out": [{"network": "d1_w4", "seed": 0, **ends}],
        "sensitivities": [{"segment": "stage1", "kind": "depth", "effect": 1.5}],
        "lattice": lattice(),
        "latency": None,
        "max_drop": 1.0,
        "seen": looks[-1].runs,
    }
    return Predictions.model_validate(usual | fields)
