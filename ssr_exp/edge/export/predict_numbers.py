"""Predict numbers from image files with the network of this folder.

    python predict.py photo.jpg more/           the numbers of each image
    python predict.py --json photo.jpg          one line of JSON for each image
    python predict.py --score table.csv         a table as the network learnt from: the errors

Needs Python 3.9, Pillow 10.1, NumPy and what runs the file: onnxruntime, executorch or torch.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UNKNOWN = "--score takes a table of images and their numbers: name a .csv file"


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Add nothing."""


def predicted(standardised: Any, about: dict[str, Any]) -> Any:
    """Turn outputs into numbers in the unit of the targets."""
    rows = standardised.reshape(len(standardised), -1).astype(np.float64)
    return np.array(about["target_mean"]) + np.array(about["target_std"]) * rows


def shown(
    numbers: Any, file: Path, about: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Name the numbers of an image."""
    named = dict(zip(about["labels"], map(float, numbers)))
    return {"numbers": named, "unit": about["unit"]}


def line(shown: dict[str, Any]) -> str:
    """Write what is shown of an image."""
    values = (f"{name} {value:.6g}" for name, value in shown["numbers"].items())
    return ", ".join(f"{value} {shown['unit']}".rstrip() for value in values)


def truth_of_file(file: Path, about: dict[str, Any], options: argparse.Namespace) -> Any:
    """Know nothing of a file that is in no table."""
    return None


def truth_of_row(row: dict[str, str], about: dict[str, Any]) -> Any:
    """Read the numbers of a table's row."""
    values = []
    for column in about["table"]["targets"]:
        try:
            values.append(float(row[column]))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise ValueError(f"{column} is {row[column]!r}, which is no number")
    return values


def compared(numbers: Any, truth: Any, about: dict[str, Any]) -> Any:
    """Return how much too large each number is."""
    return numbers - np.array(truth)


def score(errors: Sequence[Any], about: dict[str, Any]) -> str:
    """Write the root of the mean squared error, and the mean absolute one."""
    every, unit = np.array(errors), f" {about['unit']}".rstrip()
    rmse, mae = math.sqrt(np.mean(every**2)), float(np.mean(np.abs(every)))
    return f"rmse {rmse:.4g}{unit}, mae {mae:.4g}{unit} of {len(every)} images"
