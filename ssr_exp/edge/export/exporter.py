"""Hand over a trained network as files for the device, each of them verified before it counts."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ssr_exp import replaced_folder
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import formats, model_card, verification
from ssr_exp.edge.export import predictor as standalone
from ssr_exp.edge.export.formats import Format, Model, Order
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.edge.export.verification import Agreement, Labelled, Originals
from ssr_exp.edge.latency import stopwatch
from ssr_exp.edge.latency.runtimes import Runner
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import saved
from ssr_exp.runs import machine, studies
from ssr_exp.runs import store as local

log = logging.getLogger(__name__)

STEM, REPORT, CARD = "model", "export.json", "README.md"
EAGER_BATCH = 64  # images that PyTorch runs at once


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        formats: names, see `formats.NAMES`.
        int8: whether a quantised file is written beside each, where the format has one.
        uint8_input: whether the files take pixels as bytes, and normalise them inside.
        max_batch: images at once, where a runtime reserves memory for them.
        calibration: val images to quantise by.
        tolerance: the largest difference of logits, as a share of the largest logit.
        int8_drop: points of accuracy that a quantised file may lose.
        threads: of the runtimes.
        repeats: turns of the latency measurement.
        licence: an identifier such as `apache-2.0`; None: none is stated.
    """

    formats: tuple[str, ...]
    int8: bool = False
    uint8_input: bool = False
    max_batch: int = 8
    calibration: int = 256
    tolerance: float = 1e-3
    int8_drop: float = 2.0
    threads: int = 1
    repeats: int = 30
    licence: str | None = None


@dataclass(frozen=True)
class Exported:
    """A verified file.

    Args:
        file: its name.
        format: see `formats.NAMES`.
        int8: whether it is quantised.
        runtime: that it was verified in, and its version.
        size: bytes.
        found: how it compares with PyTorch.
        remarks: what its user should know.
        latency: of one image.
    """

    file: str
    format: str
    int8: bool
    runtime: str
    size: int
    found: Agreement
    remarks: tuple[str, ...] = ()
    latency: Latency | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ExportOutcome:
    """An export that ended: its folder, its files, and the formats that failed with the reason."""

    folder: Path
    files: tuple[Exported, ...]
    failed: tuple[str, ...]
    eager: Latency


