"""Say which labels hold for image files, with the network of this folder.

    python predict.py photo.jpg more/           the labels above one half, of each image
    python predict.py --above 0.3 photo.jpg     those above another probability
    python predict.py --json photo.jpg          one line of JSON for each image: all labels
    python predict.py --score table.csv         a table as the network learnt from: mAP

Needs Python 3.9, Pillow 10.1, NumPy and what runs the file: onnxruntime, executorch or torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UNKNOWN = "--score takes a table of images and their labels: name a .csv file"
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")  # cells of a label
FLAGS = dict.fromkeys(YES, True) | dict.fromkeys(NO, False)


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Add what only labels know."""
    parser.add_argument(
        "--above",
        type=probability,
        default=0.5,
        metavar="P",
        help="probability of what is shown (0.5)",
    )


def probability(text: str) -> float:
    """Read a probability."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability: type one from 0 to 1")
    return value


def predicted(logits: Any, about: dict[str, Any]) -> Any:
    """Turn logits into the probability of each label."""
    return ((1 + np.tanh(logits.astype(np.float64) / 2)) / 2).astype(np.float32)


def shown(
    chances: Any, file: Path, about: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Sort the labels of an image, the likeliest first; for people only those that hold."""
    order = np.argsort(-chances, kind="stable")
    kept = [i for i in order if options.json or chances[i] > options.above]
    return {"labels": {about["labels"][i]: float(chances[i]) for i in kept}}


def line(shown: dict[str, Any]) -> str:
    """Write what is shown of an image."""
    named = (f"{label} {100 * share:.1f} %" for label, share in shown["labels"].items())
    return ", ".join(named) or "no label"


def truth_of_file(file: Path, about: dict[str, Any], options: argparse.Namespace) -> Any:
    """Know nothing of a file that is in no table."""
    return None


def truth_of_row(row: dict[str, str], about: dict[str, Any]) -> Any:
    """Read the labels of a table's row: columns of 0 and 1, or one that lists them."""
    labels, columns = about["labels"], about["table"]["targets"]
    if columns != labels:
        held = {word.strip() for word in row[columns[0]].replace(";", "|").split("|")} - {""}
        if odd := sorted(held - set(labels)):
            raise ValueError(f"{columns[0]} names {odd[0]!r}, which is no label of this network")
        return [label in held for label in labels]
    cells = {column: row[column].casefold() for column in columns}
    for column in columns:  # a list of the only label names that
        if cells[column] not in FLAGS and row[column] != column:
            raise ValueError(f"{column} is {row[column]!r}, and a label is 1 or 0")
    return [FLAGS.get(cells[column], True) for column in columns]


def compared(chances: Any, truth: Any, about: dict[str, Any]) -> Any:
    """Keep both: the score is of all images together."""
    return chances, truth


def score(pairs: Sequence[Any], about: dict[str, Any]) -> str:
    """Write the mean of all labels' average precisions."""
    chances, truth = (np.array(part) for part in zip(*pairs))
    means = [average_precision(*columns) for columns in zip(chances.T, truth.T)]
    return f"{100 * sum(means) / len(means):.2f} % mAP of {len(pairs)} images"


def average_precision(chances: Any, truth: Any) -> float:
    """Return the precision at each threshold, weighted by the recall that it adds, 0 to 1.

    Everingham et al. 2010 (https://doi.org/10.1007/s11263-009-0275-4), without interpolation; equal
    probabilities are one threshold. As in the training, it is 0 for a label that never holds.
    """
    order = np.argsort(-chances, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(chances[order])), len(order) - 1)
    hits = np.cumsum(truth[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / max(hits[-1], 1))
