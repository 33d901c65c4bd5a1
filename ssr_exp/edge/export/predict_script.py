"""Run the file of an export on image files: what all tasks share of its `predict.py`.

A task's own file, such as `predict_classes.py`, stands before it there, and is its docstring.
"""

from __future__ import annotations

import argparse
import csv
import glob
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssr_exp.datasets.preprocessing import SUFFIXES, Preprocessing, normalised, pixels
from ssr_exp.edge.export.predict_classes import (
    UNKNOWN,
    add_options,
    compared,
    line,
    predicted,
    score,
    shown,
    truth_of_file,
    truth_of_row,
)
from ssr_exp.edge.export.predict_runtimes import LOADERS

ABOUT: dict[str, Any] = {}  # labels, preprocessing and files of an export

Run = Callable[[Any], Any]
"""Maps images as the network takes them, `b x c x h x w`, to its outputs; NumPy's."""

BATCH = 8  # images at once
TABLES = (".csv", ".tsv")
SHOWN = 5  # values in a sentence


def tensor(files: Sequence[Any], about: dict[str, Any]) -> Any:
    """Read image files as the network takes them, `n x c x h x w`: normalised, or bytes."""
    how = Preprocessing(**about["preprocessing"])
    images = np.stack([pixels(file, how) for file in files])
    if about["input"] == "uint8":
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return normalised(images, how)


def load(path: Path, *, threads: int = 1) -> Run:
    """Load a file into its runtime, on the CPU."""
    call = LOADERS[path.suffix](path, threads)
    return lambda images: call([images])[0]


def predictions(
    run: Run, files: Iterable[Path], about: dict[str, Any], *, batch: int = BATCH
) -> Iterator[tuple[Path, Any]]:
    """Give each file what is predicted of it; one that is no image its error instead."""
    held: list[tuple[Path, Any]] = []
    for file in files:
        try:
            held.append((file, tensor([file], about)))
        except Exception as error:  # of a damaged file, Pillow may raise anything
            held.append((file, error))
        if len(held) == batch:
            yield from _run(run, held, about)
            held = []
    yield from _run(run, held, about)


