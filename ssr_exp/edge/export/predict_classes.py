"""Classify image files with the network of this folder.

    python predict.py photo.jpg more/           the likeliest labels of each image
    python predict.py --model model.pte --top 3 photo.jpg
    python predict.py --json photo.jpg          one line of JSON for each image
    python predict.py --score val/              images in folders named by their label: accuracy
    python predict.py --score table.csv         a table as the network learnt from: accuracy

Needs Python 3.9, Pillow 10.1, NumPy and what runs the file: onnxruntime, executorch or torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UNKNOWN = "no folder within what was named is a label, and no table was: leave out --score"


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Add what only classification knows."""
    parser.add_argument("--top", type=count, default=3, help="labels of each image (3)")


def predicted(logits: Any, about: dict[str, Any]) -> Any:
    """Turn logits into probabilities, each row's sum being 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def shown(
    chances: Any, file: Path, about: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Keep the likeliest labels of an image."""
    best = np.argsort(-chances)[: options.top]
    return {"labels": {about["labels"][i]: float(chances[i]) for i in best}}


def line(shown: dict[str, Any]) -> str:
    """Write what is shown of an image."""
    return ", ".join(f"{label} {100 * share:.1f} %" for label, share in shown["labels"].items())


def truth_of_file(file: Path, about: dict[str, Any], options: argparse.Namespace) -> Any:
    """Name the nearest folder above a file that is a label, and say so; None if none is.

    Above a folder that was named nothing counts, nor above a named file's own folder.
    """
    above, named = file.absolute().parents, {Path(one).absolute() for one in options.images}
    end = next((place for place, folder in enumerate(above) if folder in named), 0)
    names = [folder.name for folder in list(above)[: end + 1]]
    return next(((name, "folder") for name in names if name in about["labels"]), None)


def truth_of_row(row: dict[str, str], about: dict[str, Any]) -> Any:
    """Read the label of a table's row, and say so."""
    (column,) = about["table"]["targets"]
    if row[column] not in about["labels"]:
        raise ValueError(f"{column} is {row[column]!r}, which is no label of this network")
    return row[column], "table"


def compared(chances: Any, truth: tuple[str, str], about: dict[str, Any]) -> Any:
    """Say whether the likeliest label is the true one, and what names that."""
    label, source = truth
    return about["labels"][int(np.argmax(chances))] == label, source


def score(hits: Sequence[Any], about: dict[str, Any]) -> str:
    """Write the accuracy."""
    where = " or ".join(sorted({source for _, source in hits}))
    share = 100 * sum(hit for hit, _ in hits) / len(hits)
    return f"{share:.2f} % of {len(hits)} images have the label of their {where}"
