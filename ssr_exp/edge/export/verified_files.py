"""Files of a network for the device: written, run, and kept if they do what it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp import command_options
from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import formats, output_kinds, verification
from ssr_exp.edge.export.exported import EAGER, ExportedFile
from ssr_exp.edge.export.formats import Order
from ssr_exp.edge.export.output_kinds import OutputKind
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.edge.export.verification import DrawnSamples, Originals, Part, Reference, Samples
from ssr_exp.edge.latency import runtimes, stopwatch
from ssr_exp.edge.latency.runtimes import Runner
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError, cause
from ssr_exp.runs.score import PERCENT, Score, is_drop

log = logging.getLogger(__name__)

STEM = "model"
USUAL_DROP = "2"  # points of a score in percent; of any other, percent of the network's own


def most_drop(request: ExportConfig, score: Score, reference: float) -> float:
    """Read what int8 may lose against the network's own score, in the score's unit.

    Raises:
        SsrError: if it is neither a number nor a share.
    """
    usual = USUAL_DROP if score.unit == PERCENT else f"{USUAL_DROP}%"
    asked = usual if request.int8_drop is None else str(request.int8_drop)
    return score.read_drop(asked, reference, "int8_drop", whose="the network's own")


def check_most_drop(request: ExportConfig) -> None:
    """Refuse an `int8_drop` that is none, before its network and that one's score are known.

    Raises:
        SsrError: says what it may be.
    """
    if (asked := request.int8_drop) is not None and not is_drop(str(asked)):
        raise SsrError(
            f"int8_drop={asked} is not a drop: type a number in the score's unit, 0 or more, or a "
            "share of the network's own score such as int8_drop=2%."
        )


@dataclass(frozen=True, eq=False)
class Work:
    """An export that is being made."""

    chosen: Selection  # the network
    request: ExportConfig  # what is asked for
    how: Preprocessing | None  # what is done to an image file; None: it is not known
    # what PyTorch does on the parts that the network was trained and compared by, the first is val
    references: Sequence[Reference]
    predictor: Predictor | None  # runs the script that is shipped, where there is one
    originals: Sequence[Part | Originals]  # what files are run on, of each part
    folder: Path  # where the files are written

    @property
    def val(self) -> Part:
        """What files are quantised by, and timed with."""
        return self.references[0].part

    @property
    def network(self) -> nn.Module:
        """What the files hold."""
        return self.val.network if isinstance(self.val, DrawnSamples) else self.chosen.network

    @property
    def kind(self) -> OutputKind:
        """What the network puts out."""
        return output_kinds.of(self.chosen.task)

    def order(self, *, int8: bool) -> Order:
        """Say what a file must hold."""
        return Order(
            self.network,
            self.chosen.about,
            self.request.max_batch,
            self.images(self.request.calibration) if int8 else None,
            self.request.uint8_input,
            self.how,
            self.kind,
        )

    def images(self, count: int) -> Any:
        """Take inputs from all over val as files take them."""
        val = self.val.spread(count) if isinstance(self.val, Samples) else self.val
        if self.request.uint8_input and isinstance(val, Samples):
            return val.images
        return val.batch(0, count)


def write(work: Work) -> tuple[list[ExportedFile], list[str]]:
    """Write and verify all files; returns those that passed, and why others did not.

    Where the float32 file of a format fails, its int8 file is not tried: nobody would notice there
    that the outputs are others, and not only rounded.
    """
    files, failed = [], []
    for name, precisions in _asked(work.request).items():
        for int8 in precisions:
            label = f"{name}{' int8' if int8 else ''}"
            log.info("writing %s ...", label)
            try:
                files.append(_file(work, name, int8=int8))
            except SsrError as error:
                failed.append(f"{label}: {str(error).rstrip('.')}")
                log.warning("%s failed: %s", label, error)
                break
    return files, failed


def asked(request: ExportConfig) -> set[str]:
    """Name the files that are asked for."""
    pairs = ((name, int8) for name, each in _asked(request).items() for int8 in each)
    return {_name(name, int8=int8) for name, int8 in pairs}


def _asked(request: ExportConfig) -> dict[str, tuple[bool, ...]]:
    """List the formats that are asked for, and of each whether its files are quantised."""
    both = {name for name in request.format if request.int8 and formats.find(name).QUANTISES}
    return {name: (False, True) if name in both else (False,) for name in request.format}


def _name(name: str, *, int8: bool) -> str:
    """Name the file of a format."""
    return f"{STEM}{'.int8' if int8 else ''}{formats.find(name).SUFFIX}"


def _file(work: Work, name: str, *, int8: bool) -> ExportedFile:
    """Write one file and verify it; one that fails is gone.

    Raises:
        SsrError: says why it failed.
    """
    kind = formats.find(name)
    path = work.folder / _name(name, int8=int8)

    def put(path: Path) -> tuple[str, ...]:
        return kind.write(work.order(int8=int8), path)

    return verified(work, name, path, put, int8=int8)


def verified(
    work: Work,
    name: str,
    path: Path,
    put: Callable[[Path], tuple[str, ...]],
    *,
    int8: bool,
    tolerance: float | None = None,
    max_batch: int | None = None,
) -> ExportedFile:
    """Put a file in its place and verify it; one that fails is gone.

    Args:
        work: the export.
        name: of the file's format.
        path: where it is put.
        put: puts it there, and returns what its user should know.
        int8: whether it is quantised.
        tolerance: the largest difference of outputs; None: what the request allows, of a quantised
            file by its score alone. Where one is given, its score counts if `int8_drop` is typed.
        max_batch: inputs at once that it was made for; None: as many as the request says. Fewer are
            for a network of images alone.

    Raises:
        SsrError: says why it failed.
    """
    kind, request = formats.find(name), work.request
    try:
        remarks = put(path)
        try:
            kind.load(path, threads=request.threads)
        except SsrError as error:  # what is known of its operators says why
            raise SsrError(f"{str(error).rstrip('.')}; {'; '.join(remarks)}") from error
        load = kind.load if work.predictor is None else work.predictor.model
        model = load(path, threads=request.threads)
        if max_batch is not None and max_batch < request.max_batch:
            model = _in_turns(model, max_batch)
        agreement = verification.compare(
            model,
            work.references,
            work.originals,
            batch=request.max_batch,
            predictions=work.kind.predictions,
        )
        score = work.chosen.record.scored_by
        drops = {part: most_drop(request, score, own) for part, own in agreement.eager.items()}
        most = request.tolerance if tolerance is None else tolerance
        if tolerance is not None or not int8:
            verification.check(agreement, score, tolerance=most)
        if int8 and (tolerance is None or request.int8_drop is not None):
            verification.check(agreement, score, tolerance=most, drops=drops)
    except Exception as error:  # a runtime may raise anything
        path.unlink(missing_ok=True)
        if isinstance(error, SsrError | OSError):
            raise
        raise SsrError(f"{kind.version()} stopped with {cause(error)}") from error
    size = path.stat().st_size
    about = (path.name, name, int8, kind.version(), size)
    return ExportedFile(*about, agreement, max_batch or request.max_batch, remarks)


def _in_turns(model: formats.Model, batch: int) -> formats.Model:
    """Give a file no more inputs at once than it takes."""

    def run(images: Tensor) -> Tensor:
        # its outputs may lie in memory that its next run overwrites
        return torch.cat([model(part.contiguous()).clone() for part in images.split(batch)])

    return run


def latencies(work: Work, files: Sequence[ExportedFile]) -> dict[str, Latency]:
    """Measure one sample in PyTorch and in all files, in turn."""
    request, val = work.request, work.val
    image, taken = val.batch(0, 1), work.images(1)
    eager = runtimes.find("eager").prepare(work.network, image, request.threads)
    runners: dict[str, Runner] = {EAGER: eager}
    for one in files:
        load = formats.find(one.format).load
        runners[one.file] = partial(load(work.folder / one.file, threads=request.threads), taken)
    measured = stopwatch.interleaved(runners, repeats=request.repeats)
    if max(latency.spread for latency in measured.values()) > command_options.NOISY:
        log.warning("this machine is noisy: see the quartiles before you believe a latency")
    return measured
