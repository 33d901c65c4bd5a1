"""Write `predict.py`: one file that runs an export on image files, without this project.

It is made of files of the project, word for word: the one that reads images for training (and the
one that reads masks), the one that knows what a task's outputs are, and those that run them. So
what it does to an image is what training did.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ssr_exp.config import DatasetConf, TaskConf, TaskKind
from ssr_exp.datasets import mask_files, preprocessing
from ssr_exp.datasets.images import IGNORED
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.sources import CSV
from ssr_exp.edge.export import (
    predict_arrays,
    predict_classes,
    predict_labels,
    predict_masks,
    predict_numbers,
    predict_runtimes,
    predict_script,
)
from ssr_exp.edge.export.formats import Model
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.verification import Originals, Samples
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError, cause

SCRIPT = "predict.py"
ABOUT = "ABOUT: dict[str, Any] = "
DATA = f"{ABOUT}{{}}"


TASKS: dict[str, ModuleType] = {
    TaskKind.classification: predict_classes,
    TaskKind.multilabel: predict_labels,
    TaskKind.regression: predict_numbers,
    TaskKind.segmentation: predict_masks,
}


def facts(chosen: Selection) -> dict[str, Any]:
    """Say what the script must know of a network: what its outputs are, and how a table says it."""
    about, dataset = chosen.about, chosen.study.get("dataset")
    table = dataset if isinstance(dataset, dict) and dataset.get("name") == CSV else None
    columns = ("image", "targets")
    moments = {"target_mean": about.target_mean, "target_std": about.target_std}
    return {
        "labels": list(about.classes),
        "unit": chosen.record.unit,
        "table": table and {key: table.get(key, getattr(DatasetConf(), key)) for key in columns},
        **{key: list(values) for key, values in moments.items() if values is not None},
        **({"numbers": _numbers(chosen)} if chosen.task == TaskKind.segmentation else {}),
    }


def _numbers(chosen: Selection) -> dict[int, int]:
    """Say which class a number in a mask stands for, as `datasets.masks` reads them."""
    labels, dataset = chosen.about.classes, chosen.study.get("dataset")
    task: Any = chosen.study.get("task")
    ignored = task.get("ignore_index", TaskConf().ignore_index)
    named = dataset.get("targets") if isinstance(dataset, dict) else None
    if named or not all(label.isdecimal() for label in labels):
        numbers = [n for n in range(len(labels) + 1) if n != ignored]
    else:
        numbers = list(map(int, labels))
    places = dict(zip(numbers, range(len(labels)), strict=False))
    if ignored is not None:
        return places | {ignored: IGNORED}
    return {255: 1} | places if len(labels) == 2 else places  # black and white


def text(
    task: str,
    facts: Mapping[str, Any],
    how: Preprocessing,
    files: Mapping[str, int],
    *,
    takes_bytes: bool,
) -> str:
    """Write the script.

    Args:
        task: what the network learnt, as `task=` names it.
        facts: what else is known of it.
        how: what is done to an image file.
        files: of the export, and how many images at once each takes.
        takes_bytes: whether the files take pixels as bytes and normalise them inside.
    """
    about = {
        **facts,
        "preprocessing": asdict(how),
        "input": "uint8" if takes_bytes else "float32",
        "files": dict(files),
    }
    readers = (preprocessing, mask_files) if task == TaskKind.segmentation else (preprocessing,)
    modules = (TASKS[task], predict_runtimes, predict_script)
    parts = [_parts(inspect.getsource(module)) for module in (*readers, *modules)]
    data = f"{ABOUT}json.loads(\n    {json.dumps(about)!r}\n)"
    return _joined(parts, parts[len(readers)].title, data)


def arrays_text(network: FlatNetwork, files: Mapping[str, int]) -> str:
    """Write the script of a network that takes something else than a batch of images.

    Args:
        network: says the names, shapes and kinds of its inputs, and the names of its outputs.
        files: of the export, and how many inputs at once each takes.
    """
    taken = network.signature.tensors
    keys = {"shape", "dtype", "batch_dim"}
    about = {
        "inputs": {tensor.name: tensor.model_dump(mode="json", include=keys) for tensor in taken},
        "outputs": list(network.names),
        "files": dict(files),
    }
    modules = (predict_arrays, predict_runtimes)
    parts = [_parts(inspect.getsource(module)) for module in modules]
    data = f"ABOUT: dict[str, Any] = {about!r}"
    return _joined([parts[1], parts[0]], parts[0].title, data)


def is_ours(script: Path) -> bool:
    """Say whether a file is a script that an export wrote."""
    return ABOUT in script.read_text(errors="replace")


def _joined(parts: Sequence[_Source], title: str, data: str) -> str:
    """Make one module of several; `data` takes the place of the empty `DATA`."""
    head = sorted(_merged(*(line for part in parts for line in part.imports)), key=_order)
    bodies = "\n\n\n".join(part.body.replace(DATA, data) for part in parts)
    return "\n".join([title, "", *head, "", bodies, ""])


class _Script(SourceFileLoader):
    """Loads a script, and leaves no bytecode beside it: that folder is shipped."""

    def set_data(self, *_: Any, **__: Any) -> None:
        """Write nothing."""


class Predictor:
    """The script of an export, run in this process: it reads image files and runs the export's.

    Args:
        path: the script.
    """

    def __init__(self, path: Path) -> None:
        loader = _Script(f"{__name__}.{path.stem}", str(path))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        self._script: Any = importlib.util.module_from_spec(spec)
        sys.modules[loader.name] = self._script  # where dataclasses look
        try:
            loader.exec_module(self._script)
        finally:
            del sys.modules[loader.name]

    def images(self, files: Sequence[Path], *, are_cropped: bool = False) -> Tensor:
        """Read image files as the network takes them.

        Args:
            files: of the images.
            are_cropped: whether they hold what `crop_share` keeps, and no more.

        Raises:
            SsrError: if one cannot be read.
        """
        about = self._script.ABOUT
        if are_cropped:
            about = about | {"preprocessing": about["preprocessing"] | {"crop_share": 1.0}}
        try:
            return torch.from_numpy(self._script.tensor(files, about))
        except Exception as error:  # of a damaged file, Pillow may raise anything
            raise SsrError(
                f"an image by which the export is verified cannot be read ({cause(error)}): "
                f"{', '.join(map(str, files[:3]))}."
            ) from error

    def model(self, path: Path, *, threads: int) -> Model:
        """Load a file of the export into its runtime."""
        run = self._script.load(path, threads=threads)
        return lambda images: torch.from_numpy(run(images.contiguous().numpy()))

    def originals(self, part: Samples, aside: Path) -> Originals:
        """Find the image files of a part; one that has none gets them: PNG, of its pixels."""
        if part.files:
            return Originals(part.files, self.images)
        return Originals(tuple(_written(part, aside)), partial(self.images, are_cropped=True))


def _written(part: Samples, folder: Path) -> Iterator[Path]:
    """Write pixels as image files.

    Raises:
        SsrError: if the disk is full.
    """
    for number, pixels in enumerate(part.images[:]):
        path = folder / f"{part.name}-{number}.png"
        array = pixels.permute(1, 2, 0).numpy()
        try:
            Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(path)
        except OSError as error:
            raise SsrError(
                f"cannot write the images that verify an export to {folder} ({cause(error)}): make "
                "room there, or set TMPDIR to another folder."
            ) from error
        yield path


class _Source(NamedTuple):
    """A module that was taken apart."""

    title: str  # its docstring
    imports: list[str]  # of other packages
    body: str  # the rest


def _parts(source: str) -> _Source:
    """Take a module apart."""
    title, *statements = ast.parse(source).body
    lines = source.splitlines()
    imports = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
    end = max(s.end_lineno or 0 for s in imports)
    kept = [s for s in imports if not (getattr(s, "module", None) or "").startswith("ssr_exp")]
    own = [" ".join(lines[s.lineno - 1 : s.end_lineno]) for s in kept]
    return _Source("\n".join(lines[: title.end_lineno]), own, "\n".join(lines[end:]).strip("\n"))


def _merged(*lines: str) -> Iterator[str]:
    """Import each module once, and what several import of one together."""
    names: dict[str, set[str]] = {}
    for line in lines:
        module, _, imported = line.partition(" import ")
        names.setdefault(module, set()).update(imported.split(", ") if imported else ())
    for module, several in names.items():
        yield f"{module} import {', '.join(sorted(several))}" if several else module


def _order(line: str) -> tuple[bool, bool, bool, str]:
    """Sort imports: of the future, of Python's own library, then of others."""
    package = line.split()[1].partition(".")[0]
    is_other = package in ("numpy", "PIL")
    return package != "__future__", is_other, line.startswith("from"), line
