"""Load the file of an export into what runs it: what all kinds of `predict.py` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Call = Callable[[Sequence[Any]], "list[Any]"]
"""Maps a file's inputs, in its order, to all of its outputs; NumPy's arrays."""


def session(path: Path, threads: int, provider: str = "CPUExecutionProvider") -> Any:
    """Load a file into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


def call_session(loaded: Any) -> Call:
    """Call ONNX Runtime by the names of a file's inputs."""
    names = [each.name for each in loaded.get_inputs()]

    def call(arrays: Sequence[Any]) -> list[Any]:
        outputs: list[Any] = loaded.run(None, dict(zip(names, arrays)))
        return outputs

    return call


def _onnx(path: Path, threads: int) -> Call:
    return call_session(session(path, threads))


def _executorch(path: Path, threads: int) -> Call:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime, Verification

    portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path, verification=Verification.Minimal)
    method = program.load_method("forward")

    def call(arrays: Sequence[Any]) -> list[Any]:
        outputs = method.execute([torch.from_numpy(array) for array in arrays])
        return [output.numpy().copy() for output in outputs]

    return call


def _torch_export(path: Path, threads: int) -> Call:
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

    def call(arrays: Sequence[Any]) -> list[Any]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                outputs = module(*[torch.from_numpy(array) for array in arrays])
        finally:
            torch.set_num_threads(before)
        parts = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [part.numpy() for part in parts]

    return call


LOADERS: dict[str, Callable[[Path, int], Call]] = {
    ".onnx": _onnx,
    ".pte": _executorch,
    ".pt2": _torch_export,
}
