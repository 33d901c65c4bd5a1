"""Hand over a trained network as files for the device, each of them verified before it counts."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import (
    earlier_files,
    formats,
    model_card,
    predictor,
    recorded_scores,
    verification,
    verified_files,
)
from ssr_exp.edge.export.exported import REPORT, Exported, report
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.edge.export.verification import DrawnSamples, Originals, Part, Samples
from ssr_exp.edge.export.verified_files import Work
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.runs import provenance, studies
from ssr_exp.runs.provenance import torch_threads
from ssr_exp.runs.store import RECORD_FILE, Store

log = logging.getLogger(__name__)

CARD = "README.md"
SAME_SCORE = 0.01  # of a score: how much other machines and precisions change it


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
    verified_files.check_most_drop(request)


def check_folder(to: Path) -> None:
    """Refuse to replace a folder that is no export.

    Raises:
        SsrError: if something else is there.
    """
    if to.is_mount():
        raise SsrError(
            f"{to} is where a volume is mounted, and an export replaces its folder whole: type "
            f"to={to / 'export'}."
        )
    if to.exists() and not (to / REPORT).exists() and (to.is_file() or any(to.iterdir())):
        raise SsrError(
            f"{to} is there already and is no export, and an export replaces its folder whole: "
            "type to=DIR with another one."
        )


def write(
    chosen: Selection,
    parts: Sequence[Part],
    request: ExportConfig,
    to: Path,
    *,
    how: Preprocessing | None,
) -> Exported:
    """Export a network; the folder is replaced when all of its files are verified.

    A format that fails is left out, and the others are kept. Files of an earlier export of the same
    network stay.

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
    if how is not None or isinstance(parts[0], DrawnSamples):
        _check_script(to / predictor.SCRIPT)
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
        files, failed = verified_files.write(work)
        _say_what_is_odd(work)
        if not files:
            raise SsrError(f"nothing was exported: {'; '.join(failed)}.")
        files += earlier_files.keep(work, to, files)
        learnt = frozenset(part.name for part in parts if part.learnt)
        latencies = verified_files.latencies(work, files)
        exported = Exported(to, tuple(files), tuple(failed), latencies, learnt)
        saved.write(fresh, chosen.about, chosen.network.state_dict())
        papers = _papers(work, exported)
        for name, content in papers.items():
            store.write_text(fresh / name, content)
        earlier_files.carry_over(to, fresh, own=papers)
    return exported


def _check_known(val: Part, request: ExportConfig, how: Preprocessing | None) -> None:
    if request.int8 and val.measure is None:
        raise SsrError(
            "int8=true takes a score that says what is lost, and there is none: leave it out."
        )
    if request.uint8_input and how is None:
        raise SsrError("uint8_input=true takes images whose normalisation is known: leave it out.")


def _check_script(path: Path) -> None:
    """Refuse to replace a script that no export wrote.

    Raises:
        SsrError: then.
    """
    if path.is_file() and not predictor.is_ours(path):
        raise SsrError(
            f"no export wrote {path}, and this one writes such a script: move yours elsewhere, or "
            "type to=DIR with another folder."
        )


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
    batches = {one.file: one.max_batch for one in exported.files}
    script = {} if how is None else {predictor.SCRIPT: _script(chosen, request, how, batches)}
    if isinstance(work.network, FlatNetwork):
        script = {predictor.SCRIPT: predictor.arrays_text(work.network, batches)}
    return script | {
        RECORD_FILE: chosen.record.to_json(),
        studies.FILE: provenance.to_json(dict(chosen.study)),
        REPORT: provenance.to_json(report(exported, chosen.record.scored_by, request)),
        CARD: model_card.write(chosen, exported, [r.part for r in work.references], request, how),
    }


def _say_what_is_odd(work: Work) -> None:
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
