"""Whether a file does what the network did: its outputs, and its score, on real inputs.

PyTorch runs the pixels that the network was trained by; a file runs the original image files, by
the `predict.py` that is shipped with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.edge.export.formats import Model
from ssr_exp.edge.export.formats.flat import FlatNetwork, Tensors
from ssr_exp.errors import SsrError
from ssr_exp.outputs import tensors
from ssr_exp.runs.score import Score

MOST_KEPT = 2**26  # numbers that PyTorch puts out on a part, which are kept for all files

Measure = Callable[[Model, Iterator[Tensor]], float]
"""Scores a model. It is given, too, what the model puts out on a part, batch for batch in order;
a measure that runs the model by itself need not look at that."""


class LosesTooMuch(SsrError):
    """A quantised file scores worse than `int8_drop` allows."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a network from a part of the data set."""

    name: str  # of the part of the data set: `val` or `test`
    # normalised, `n x c x h x w`, float32; or bytes of pixels, if `mean` is given
    images: Tensor | FilePixels
    measure: Measure | None = None  # None: only outputs are compared
    # whether the network learned from them, so that their score flatters it
    learnt: bool = False
    files: Sequence[Path] = ()  # the original image files, if there are any
    # of each channel, in 0..1: what pixels are normalised by, a batch at a time
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] = ()  # likewise the standard deviation
    # whether `measure` is validation of the user's own, by all of val, of which these are a part
    own_validation: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, first: int, last: int) -> Tensor:
        """Return images `first` to `last`, without the last, as the network takes them."""
        part = self.images[first:last]
        if self.mean is None:
            return part
        mean, std = (torch.tensor(v)[None, :, None, None] for v in (self.mean, self.std))
        return (part.float() / 255 - mean) / std

    def spread(self, count: int) -> Samples:
        """Keep at most `count` images from all over the part: those of a folder lie by class."""
        at = torch.linspace(0, len(self) - 1, min(count, len(self))).round().long()
        return replace(self, images=self.images[at], files=())


@dataclass(frozen=True, eq=False)
class DrawnSamples:
    """Inputs of a network of any signature, drawn in the ranges that it was traced with."""

    network: FlatNetwork
    count: int = 16
    name: str = "drawn"
    measure: None = None  # nothing says what is right
    learnt: bool = False

    def __len__(self) -> int:
        return self.count

    def run(self, batch: Tensors) -> Tensors:
        """Run PyTorch's network as files are run."""
        outputs: Tensors = self.network(*batch)
        return outputs

    def batch(self, first: int, last: int) -> Tensors:
        """Draw inputs `first` to `last`, without the last."""
        return self.network.draw(last - first, seed=first)


@dataclass(frozen=True, eq=False)
class Originals:
    """Image files."""

    files: Sequence[Path]  # one for each image
    read: Callable[[Sequence[Path]], Tensor]  # makes images of files, as the network takes them

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, first: int, last: int) -> Tensor:
        """Read images `first` to `last`, without the last."""
        return self.read(self.files[first:last])


Part = Samples | DrawnSamples


@dataclass(frozen=True, eq=False)
class Reference:
    """What PyTorch does on a part."""

    part: Part
    outputs: Callable[[], Iterable[Any]]  # batch for batch
    score: float | None  # None: nothing says how good they are


@dataclass(frozen=True)
class Agreement:
    """How a file's outputs compare with PyTorch's."""

    difference: float  # the largest one of two outputs, as a share of the largest output
    agreement: float | None  # the share of predictions that are the same, in percent; None: none
    scores: dict[str, float]  # of the file on each part, in the score's unit
    eager: dict[str, float]  # of PyTorch, likewise


def outputs(model: Model, inputs: Part | Originals, *, batch: int) -> Iterator[Any]:
    """Run a model on inputs, the first one alone and then `batch` at a time.

    Yields the output that counts; of a `FlatNetwork` a tuple of all.
    """
    starts = [0, *range(1, len(inputs), batch)] if len(inputs) else []
    for first, last in zip(starts, [*starts[1:], len(inputs)], strict=True):
        with torch.inference_mode():  # never while another's code runs
            taken = inputs.batch(first, last)
            if isinstance(taken, tuple):
                counted: Any = tuple(tensor.clone() for tensor in model(taken))
            else:
                counted = next(tensors(model(taken))).clone()
        yield counted


