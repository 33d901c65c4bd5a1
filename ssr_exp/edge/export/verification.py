"""Whether a file does what the network did: outputs and accuracy on real images.

PyTorch runs the pixels that the network was trained by; a file runs the original image files, by
the `predict.py` that is shipped with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ssr_exp.edge.export.formats import Model
from ssr_exp.errors import SsrError


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images in memory."""

    name: str  # of the part of the data set: `val` or `test`
    images: Tensor  # normalised, `n x c x h x w`, float32; or bytes of pixels, if `mean` is given
    labels: Tensor  # `n`
    # whether the network learned from them, so that their accuracy flatters it
    learnt: bool = False
    files: tuple[Path, ...] = ()  # the original image files, if there are any
    # of each channel, in 0..1: what pixels are normalised by, a batch at a time
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] = ()  # likewise the standard deviation

    def batch(self, first: int, last: int) -> Tensor:
        """Return images `first` to `last`, without the last, as the network takes them."""
        part = self.images[first:last]
        if self.mean is None:
            return part
        mean, std = (torch.tensor(v)[None, :, None, None] for v in (self.mean, self.std))
        return (part.float() / 255 - mean) / std


@dataclass(frozen=True, eq=False)
class Originals:
    """Image files."""

    name: str  # of the part of the data set
    files: Sequence[Path]  # one for each image
    labels: Tensor  # `n`
    read: Callable[[Sequence[Path]], Tensor]  # makes images of files, as the network takes them

    def batch(self, first: int, last: int) -> Tensor:
        """Read images `first` to `last`, without the last."""
        return self.read(self.files[first:last])


Images = Labelled | Originals


@dataclass(frozen=True)
class Agreement:
    """How a file's outputs compare with PyTorch's."""

    difference: float  # the largest one of two logits, as a share of the largest logit
    agreement: float  # the share of images with the same prediction, in percent
    accuracy: dict[str, float]  # of the file on each part, in percent
    eager: dict[str, float]  # of PyTorch, likewise


def logits(model: Model, part: Images, *, batch: int) -> Tensor:
    """Run a model on images, the first one alone and then `batch` at a time; `n x classes`."""
    with torch.inference_mode():
        return torch.cat([model(images).clone() for images in _batches(part, batch)])


def compare(
    model: Model, expected: Sequence[Tensor], parts: Sequence[Images], *, batch: int
) -> Agreement:
    """Run a file, `batch` images at once, and compare it with PyTorch's logits of each part.

    Raises:
        SsrError: if its outputs have another shape, or are no numbers.
    """
    outputs = [logits(model, part, batch=batch) for part in parts]
    for ours, theirs in zip(outputs, expected, strict=True):
        if ours.shape != theirs.shape:
            raise SsrError(f"its outputs are {_shape(ours)}, and PyTorch's are {_shape(theirs)}")
        if not bool(ours.isfinite().all()):
            raise SsrError("some of its outputs are no finite numbers")
    joined, other = torch.cat(outputs), torch.cat(list(expected))
    largest = max(float(other.abs().max()), 1e-12)
    return Agreement(
        difference=float((joined - other).abs().max()) / largest,
        agreement=100 * float((joined.argmax(1) == other.argmax(1)).double().mean()),
        accuracy=_accuracies(outputs, parts),
        eager=_accuracies(expected, parts),
    )


def check(
    agreement: Agreement, parts: Sequence[Images], *, tolerance: float, most_drop: float | None
) -> None:
    """Refuse a file that does not do what the network did.

    Args:
        agreement: what it does.
        parts: the images whose accuracy counts.
        tolerance: the largest difference of logits, as a share of the largest logit.
        most_drop: for a quantised file, points of accuracy that it may lose instead; else None.

    Raises:
        SsrError: says what is wrong.
    """
    if most_drop is None:
        if not agreement.difference <= tolerance:
            raise SsrError(
                f"its outputs differ from PyTorch's by {agreement.difference:.2g} of the largest "
                f"one, and tolerance={tolerance:g} is allowed"
            )
        return
    for part in parts:
        drop = agreement.eager[part.name] - agreement.accuracy[part.name]
        if not drop <= most_drop:
            raise SsrError(
                f"it loses {drop:.2f} points of accuracy on {part.name}, and "
                f"int8_drop={most_drop:g} are allowed"
            )


def _accuracies(outputs: Sequence[Tensor], parts: Sequence[Images]) -> dict[str, float]:
    accuracies = {}
    for logits, part in zip(outputs, parts, strict=True):
        hits = (logits.argmax(1) == part.labels).double().mean() if len(part.labels) else math.nan
        accuracies[part.name] = 100 * float(hits)
    return accuracies


def _batches(part: Images, batch: int) -> Iterator[Tensor]:
    count = len(part.labels)
    yield part.batch(0, min(1, count))
    for first in range(1, count, batch):
        yield part.batch(first, min(first + batch, count))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
