"""Classify image files with the network of this folder.

    python predict.py photo.jpg more/           the likeliest labels of each image
    python predict.py --model model.pte --top 3 photo.jpg
    python predict.py --json photo.jpg          one line of JSON for each image
    python predict.py --score val/              images in folders named by their label: accuracy

Needs Python 3.9, Pillow 10.1, NumPy and what runs the file: onnxruntime, executorch or torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from ssr_exp.datasets.preprocessing import Preprocessing, normalised, pixels

ABOUT: dict[str, Any] = {}  # labels, preprocessing and files of an export

Run = Callable[[Any], Any]
"""Maps images as the network takes them, `b x c x h x w`, to logits, `b x labels`; NumPy's."""

BATCH = 8  # images at once


def tensor(files: Sequence[Any], about: dict[str, Any]) -> Any:
    """Read image files as the network takes them, `n x c x h x w`: normalised, or bytes."""
    how = Preprocessing(**about["preprocessing"])
    images = np.stack([pixels(file, how) for file in files])
    if about["input"] == "uint8":
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return normalised(images, how)


def load(path: Path, *, threads: int = 1) -> Run:
    """Load a file into its runtime, on the CPU."""
    return LOADERS[path.suffix](path, threads)


def probabilities(logits: Any) -> Any:
    """Turn logits into probabilities, each row's sum being 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def classify(
    run: Run, files: Iterable[Path], about: dict[str, Any], *, batch: int = BATCH
) -> Iterator[tuple[Path, Any]]:
    """Give each file its probabilities; one that is no image its error instead."""
    held: list[tuple[Path, Any]] = []
    for file in files:
        try:
            held.append((file, tensor([file], about)))
        except Exception as error:  # of a damaged file, Pillow may raise anything
            held.append((file, error))
        if len(held) == batch:
            yield from _run(run, held)
            held = []
    yield from _run(run, held)


def _run(run: Run, held: Sequence[tuple[Path, Any]]) -> Iterator[tuple[Path, Any]]:
    """Run what could be read, all at once."""
    images = [image for _, image in held if not isinstance(image, Exception)]
    chances = iter(probabilities(run(np.concatenate(images)))) if images else iter(())
    for file, image in held:
        yield file, image if isinstance(image, Exception) else next(chances)


def session(path: Path, threads: int, provider: str = "CPUExecutionProvider") -> Any:
    """Load a file into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


def _onnx(path: Path, threads: int) -> Run:
    loaded = session(path, threads)
    return lambda images: loaded.run(["logits"], {"image": images})[0]


def _executorch(path: Path, threads: int) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime, Verification

    portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path, verification=Verification.Minimal)
    method = program.load_method("forward")
    return lambda images: method.execute([torch.from_numpy(images)])[0].numpy().copy()


def _torch_export(path: Path, threads: int) -> Run:
    import logging
    import warnings

    import torch

    logging.disable(logging.WARNING)  # it logs the traceback of what it raises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: Any = torch.export.load(path).module()  # a pickle: only what you trust
    finally:
        logging.disable(logging.NOTSET)

    def run(images: Any) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return module(torch.from_numpy(images)).numpy()
        finally:
            torch.set_num_threads(before)

    return run


LOADERS: dict[str, Callable[[Path, int], Run]] = {
    ".onnx": _onnx,
    ".pte": _executorch,
    ".pt2": _torch_export,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify what a command line names; the exit status is 1 if anything could not be read."""
    options = _parser().parse_args(arguments)
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
    files = dict(_files(options.images))
    if options.score:
        labelled = {file: named for file, named in files.items() if _label(file) is not None}
        if not labelled:
            return _failed("no image lies in a folder that is named by a label: leave out --score")
        if len(labelled) < len(files):
            _failed(f"{len(files) - len(labelled)} files in no folder of a label are left out")
        files = labelled
    try:
        batch = min(BATCH, ABOUT["files"].get(model.name, 1))
        return _say(classify(run, files, ABOUT, batch=batch), files, options)
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # each runtime has its own
        return _failed(f"{model} cannot run these images: {error}")


def _model(name: str | None) -> Path | None:
    """Find the file that is run: beside this script, too."""
    here = Path(__file__).resolve().parent
    paths = [Path(name), here / name] if name else [here / file for file in ABOUT["files"]]
    return next((path for path in paths if path.is_file()), None)


def _known() -> str:
    return ", ".join(ABOUT["files"])


def _say(
    predictions: Iterable[tuple[Path, Any]], named: dict[Path, bool], options: argparse.Namespace
) -> int:
    """Print what was found; returns the exit status."""
    hits, classified, others, failed = 0, 0, 0, 0
    for file, chances in predictions:
        if isinstance(chances, UnidentifiedImageError) and not named[file]:
            others += 1
        elif isinstance(chances, Exception):
            failed += _failed(f"{file} cannot be read as an image: {_reason(chances)}")
        else:
            classified += 1
            best = {ABOUT["labels"][i]: float(chances[i]) for i in np.argsort(-chances)}
            hits += _label(file) == next(iter(best))
            shown = dict(list(best.items())[: options.top])
            if not options.score:
                print(_line(file, shown, as_json=options.json), flush=True)
    if others:
        _failed(f"{others} other files in these folders are of no kind that is read")
    if not classified and not failed:
        return _failed("no image was classified: name image files, or folders of them")
    if options.score and classified:
        share = 100 * hits / classified
        print(f"{share:.2f} % of {classified} images have the label of their folder")
    return int(failed > 0)


def _label(file: Path) -> str | None:
    """Name the nearest folder above a file that is a label."""
    names = (folder.name for folder in file.absolute().parents)
    return next((name for name in names if name in ABOUT["labels"]), None)


def _line(file: Path, shown: dict[str, float], *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"file": str(file), "labels": shown}, ensure_ascii=False)
    return f"{file}: " + ", ".join(f"{label} {100 * share:.1f} %" for label, share in shown.items())


def _files(names: Iterable[str]) -> Iterator[tuple[Path, bool]]:
    """List files, and whether each was named itself; hidden files in folders are left out."""
    for name in map(Path, names):
        if not name.is_dir():
            yield name, True
            continue
        seen: set[tuple[int, int]] = set()  # links may lead back
        for folder, folders, inside in os.walk(name, followlinks=True):
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            yield from ((Path(folder, one), False) for one in sorted(inside) if one[0] != ".")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is of no kind that is known"
    return str(error) or type(error).__name__


def _failed(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def _count(text: str) -> int:
    """Read a number of labels."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    about, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--model", metavar="FILE", help="the first file of this export that is there"
    )
    parser.add_argument("--top", type=_count, default=3, help="labels of each image (3)")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each image")
    parser.add_argument("--score", action="store_true", help="folders are labels: the accuracy")
    parser.add_argument("--threads", type=_count, default=1, help="of the runtime (1)")
    return parser


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