def check(request: Request) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        SsrError: if a format is unknown or its packages are missing, or a number makes no sense.
    """
    if not request.formats:
        raise SsrError(f"format is empty: type format={','.join(formats.NAMES)}, or some of them.")
    found = [formats.find(name) for name in request.formats]
    if request.int8 and not any(one.QUANTISES for one in found):
        raise SsrError("int8=true takes a format that can be quantised: onnx or executorch.")
    for name, least in (("max_batch", 1), ("calibration", 1), ("threads", 1), ("repeats", 1)):
        if getattr(request, name) < least:
            raise SsrError(f"{name} is {getattr(request, name)}; it must be {least} or more.")
    for name in ("tolerance", "int8_drop"):
        if not getattr(request, name) >= 0:
            raise SsrError(f"{name} is {getattr(request, name)}; it must be 0 or more.")


def check_folder(to: Path) -> None:
    """Refuse to replace a folder that is no export.

    Raises:
        SsrError: if something else is there.
    """
    if to.exists() and not (to / REPORT).exists() and (to.is_file() or any(to.iterdir())):
        raise SsrError(
            f"{to} is there already and is no export, and an export replaces its folder whole: "
            "type to=DIR with another one."
        )


@dataclass(frozen=True, eq=False)
class Work:
    """An export that is being made.

    Args:
        chosen: the network.
        request: what is asked for.
        how: what is done to an image file.
        parts: the images that the network was trained and compared by; the first part is val.
        expected: PyTorch's logits for each part.
        predictor: runs the script that is shipped.
        originals: the image files of each part.
        folder: where the files are written.
    """

    chosen: Selection
    request: Request
    how: Preprocessing
    parts: Sequence[Labelled]
    expected: Sequence[Tensor]
    predictor: Predictor
    originals: Sequence[Originals]
    folder: Path

    def order(self, *, int8: bool) -> Order:
        """Say what a file must hold."""
        count, val = self.request.calibration, self.parts[0]
        images = val.images[:count] if self.request.uint8_input else val.batch(0, count)
        return Order(
            self.chosen.network,
            self.chosen.about,
            self.request.max_batch,
            images if int8 else None,
            self.request.uint8_input,
            self.how,
        )


def write(
    chosen: Selection, parts: Sequence[Labelled], request: Request, to: Path, *, how: Preprocessing
) -> ExportOutcome:
    """Export a network; the folder is replaced when all of its files are verified.

    A format that fails is left out, and the others are kept.

    Args:
        chosen: the network.
        parts: real images; the first part, val, is what a file is verified and quantised by.
        request: what is asked for.
        to: the folder.
        how: what is done to an image file.

    Raises:
        SsrError: if no format passes, or the folder cannot be written.
    """
    check(request)
    check_folder(to)
    store = local.Store(to.parent, "to=DIR")
    with (
        replaced_folder.folder(store, to) as fresh,
        tempfile.TemporaryDirectory() as aside,
        stopwatch.torch_threads(request.threads),
    ):
        expected = [
            verification.logits(_eager(chosen.network), p, batch=EAGER_BATCH) for p in parts
        ]
        script = fresh / standalone.SCRIPT
        store.write_text(script, _script(chosen, how, {}, request))
        predictor = Predictor(script)
        originals = [predictor.originals(part, Path(aside)) for part in parts]
        work = Work(chosen, request, how, parts, expected, predictor, originals, fresh)
        files, failed = _files(work)
        _say_what_is_odd(expected[0], request, to, files)
        if not files:
            raise SsrError(f"nothing was exported: {'; '.join(failed)}.")
        files, eager = _timed(work, files)
        saved.write(fresh, chosen.about, chosen.network.state_dict())
        batches = {one.file: request.max_batch for one in files}
        store.write_text(script, _script(chosen, how, batches, request))
        store.write_text(fresh / local.FILE, chosen.record.to_json())
        store.write_text(fresh / studies.FILE, json.dumps(dict(chosen.study), indent=1) + "\n")
        outcome = ExportOutcome(to, tuple(files), tuple(failed), eager)
        store.write_text(fresh / REPORT, json.dumps(report(outcome, request), indent=1) + "\n")
        store.write_text(fresh / CARD, model_card.write(chosen, outcome, parts, request, how))
    return outcome


def _script(
    chosen: Selection, how: Preprocessing, files: Mapping[str, int], request: Request
) -> str:
    """Write the script that is shipped, for files and how many images at once each takes."""
    known = standalone.about(chosen.about.classes, how, files, takes_bytes=request.uint8_input)
    return standalone.text(known)


def report(outcome: ExportOutcome, request: Request) -> dict[str, object]:
    """Write an export's figures as plain data; latencies in ms, of one image."""
    rows = []
    for one in outcome.files:
        assert one.latency is not None
        row = asdict(one.found) | _times(one.latency)
        rows.append(
            {
                "file": one.file,
                "format": one.format,
                "int8": one.int8,
                "runtime": one.runtime,
                "bytes": one.size,
                **row,
                "remarks": one.remarks,
            }
        )
    return {
        "device": machine.cpu(request.threads),
        "eager": _times(outcome.eager),
        "files": rows,
        "failed": outcome.failed,
        "request": asdict(request),
    }


def _times(own: Latency) -> dict[str, object]:
    return {"latency_ms": own.ms, "quartiles_ms": own.quartiles}