def _run(
    run: Run, held: Sequence[tuple[Path, Any]], about: dict[str, Any]
) -> Iterator[tuple[Path, Any]]:
    """Run what could be read, all at once."""
    images = [image for _, image in held if not isinstance(image, Exception)]
    rows = iter(predicted(run(np.concatenate(images)), about) if images else ())
    for file, image in held:
        yield file, image if isinstance(image, Exception) else next(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict what a command line names; the exit status is 1 if anything could not be read."""
    options = _parser().parse_args(arguments)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # so large a one is refused
    options.images, options.without = list(_expanded(options.images)), []
    if (model := _model(options.model)) is None:
        return _failed(f"there is no file {options.model or _known()}: type --model FILE")
    if model.suffix not in LOADERS:
        return _failed(f"{model.name} is no .onnx, .pte or .pt2 file: type one of {_known()}")
    try:
        run = load(model, threads=options.threads)
    except ImportError as error:
        return _failed(f"{model.name} takes a package that is not installed: {error}")
    except Exception as error:  # each runtime has its own
        return _failed(f"{model} cannot be loaded: {error}")
    faults: list[OSError] = []
    try:
        named = dict(_files(options, faults.append))
    except ValueError as error:
        return _failed(str(error))
    for said in options.without:
        _failed(said)
    if options.without and not named:
        return 1
    for fault in faults:
        _failed(f"the folder {fault.filename} cannot be read ({fault.strerror})")
    if options.score:
        known = {file: one for file, one in named.items() if one.truth is not None}
        if not known:
            return _failed(UNKNOWN)
        if len(known) < len(named):
            _failed(f"{len(named) - len(known)} files of which nothing is known are left out")
        named = known
    try:
        batch = min(BATCH, ABOUT["files"].get(model.name, 1))
        rows = predictions(run, named, ABOUT, batch=batch)
        return _say(rows, named, options, failed=len(faults))
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # each runtime has its own
        return _failed(f"{model} cannot run these images: {error}")


def _model(name: str | None) -> Path | None:
    """Find the file that is run: beside this script, too."""
    here = Path(__file__).resolve().parent
    paths = [Path(name), here / name] if name else [here / file for file in ABOUT["files"]]
    return next((path for path in paths if os.path.isfile(path)), None)


def _known() -> str:
    return ", ".join(ABOUT["files"])


class Named(NamedTuple):
    """A file that is to be predicted."""

    directly: bool  # whether it was named itself, and not a folder that it lies in
    truth: Any  # what is known of it; None: nothing


def _say(
    rows: Iterable[tuple[Path, Any]],
    named: dict[Path, Named],
    options: argparse.Namespace,
    *,
    failed: int,
) -> int:
    """Print what was predicted; returns the exit status. `failed` things failed before."""
    results, done, others = [], 0, 0
    for file, row in rows:
        is_meant = named[file].directly or file.suffix.lower() in SUFFIXES
        if isinstance(row, UnidentifiedImageError) and not is_meant:
            others += 1
            continue
        if isinstance(row, Exception):
            failed += _failed(f"{file} cannot be read as an image: {_reason(row)}")
            continue
        done += 1
        try:
            if options.score:
                results.append(compared(row, named[file].truth, ABOUT))
            else:
                print(_said(file, shown(row, file, ABOUT, options), options), flush=True)
        except ValueError as error:
            failed += _failed(f"{file}: {error}")
    if others:
        _failed(f"{others} other files in these folders are of no kind that is read")
    if not done and not failed:
        return _failed("there was no image: name image files, folders of them, or a table")
    if results:
        print(score(results, ABOUT))
    return int(failed > 0)


def _said(file: Path, shown: dict[str, Any], options: argparse.Namespace) -> str:
    """Write a line for a file."""
    if options.json:
        return json.dumps({"file": str(file), **shown})  # ASCII, which every terminal takes
    return f"{file}: {line(shown)}"


def _files(
    options: argparse.Namespace, unread: Callable[[OSError], None]
) -> Iterator[tuple[Path, Named]]:
    """List files; hidden files in folders are left out, and what an earlier run wrote there.

    `unread` is told of each folder that cannot be read.

    Raises:
        ValueError: if a table cannot be read, or says nothing of use.
    """
    for name in map(Path, options.images):
        if name.suffix.lower() in TABLES:
            yield from _rows(name, options)
        elif not os.path.isdir(name):
            yield name, Named(True, truth_of_file(name, ABOUT, options))
        else:
            for file in _inside(name, unread):
                if options.is_output(file):
                    continue
                yield file, Named(False, truth_of_file(file, ABOUT, options))


def _expanded(names: Iterable[str]) -> Iterator[str]:
    """Expand wildcards as most shells do before; those of Windows leave them."""
    for name in names:
        is_pattern = ("*" in name or "?" in name) and not os.path.lexists(name)
        found = sorted(glob.glob(name.replace("[", "[[]"))) if is_pattern else []
        yield from found or [name]


def _inside(name: Path, unread: Callable[[OSError], None]) -> Iterator[Path]:
    """List the files in a folder, and in the folders in it."""
    seen: set[tuple[int, int]] = set()  # links may lead back
    for folder, folders, inside in os.walk(name, onerror=unread, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        yield from (Path(folder, one) for one in sorted(inside) if one[0] != ".")


def _rows(path: Path, options: argparse.Namespace) -> Iterator[tuple[Path, Named]]:
    """List the images of a table, and what it says of each."""
    if (known := ABOUT["table"]) is None:
        raise ValueError(f"the network learnt from no table such as {path}: name image files")
    column, sign, value = (options.only or "").partition("=")
    if options.only and not sign:
        raise ValueError(f"--only {options.only} says no value: type --only COLUMN=VALUE")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        lines = [[cell.strip() for cell in cells] for cells in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"the table {path} cannot be read: {error}") from None
    names, *rows = [cells for cells in lines if any(cells)] or [[]]
    wanted = [known["image"], *(known["targets"] if options.score else ())]
    wanted += [column] if column else []
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(f"{path} has no column {missing[0]}: it has {', '.join(names)}")
    said, is_empty = dict[str, None](), bool(rows and column)
    for cells in rows:
        if len(cells) != len(names):
            raise ValueError(f"{path} has {len(cells)} cells for {len(names)} columns: {cells}")
        row = dict(zip(names, cells))
        if column and row[column] != value:
            said[row[column]] = None
            continue
        is_empty = False
        try:
            truth = truth_of_row(row, ABOUT) if options.score else None
        except ValueError as error:
            raise ValueError(f"{path}: {row[known['image']]}: {error}") from None
        yield Path(options.root or path.parent) / row[known["image"]], Named(True, truth)
    if is_empty:
        others = ", ".join(list(said)[:SHOWN]) + ", ..." * (len(said) > SHOWN)
        options.without.append(f"{path}: no row says {options.only}; they say {others}")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or of no kind that is known"
    return str(error) or type(error).__name__


def _failed(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def above_zero(text: str) -> int:
    """Read a count."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    about, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", nargs="+", help="image files, folders of them, or tables (.csv) that list them")
    add("--model", metavar="FILE", help="the first file of this export that is there")
    parser.set_defaults(is_output=lambda _: False)
    add_options(parser, above_zero)
    add("--json", action="store_true", help="one line of JSON for each image")
    add("--score", action="store_true", help="compare with what is known of the images")
    add("--root", metavar="DIR", help="where the paths of a table begin (beside it)")
    add("--only", metavar="COLUMN=VALUE", help="rows of a table that say so, such as split=val")
    add("--threads", type=above_zero, default=1, help="of the runtime (1)")
    return parser


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
