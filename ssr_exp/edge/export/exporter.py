"""Hand over a trained network as files for the device, each of them verified before it counts."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import (
    formats,
    model_card,
    output_kinds,
    predictor,
    recorded_scores,
    verification,
)
from ssr_exp.edge.export.exported import EAGER, Exported, ExportedFile, report
from ssr_exp.edge.export.formats import Order
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.output_kinds import OutputKind
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.edge.export.verification import DrawnSamples, Originals, Part, Reference, Samples
from ssr_exp.edge.latency import runtimes, stopwatch
from ssr_exp.edge.latency.runtimes import Runner
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import saved
from ssr_exp.runs import provenance, studies
from ssr_exp.runs.provenance import torch_threads
from ssr_exp.runs.score import ACCURACY, PERCENT, Score
from ssr_exp.runs.store import RECORD_FILE, Store

log = logging.getLogger(__name__)

STEM, REPORT, CARD = "model", "export.json", "README.md"
SAME_SCORE = 0.01  # of a score: how much other machines and precisions change it
USUAL_DROP = "2"  # points of a score in percent; of any other, percent of the network's own


def check(request: ExportConfig) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        SsrError: if a format is unknown or its packages are missing.
    """
    names = request.format
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SsrError(f"format={names} names no formats: type format=onnx,executorch.")
    if not names:
        raise SsrError(f"format is empty: type format={','.join(formats.NAMES)}, or some of them.")
    asked = [formats.find(name) for name in names]
    if request.int8 and not any(one.QUANTISES for one in asked):
        raise SsrError("int8=true takes a format that can be quantised: onnx or executorch.")
    most_drop(request, ACCURACY, 1.0)


def most_drop(request: ExportConfig, score: Score, reference: float) -> float:
    """Read what int8 may lose against the network's own score, in the score's unit.

    Raises:
        SsrError: if it is neither a number nor a share.
    """
    usual = USUAL_DROP if score.unit == PERCENT else f"{USUAL_DROP}%"
    asked = usual if request.int8_drop is None else str(request.int8_drop)
    return score.read_drop(asked, reference, "int8_drop")


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
        """Take inputs of val as files take them."""
        if self.request.uint8_input and isinstance(self.val, Samples):
            return self.val.images[:count]
        return self.val.batch(0, count)


def write(
    chosen: Selection,
    parts: Sequence[Part],
    request: ExportConfig,
    to: Path,
    *,
    how: Preprocessing | None,
) -> Exported:
    """Export a network; the folder is replaced when all of its files are verified.

    A format that fails is left out, and the others are kept.

    Args:
        chosen: the network.
        parts: real inputs; the first part, val, is what a file is verified and quantised by. Or
            drawn ones, of a network that takes something else than a batch of images.
        request: what is asked for.
        to: the folder.
        how: what is done to an image file, by the `predict.py` that is shipped; None: it is not
            known, so there is none, and files are run on the inputs themselves.

    Raises:
        SsrError: if no format passes, something is asked for that takes what is not known, or the
            folder cannot be written.
    """
    check_folder(to)
    _check_known(parts[0], request, how)
    store, batch = Store(to.parent, "to=DIR"), request.max_batch
    with (
        store.replaced_folder(to) as fresh,
        tempfile.TemporaryDirectory() as aside,
        torch_threads(request.threads),
    ):
        references = [
            verification.reference(
                p.run if isinstance(p, DrawnSamples) else chosen.network, p, batch=batch
            )
            for p in parts
        ]
        script, originals = None, list[Part | Originals](parts)
        if how is not None:
            store.write_text(fresh / predictor.SCRIPT, _script(chosen, request, how, {}))
            script = Predictor(fresh / predictor.SCRIPT)
            images = [part for part in parts if isinstance(part, Samples)]
            originals = [script.originals(part, Path(aside)) for part in images]
        work = Work(chosen, request, how, references, script, originals, fresh)
        files, failed = _files(work)
        _say_what_is_odd(work, to, files)
        if not files:
            raise SsrError(f"nothing was exported: {'; '.join(failed)}.")
        learnt = frozenset(part.name for part in parts if part.learnt)
        exported = Exported(to, tuple(files), tuple(failed), _latencies(work, files), learnt)
        saved.write(fresh, chosen.about, chosen.network.state_dict())
        for name, content in _papers(work, exported).items():
            store.write_text(fresh / name, content)
    return exported


def _check_known(val: Part, request: ExportConfig, how: Preprocessing | None) -> None:
    if request.int8 and val.measure is None:
        raise SsrError(
            "int8=true takes a score that says what is lost, and there is none: leave it out."
        )
    if request.uint8_input and how is None:
        raise SsrError("uint8_input=true takes images whose normalisation is known: leave it out.")


def _script(
    chosen: Selection, request: ExportConfig, how: Preprocessing, batches: Mapping[str, int]
) -> str:
    """Write `predict.py` for files that take so many images at once."""
    takes_bytes = request.uint8_input
    facts = predictor.facts(chosen)
    return predictor.text(chosen.task, facts, how, batches, takes_bytes=takes_bytes)