def _files(work: Work) -> tuple[list[Exported], list[str]]:
    """Write and verify all files; returns those that passed, and why others did not.

    Where the float32 file of a format fails, its int8 file is not tried: nobody would notice there
    that the outputs are others, and not only rounded.
    """
    files, failed, broken = [], [], set()
    for name, int8 in _wanted(work.request):
        label = f"{name}{' int8' if int8 else ''}"
        if name in broken:
            continue
        log.info("writing %s ...", label)
        try:
            files.append(_file(work, name, int8=int8))
        except SsrError as error:
            broken.add(name)
            failed.append(f"{label}: {str(error).rstrip('.')}")
            log.warning("%s failed: %s", label, error)
    return files, failed


def _say_what_is_odd(logits: Tensor, request: Request, to: Path, files: Sequence[Exported]) -> None:
    """Warn of what a table of verified files does not show."""
    if len(logits.argmax(1).unique()) == 1:
        log.warning("the network sees one class in all val images: its files agree for little")
    if request.int8 and "torch_export" in request.formats:
        log.warning("torch_export has no int8 file: onnx and executorch have")
    kept = {one.file for one in files}
    if gone := sorted({p.name for p in to.glob(f"{STEM}.*")} - kept):
        log.warning("the export that was there is replaced; it held %s, too", ", ".join(gone))


def _wanted(request: Request) -> list[tuple[str, bool]]:
    """List formats, each followed by its quantised file where one is asked for."""
    wanted = []
    for name in dict.fromkeys(request.formats):
        quantised = request.int8 and formats.find(name).QUANTISES
        wanted += [(name, False)] + ([(name, True)] if quantised else [])
    return wanted


def _file(work: Work, name: str, *, int8: bool) -> Exported:
    """Write one file and verify it; one that fails is gone.

    Raises:
        SsrError: says why it failed.
    """
    found, request = formats.find(name), work.request
    path = work.folder / f"{STEM}{'.int8' if int8 else ''}{found.SUFFIX}"
    try:
        remarks = found.write(work.order(int8=int8), path)
        _check_loads(found, path, request, remarks)
        model = work.predictor.model(path, threads=request.threads)
        agreement = verification.compare(
            model, work.expected, work.originals, batch=request.max_batch
        )
        most_drop = request.int8_drop if int8 else None
        verification.check(agreement, work.parts, tolerance=request.tolerance, most_drop=most_drop)
    except Exception as error:  # a runtime may raise anything
        path.unlink(missing_ok=True)
        if isinstance(error, SsrError | OSError):
            raise
        raise SsrError(f"{found.version()} stopped with {cause(error)}") from error
    size = path.stat().st_size
    return Exported(path.name, name, int8, found.version(), size, agreement, remarks)


def _check_loads(found: Format, path: Path, request: Request, remarks: Sequence[str]) -> None:
    """Load a file; where its runtime refuses, what is known of its operators says why."""
    try:
        found.load(path, threads=request.threads)
    except SsrError as error:
        known = "; ".join(remarks)
        raise SsrError(f"{str(error).rstrip('.')}; {known}") from error


def _timed(work: Work, files: Sequence[Exported]) -> tuple[list[Exported], Latency]:
    """Measure one image in PyTorch and in all files, in turn."""
    request, val = work.request, work.parts[0]
    image = val.batch(0, 1)
    taken = val.images[:1] if request.uint8_input else image
    runners: dict[str, Runner] = {"": partial(_eager(work.chosen.network), image)}
    for one in files:
        load = formats.find(one.format).load
        runners[one.file] = partial(load(work.folder / one.file, threads=request.threads), taken)
    times = stopwatch.interleaved(runners, repeats=request.repeats)
    if max(own.spread for own in times.values()) > stopwatch.NOISY:
        log.warning("this machine is noisy: see the quartiles before you believe a latency")
    return [replace(one, latency=times[one.file]) for one in files], times[""]


def _eager(network: nn.Module) -> Model:
    """Run a network in PyTorch as it is."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = network(images)
        assert isinstance(logits, Tensor)
        return logits

    return run
