"""Files of an earlier export of the same network, which stay beside the new ones."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeGuard

import torch
from pydantic import Field, ValidationError

from ssr_exp import files
from ssr_exp.edge.export import formats, predictor, verified_files
from ssr_exp.edge.export.exported import REPORT, ExportedFile
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.predict_arrays import RESERVES
from ssr_exp.edge.export.predict_runtimes import LOADERS
from ssr_exp.edge.export.verification import LosesTooMuch
from ssr_exp.edge.export.verified_files import STEM, Work
from ssr_exp.edge.selection import TRUST, Selection
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.rescaling import saved

log = logging.getLogger(__name__)

PICKLES = ("torch_export",)  # formats that may run code when they are loaded


class EarlierFile(FileModel):
    """A file of an earlier export, as its `export.json` says it."""

    file: str = Field(pattern=rf"^{STEM}[.\w]*$")
    format: str
    int8: bool
    difference: float = Field(ge=0, lt=math.inf)
    max_batch: int = Field(default=1, ge=1)
    remarks: tuple[str, ...] = ()


def keep(work: Work, to: Path, new: Sequence[ExportedFile]) -> list[ExportedFile]:
    """Keep the files of an earlier export of the same network that are not written anew.

    Each is verified again, with no more inputs at once than it was made for. One that this export
    was to write and did not is not kept. What cannot be kept is said, and what to type to have it
    again.

    Args:
        work: the export that takes the earlier one's place.
        to: the folder of the earlier one.
        new: files of this export.
    """
    written = {one.file for one in new}
    there = sorted(p.name for p in to.glob(f"{STEM}.*") if _is_network(p) and p.name not in written)
    known = {one.file: one for one in _earlier(to)} if there else {}
    is_same = bool(known) and _is_same_network(to, work.chosen)
    kept = []
    asked = verified_files.asked(work.request)
    for file in there:
        if file in asked:
            said = "%s, which was there, is not kept: this export was to replace it, and did not"
            log.warning(said, file)
            continue
        if (one := known.get(file)) is None:
            log.warning("%s, which was there, is not kept: %s does not name it", file, REPORT)
            continue
        try:
            if not is_same:
                raise SsrError("it is of other weights")
            kept.append(_kept(work, to, one))
        except (SsrError, OSError) as error:
            names = ",".join(dict.fromkeys((*work.request.format, one.format)))
            larger = " and a larger int8_drop" if isinstance(error, LosesTooMuch) else ""
            quantised = f" int8=true{larger}" if one.int8 else ""
            log.warning(
                "%s, which was there, is not kept (%s): to have it, too, type format=%s%s",
                *(file, str(error).rstrip("."), names, quantised),
            )
    return kept


def carry_over(to: Path, fresh: Path, *, own: Collection[str]) -> None:
    """Copy what a user has put beside an export, such as masks or a `.git`, to the new one.

    Args:
        to: the folder of the earlier export.
        fresh: of the one that takes its place.
        own: names of files that exports write, beside the network and its files.

    Raises:
        OSError: if something cannot be copied.
    """
    own = {*own, saved.NETWORK, saved.WEIGHTS}
    for path in sorted(to.iterdir()) if to.is_dir() else ():
        target, is_script = fresh / path.name, path.name == predictor.SCRIPT and path.is_file()
        is_own = path.name in own or (is_script and predictor.is_ours(path))
        if is_own or _is_network(path) or target.exists():
            continue
        if path.match(f"{STEM}.*") or is_script:
            log.warning("%s stays; no export wrote it: it may be of other weights", path.name)
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True)
        else:
            shutil.copy2(path, target, follow_symlinks=False)


def _is_network(path: Path) -> bool:
    """Say whether a name is one of those that exports give to their files."""
    return path.match(f"{STEM}.*") and not LOADERS.keys().isdisjoint(path.suffixes)


def _kept(work: Work, to: Path, one: EarlierFile) -> ExportedFile:
    """Verify a file again, from a copy: that it does what it did, and loses no more than is typed.

    Raises:
        SsrError: if it does not.
    """
    if not one.file.endswith(formats.find(one.format).SUFFIX):
        raise SsrError(f"it is no file of {one.format}")
    if one.format in PICKLES and not work.request.trust:
        raise SsrError(f"it may run code when it is loaded: {TRUST}")
    log.info("%s stays; verifying it again ...", one.file)

    def put(path: Path) -> tuple[str, ...]:
        shutil.copyfile(to / one.file, path)
        return one.remarks

    most = one.max_batch if one.file.endswith(RESERVES) else work.request.max_batch
    if most < work.request.max_batch and isinstance(work.network, FlatNetwork):
        raise SsrError(f"it was made for max_batch={most}")
    tolerance, place = one.difference + work.request.tolerance, work.folder / one.file
    return verified_files.verified(
        work, one.format, place, put, int8=one.int8, tolerance=tolerance, max_batch=most
    )


def _earlier(to: Path) -> Iterator[EarlierFile]:
    """List the files that an earlier export verified; those that it does not say are left out."""
    report = files.read_or_empty(to / REPORT)
    rows, request = report.get("files"), report.get("request")
    known = {"max_batch": request["max_batch"]} if _says_batch(request) else {}
    for row in rows if isinstance(rows, list) else []:
        try:
            yield EarlierFile.model_validate(known | row)  # each says its own since then
        except ValidationError:
            continue


def _says_batch(request: object) -> TypeGuard[dict[str, int]]:
    return isinstance(request, dict) and "max_batch" in request


def _is_same_network(to: Path, chosen: Selection) -> bool:
    """Say whether an export is of the same weights, bit for bit, and of the same inputs."""
    try:
        about, theirs = saved.read(to), files.read_state_dict(to / saved.WEIGHTS)
    except (SsrError, OSError, files.Unreadable):
        return False
    ours = chosen.network.state_dict()
    same = about == chosen.about and theirs.keys() == ours.keys()
    return same and all(torch.equal(value, theirs[name]) for name, value in ours.items())
