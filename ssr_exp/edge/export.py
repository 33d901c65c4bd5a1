"""Hand over a trained network as files for the device, each of them verified before it counts."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ssr_exp import machine
from ssr_exp.edge import card, formats, latency, verify
from ssr_exp.edge.chosen import Chosen
from ssr_exp.edge.formats import Format, Model, Order
from ssr_exp.edge.latency import Latency
from ssr_exp.edge.runtimes import Runner
from ssr_exp.edge.verify import Agreement, Labelled
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import saved
from ssr_exp.runs import local, replaced, studies

log = logging.getLogger(__name__)

STEM, REPORT, CARD = "model", "export.json", "README.md"
EAGER_BATCH = 64  # images that PyTorch runs at once


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        formats: names, see `formats.NAMES`.
        int8: whether a quantised file is written beside each, where the format has one.
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
class Outcome:
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


def write(chosen: Chosen, parts: Sequence[Labelled], request: Request, to: Path) -> Outcome:
    """Export a network; the folder is replaced when all of its files are verified.

    A format that fails is left out, and the others are kept.

    Args:
        chosen: the network.
        parts: real images; the first part, val, is what a file is verified and quantised by.
        request: what is asked for.
        to: the folder.

    Raises:
        SsrError: if no format passes, or the folder cannot be written.
    """
    check(request)
    check_folder(to)
    store = local.Store(to.parent, "to=DIR")
    with replaced.folder(store, to) as fresh, latency.torch_threads(request.threads):
        expected = [verify.logits(_eager(chosen.network), p, batch=EAGER_BATCH) for p in parts]
        files, failed = _files(chosen, parts, expected, request, fresh)
        _say_what_is_odd(expected[0], request, to, files)
        if not files:
            raise SsrError(f"nothing was exported: {'; '.join(failed)}.")
        files, eager = _timed(chosen, parts[0], files, request, fresh)
        saved.write(fresh, chosen.about, chosen.network.state_dict())
        store.write_text(fresh / local.FILE, chosen.record.to_json())
        store.write_text(fresh / studies.FILE, json.dumps(dict(chosen.study), indent=1) + "\n")
        outcome = Outcome(to, tuple(files), tuple(failed), eager)
        store.write_text(fresh / REPORT, json.dumps(report(outcome, request), indent=1) + "\n")
        store.write_text(fresh / CARD, card.write(chosen, outcome, parts, request))
    return outcome


def report(outcome: Outcome, request: Request) -> dict[str, object]:
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


def _files(
    chosen: Chosen,
    parts: Sequence[Labelled],
    expected: Sequence[Tensor],
    request: Request,
    folder: Path,
) -> tuple[list[Exported], list[str]]:
    """Write and verify all files; returns those that passed, and why others did not.

    Where the float32 file of a format fails, its int8 file is not tried: nobody would notice there
    that the outputs are others, and not only rounded.
    """
    files, failed, broken = [], [], set()
    for name, int8 in _wanted(request):
        label = f"{name}{' int8' if int8 else ''}"
        if name in broken:
            continue
        log.info("writing %s ...", label)
        try:
            files.append(_file(chosen, parts, expected, request, folder, name, int8=int8))
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


def _file(
    chosen: Chosen,
    parts: Sequence[Labelled],
    expected: Sequence[Tensor],
    request: Request,
    folder: Path,
    name: str,
    *,
    int8: bool,
) -> Exported:
    """Write one file and verify it; one that fails is gone.

    Raises:
        SsrError: says why it failed.
    """
    found = formats.find(name)
    path = folder / f"{STEM}{'.int8' if int8 else ''}{found.SUFFIX}"
    val = parts[0]
    calibration = val.normalised(0, request.calibration) if int8 else None
    order = Order(chosen.network, chosen.about, request.max_batch, calibration)
    try:
        remarks = found.write(order, path)
        model = _loaded(found, path, request, remarks)
        agreement = verify.compare(model, expected, parts, batch=request.max_batch)
        most_drop = request.int8_drop if int8 else None
        verify.check(agreement, parts, tolerance=request.tolerance, most_drop=most_drop)
    except Exception as error:  # a runtime may raise anything
        path.unlink(missing_ok=True)
        if isinstance(error, SsrError | OSError):
            raise
        raise SsrError(f"{found.version()} stopped with {cause(error)}") from error
    size = path.stat().st_size
    return Exported(path.name, name, int8, found.version(), size, agreement, remarks)


def _loaded(found: Format, path: Path, request: Request, remarks: Sequence[str]) -> Model:
    """Load a file; where its runtime refuses, what is known of its operators says why."""
    try:
        return found.load(path, threads=request.threads)
    except SsrError as error:
        known = "; ".join(remarks)
        raise SsrError(f"{str(error).rstrip('.')}; {known}") from error


def _timed(
    chosen: Chosen, val: Labelled, files: Sequence[Exported], request: Request, folder: Path
) -> tuple[list[Exported], Latency]:
    """Measure one image in PyTorch and in all files, in turn."""
    image = val.normalised(0, 1)
    models: dict[str, Model] = {"": _eager(chosen.network)}
    for one in files:
        models[one.file] = formats.find(one.format).load(folder / one.file, threads=request.threads)
    runners: dict[str, Runner] = {name: partial(model, image) for name, model in models.items()}
    times = latency.interleaved(runners, repeats=request.repeats)
    if max(own.spread for own in times.values()) > latency.NOISY:
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