def reference(network: Model, part: Part, *, batch: int) -> Reference:
    """Run PyTorch's network; its outputs are kept, or where they are many made anew each time."""
    kept: list[Any] = []
    count = 0

    def keeping() -> Iterator[Any]:
        nonlocal count
        for one in outputs(network, part, batch=batch):
            count += sum(tensor.numel() for tensor in _all(one))
            kept.append(one)
            if count > MOST_KEPT:
                kept.clear()
            yield one

    score = _score(part.measure, network, keeping())
    anew = count > MOST_KEPT
    return Reference(part, lambda: outputs(network, part, batch=batch) if anew else kept, score)


def compare(
    model: Model,
    references: Sequence[Reference],
    originals: Sequence[Part | Originals],
    *,
    batch: int,
    predictions: Callable[[Tensor], Tensor] | None = None,
) -> Agreement:
    """Run a file, and compare it with what PyTorch does on each part.

    Args:
        model: the file.
        references: of each part.
        originals: what the file is run on, of each part.
        batch: inputs at once, as of the references.
        predictions: what outputs say.

    Raises:
        SsrError: if its outputs have another shape, or are no numbers.
    """
    seen, scores, eager = _Comparison(predictions), {}, {}
    for known, inputs in zip(references, originals, strict=True):
        ours = outputs(model, inputs, batch=batch)
        score = _score(known.part.measure, model, seen.watch(ours, known.outputs()))
        if score is not None and known.score is not None:
            scores[known.part.name], eager[known.part.name] = score, known.score
    return Agreement(seen.difference(), seen.agreement(), scores, eager)


class _Comparison:
    """Counts how far outputs are from those that are expected."""

    def __init__(self, predictions: Callable[[Tensor], Tensor] | None) -> None:
        self._predictions = predictions
        self._farthest: dict[int, Tensor] = {}
        self._largest: dict[int, Tensor] = {}
        self._same = self._count = 0

    def watch(self, ours: Iterable[Any], expected: Iterable[Any]) -> Iterator[Any]:
        """Hand outputs on, and count them.

        Raises:
            SsrError: if they have another shape, or are no numbers.
        """
        for one, other in zip(ours, expected, strict=True):
            for number, pair in enumerate(zip(_all(one), _all(other), strict=True)):
                self._compare(number, *pair)
            if self._predictions is not None:
                same = self._predictions(one) == self._predictions(other)
                self._same, self._count = self._same + int(same.sum()), self._count + same.numel()
            yield one

    def _compare(self, number: int, one: Tensor, other: Tensor) -> None:
        if one.shape != other.shape:
            raise SsrError(f"its outputs are {_shape(one)}, and PyTorch's are {_shape(other)}")
        if not bool(one.isfinite().all()):
            raise SsrError("some of its outputs are no finite numbers")
        if not (one.is_floating_point() or one.is_complex()):
            one, other = one.double(), other.double()
        nothing = torch.zeros(())
        # these maxima keep what is no number
        for farthest, value in ((self._farthest, one - other), (self._largest, other)):
            if value.numel():
                most = value.abs().max()
                farthest[number] = torch.maximum(farthest.get(number, nothing.to(most)), most)

    def difference(self) -> float:
        shares = (
            float(far / self._largest[number].clamp_min(1e-12))
            for number, far in self._farthest.items()
        )
        return max(shares, default=0.0)

    def agreement(self) -> float | None:
        return 100 * self._same / self._count if self._count else None


def check(
    agreement: Agreement,
    score: Score,
    *,
    tolerance: float,
    drops: Mapping[str, float] | None = None,
) -> None:
    """Refuse a file that does not do what the network did.

    Args:
        agreement: what it does.
        score: how it is judged on val.
        tolerance: the largest difference of outputs, as a share of the largest output.
        drops: for a quantised file, what it may lose of the score of each part instead.

    Raises:
        SsrError: says what is wrong; `LosesTooMuch` of a score.
    """
    if drops is None:
        if not agreement.difference <= tolerance:
            raise SsrError(
                f"its outputs differ from PyTorch's by {agreement.difference:.2g} of the largest "
                f"one, and tolerance={tolerance:g} is allowed"
            )
        return
    for part, most in drops.items():
        drop = score.drop(agreement.scores[part], agreement.eager[part])
        if not drop <= most:
            raise LosesTooMuch(
                f"it loses {score.drop_text(drop)} of {score.on(part).name}, and int8_drop allows "
                f"{score.short_drop(most)}"
            )


def _score(measure: Measure | None, model: Model, given: Iterator[Tensor]) -> float | None:
    score = None if measure is None else measure(model, given)
    for _ in given:  # what the measure did not look at is compared, too
        pass
    return score


def _all(outputs: Any) -> Tensors:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
