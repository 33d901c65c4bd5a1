"""What `export.py` calls: where a network's images are known, its files are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ssr_exp.app import configuration
from ssr_exp.config import DatasetConf, ExportConfig, PathsConf, check
from ssr_exp.datasets import in_memory
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge import selection
from ssr_exp.edge.export import exported, exporter, hub
from ssr_exp.edge.export.verification import Labelled
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError
from ssr_exp.runs.score import ACCURACY


def write(composed: Any) -> str:
    """Export the network that a configuration names; prints the files, and last their folder.

    Raises:
        SsrError: if it cannot be exported, or one of its formats failed.
    """
    request = configuration.read(composed, ExportConfig)
    if isinstance(request.format, str):
        request.format = [request.format]
    exporter.check(request)
    if request.push is not None:
        hub.check(request.push)
    chosen = selection.find(
        Path(request.paths.runs),
        request.run,
        study=request.study,
        seed=request.seed,
        trust=request.trust,
    )
    to = Path(request.to) if request.to else chosen.folder / "export" / chosen.label
    to = to.expanduser().resolve()
    exporter.check_folder(to)
    parts, how = _images(request, chosen)
    outcome = exporter.write(chosen, parts, request, to, how=how)
    exported.print_table(outcome, request)
    if request.push is not None:
        address = hub.push(outcome.folder, request.push)
        later = hub.command(outcome.folder, request.push)
        offline = f"not pushed, HF_HUB_OFFLINE is set; type later: {later}"
        print(offline if address is None else f"pushed to {address}")
    print(f"export: {outcome.folder}", flush=True)
    if outcome.failed:
        raise SsrError(f"{len(outcome.failed)} files failed: {'; '.join(outcome.failed)}.")
    return str(outcome.folder)


def _images(conf: ExportConfig, chosen: Selection) -> tuple[list[Labelled], Preprocessing]:
    """Load the images that a network was compared by; for one that learned from val, test, too.

    Returns what is done to image files, too, by the statistics that the network was trained with.

    Raises:
        SsrError: if they are not where they were, or are others.
    """
    if (key := chosen.record.score_key) != ACCURACY.key:
        raise SsrError(
            f"export.py verifies networks that classify, and {chosen.record.network} is judged by "
            f"{key}: load it with ssr_exp.rescaling.saved.load, and write it with PyTorch's own."
        )
    asked = _dataset(conf, chosen)
    folder = Path(conf.paths.data)
    try:
        splits = in_memory.load(asked, folder)
    except SsrError as error:
        raise SsrError(
            f"the images of {asked.name}, by which an export is verified, cannot be read: "
            f"{str(error).rstrip('.')}; type root=DIR or paths.data=DIR."
        ) from None
    _check(splits, asked, chosen, folder)
    assert splits.val is not None
    about, seen = chosen.about, chosen.has_seen_val
    named = {"val": splits.val} | ({"test": splits.test} if seen and splits.test else {})
    parts = [
        Labelled(name, i.pixels, i.labels, seen and name == "val", i.files, about.mean, about.std)
        for name, i in named.items()
    ]
    return parts, replace(splits.preprocessing, mean=about.mean, std=about.std)


def _dataset(conf: ExportConfig, chosen: Selection) -> DatasetConf:
    """Say which images they are, from what the study and the run say."""
    theirs = chosen.study.get("dataset")
    if not isinstance(theirs, dict) or "name" not in theirs:
        raise SsrError(
            f"the study of {chosen.record.network} does not say its images: its study.json is "
            "missing or damaged; export it from the folder of its runs."
        )
    known = {f.name for f in fields(DatasetConf)} - {"train_on_val"}
    asked = _validated({key: value for key, value in theirs.items() if key in known})
    before = chosen.asked.get("dataset", {})
    before = before if isinstance(before, dict) else {}
    asked.root, asked.file = conf.root or before.get("root"), before.get("file")
    paths = chosen.asked.get("paths")
    if conf.paths.data == PathsConf().data and isinstance(paths, dict):
        conf.paths.data = str(paths.get("data", conf.paths.data))
    return asked


def _validated(fields: Mapping[str, Any]) -> DatasetConf:
    """Read a data set's configuration as data, from a file that others may have written."""
    try:
        asked = TypeAdapter(DatasetConf).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SsrError(
            f"the study.json of this network is damaged (dataset.{where}: {first['msg'].lower()}): "
            "export another run of it."
        ) from None
    check(asked, "dataset.")
    return asked


def _check(splits: Splits, asked: DatasetConf, chosen: Selection, folder: Path) -> None:
    """Refuse other images than those that the network was trained by."""
    if chosen.has_seen_val:  # its fingerprint is of train and val together
        content = in_memory.load(replace(asked, train_on_val=True), folder).fingerprint
    else:
        content = splits.fingerprint
    if chosen.study["dataset"].get("content") != content:
        raise SsrError(
            f"the images of {asked.name} in {asked.root or folder} are not those that "
            f"{chosen.record.network} was trained by: type root=DIR or paths.data=DIR."
        )
    if splits.val is None:
        raise SsrError(f"data set {asked.name} has no val images to verify an export by.")
