"""What a network's outputs are, by the task that it learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ssr_exp.config import TaskKind


@dataclass(frozen=True)
class OutputKind:
    """What a file puts out.

    Attributes:
        name: of the output in the file.
        shape: in words, `{n}` being how many classes, labels or numbers there are.
        meaning: of its numbers.
        work: what the network does, in words.
        printed: what `predict.py` prints, in words.
        made: what `predict.predicted` makes of them, in words.
        lines: of Python, that print what it makes of `outputs`.
        tag: of the Hugging Face Hub, how such networks are used; None: it has none.
        predictions: what outputs say: a file's are counted where they are PyTorch's. None where
            there is nothing to count.
    """

    name: str
    shape: str
    meaning: str
    work: str
    printed: str
    made: str = ""
    lines: str = ""
    tag: str | None = None
    predictions: Callable[[Tensor], Tensor] | None = None


def _largest(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def _above_half(logits: Tensor) -> Tensor:
    return logits > 0


NAMED = """for numbers in predict.predicted(outputs, predict.ABOUT).tolist():
    print(dict(zip(predict.ABOUT["labels"], numbers)))"""
SHARES = """for mask in predict.predicted(outputs, predict.ABOUT):
    print({label: float((mask == n).mean()) for n, label in enumerate(predict.ABOUT["labels"])})"""
LOGITS = OutputKind(
    "logits",
    "batch x {n}",
    "one for each label; softmax makes them probabilities",
    "classifying images into {n} classes",
    "the labels of image files and their probabilities",
    "the probability of each label, which are 1 together",
    NAMED,
    "image-classification",
    _largest,
)
ANY = OutputKind(
    "output", "batch x ...", "what the network puts out", "trained by its own project", "outputs"
)
KINDS: dict[str, OutputKind] = {
    TaskKind.classification: LOGITS,
    TaskKind.multilabel: OutputKind(
        "logits",
        "batch x {n}",
        "one for each label; sigmoid makes each a probability",
        "saying which of {n} labels hold for an image",
        "the labels that hold for image files, and their probabilities",
        "the probability of each label",
        NAMED,
        "image-classification",
        _above_half,
    ),
    TaskKind.regression: OutputKind(
        "standardised",
        "batch x {n}",
        "one for each number; target_mean + target_std * standardised are the predictions",
        "predicting numbers from an image",
        "the numbers of image files, in their unit",
        "the predictions",
        NAMED,
    ),
    TaskKind.segmentation: OutputKind(
        "logits",
        "batch x {n} x height x width",
        "one for each class and pixel; the largest of a pixel names its class",
        "naming the class of each pixel, of {n}",
        "the share of each class in image files, and writes a mask of each into `predicted/`",
        "the class of each pixel, by its place among the labels; the lines print their shares",
        SHARES,
        "image-segmentation",
        _largest,
    ),
}


def of(task: str) -> OutputKind:
    """Say what a network puts out by what it learnt; of another task than ours little is known."""
    return KINDS.get(task, ANY)