def _papers(work: Work, exported: Exported) -> dict[str, str]:
    """Write what lies beside the verified files, by its name."""
    chosen, request, how = work.chosen, work.request, work.how
    batches = {one.file: request.max_batch for one in exported.files}
    script = {} if how is None else {predictor.SCRIPT: _script(chosen, request, how, batches)}
    if isinstance(work.network, FlatNetwork):
        script = {predictor.SCRIPT: predictor.arrays_text(work.network, list(batches))}
    return script | {
        RECORD_FILE: chosen.record.to_json(),
        studies.FILE: provenance.to_json(dict(chosen.study)),
        REPORT: provenance.to_json(report(exported, chosen.record.scored_by, request)),
        CARD: model_card.write(chosen, exported, [r.part for r in work.references], request, how),
    }


def _files(work: Work) -> tuple[list[ExportedFile], list[str]]:
    """Write and verify all files; returns those that passed, and why others did not.

    Where the float32 file of a format fails, its int8 file is not tried: nobody would notice there
    that the outputs are others, and not only rounded.
    """
    files, failed, wants_int8 = [], [], work.request.int8
    for name in dict.fromkeys(work.request.format):
        for int8 in (False, True) if wants_int8 and formats.find(name).QUANTISES else (False,):
            label = f"{name}{' int8' if int8 else ''}"
            log.info("writing %s ...", label)
            try:
                files.append(_file(work, name, int8=int8))
            except SsrError as error:
                failed.append(f"{label}: {str(error).rstrip('.')}")
                log.warning("%s failed: %s", label, error)
                break
    return files, failed


def _say_what_is_odd(work: Work, to: Path, files: Sequence[ExportedFile]) -> None:
    """Warn of what a table of verified files does not show."""
    request, predictions = work.request, work.kind.predictions
    measured = {one.part.name: one.score for one in work.references}
    record = work.chosen.record
    for difference in recorded_scores.differences(record, measured, tolerance=SAME_SCORE):
        log.warning("%s", difference)
    if predictions is not None:
        said = map(predictions, work.references[0].outputs())
        first = next(said)  # of one image
        if all(bool((one == first).all()) for one in said):
            log.warning("the network says the same of all val images: its files agree for little")
    if request.int8 and "torch_export" in request.format:
        log.warning("torch_export has no int8 file: onnx and executorch have")
    kept = {one.file for one in files}
    if gone := sorted({p.name for p in to.glob(f"{STEM}.*")} - kept):
        log.warning("the export that was there is replaced; it held %s, too", ", ".join(gone))


def _file(work: Work, name: str, *, int8: bool) -> ExportedFile:
    """Write one file and verify it; one that fails is gone.

    Raises:
        SsrError: says why it failed.
    """
    kind, request = formats.find(name), work.request
    path = work.folder / f"{STEM}{'.int8' if int8 else ''}{kind.SUFFIX}"
    try:
        remarks = kind.write(work.order(int8=int8), path)
        try:
            kind.load(path, threads=request.threads)
        except SsrError as error:  # what is known of its operators says why
            raise SsrError(f"{str(error).rstrip('.')}; {'; '.join(remarks)}") from error
        load = kind.load if work.predictor is None else work.predictor.model
        model = load(path, threads=request.threads)
        agreement = verification.compare(
            model,
            work.references,
            work.originals,
            batch=request.max_batch,
            predictions=work.kind.predictions,
        )
        score = work.chosen.record.scored_by
        drops = {part: most_drop(request, score, own) for part, own in agreement.eager.items()}
        verification.check(
            agreement, score, tolerance=request.tolerance, drops=drops if int8 else None
        )
    except Exception as error:  # a runtime may raise anything
        path.unlink(missing_ok=True)
        if isinstance(error, SsrError | OSError):
            raise
        raise SsrError(f"{kind.version()} stopped with {cause(error)}") from error
    size = path.stat().st_size
    return ExportedFile(path.name, name, int8, kind.version(), size, agreement, remarks)


def _latencies(work: Work, files: Sequence[ExportedFile]) -> dict[str, Latency]:
    """Measure one image in PyTorch and in all files, in turn."""
    request, val = work.request, work.val
    image, taken = val.batch(0, 1), work.images(1)
    eager = runtimes.find("eager").prepare(work.network, image, request.threads)
    runners: dict[str, Runner] = {EAGER: eager}
    for one in files:
        load = formats.find(one.format).load
        runners[one.file] = partial(load(work.folder / one.file, threads=request.threads), taken)
    latencies = stopwatch.interleaved(runners, repeats=request.repeats)
    if max(latency.spread for latency in latencies.values()) > stopwatch.NOISY:
        log.warning("this machine is noisy: see the quartiles before you believe a latency")
    return latencies
