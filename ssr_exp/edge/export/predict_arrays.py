"""Run the network of this folder on arrays.

    python predict.py inputs.npz              the shapes of its outputs
    python predict.py inputs.npz --to out.npz their values, too

`inputs.npz` holds an array for each input of the network, by its name, with a batch:
`numpy.savez("inputs.npz", image=images, mask=masks)`.

Needs Python 3.9, NumPy and what runs the file: onnxruntime, executorch or torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssr_exp.edge.export.predict_runtimes import LOADERS

ABOUT: dict[str, Any] = {}  # inputs, outputs and files of an export
RESERVES = ".pte"  # its runtime reserves memory for so many inputs at once as it was exported for


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what a command line names; the exit status is 1 if it cannot be."""
    about, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", type=Path, help="an .npz file of arrays, by the inputs' names")
    parser.add_argument(
        "--model", metavar="FILE", help="the first file of this export that is there"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="an .npz file of the outputs")
    parser.add_argument("--threads", type=int, default=1, help="of the runtime (1)")
    options = parser.parse_args(arguments)
    try:
        outputs = run(_model(options.model), read(options.inputs), threads=options.threads)
        for name, array in outputs.items():
            print(f"{name}: {'x'.join(map(str, array.shape)) or 'one number'}, {array.dtype}")
        if options.to is not None:
            np.savez(options.to, **outputs)
    except ImportError as error:
        return _failed(f"a package is not installed: {error}")
    except Exception as error:  # each runtime has its own
        return _failed(str(error))
    return 0


def read(path: Path) -> dict[str, Any]:
    """Read arrays by the inputs' names, as the network takes them.

    Raises:
        ValueError: if one is missing, or has another shape or kind.
    """
    try:
        with np.load(path) as file:  # arrays alone: no pickle is read
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an .npz file of arrays: {error}") from None
    sizes = set()
    for name, about in ABOUT["inputs"].items():
        if name not in arrays:
            known = ", ".join(ABOUT["inputs"])
            raise ValueError(f"{path} holds no array {name!r}: the inputs are {known}")
        array, dim, shape = arrays[name], about["batch_dim"], list(about["shape"])
        own = list(array.shape)
        if dim is not None and len(own) > dim:
            sizes.add(own.pop(dim))
            shape.insert(dim, "batch")
        if len(array.shape) != len(shape) or own != about["shape"]:
            told = " x ".join(map(str, shape))
            raise ValueError(f"{name} is {' x '.join(map(str, array.shape))}; it must be {told}")
        if not np.can_cast(array.dtype, about["dtype"], "same_kind"):
            raise ValueError(f"{name} is {array.dtype}; it must be {about['dtype']}")
        arrays[name] = array.astype(about["dtype"])
    if len(sizes) > 1:
        raise ValueError(f"the inputs are batches of {' and '.join(map(str, sorted(sizes)))}")
    return {name: arrays[name] for name in ABOUT["inputs"]}


def run(model: Path, arrays: dict[str, Any], *, threads: int = 1) -> dict[str, Any]:
    """Run a file of this export on arrays that `read` gives; returns its outputs by name.

    Raises:
        ValueError: if the file takes fewer at once.
    """
    dims = {name: about["batch_dim"] for name, about in ABOUT["inputs"].items()}
    sizes = [arrays[name].shape[dim] for name, dim in dims.items() if dim is not None]
    most = ABOUT["files"].get(model.name)
    if model.suffix == RESERVES and most is not None and max(sizes, default=0) > most:
        raise ValueError(f"{model.name} takes 1 to {most} at once, and these are {max(sizes)}")
    call = LOADERS[model.suffix](model, threads)
    return dict(zip(ABOUT["outputs"], call(list(arrays.values()))))


def _model(name: str | None) -> Path:
    """Find the file that is run: beside this script, too."""
    here = Path(__file__).resolve().parent
    paths = [Path(name), here / name] if name else [here / file for file in ABOUT["files"]]
    model = next((path for path in paths if path.is_file()), None)
    if model is None or model.suffix not in LOADERS:
        known = ", ".join(ABOUT["files"])
        raise ValueError(f"{name or 'this folder'} is no file to run: type --model one of {known}")
    return model


def _failed(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
