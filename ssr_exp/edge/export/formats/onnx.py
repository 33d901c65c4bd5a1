"""ONNX, for ONNX Runtime; int8 by the runtime's own static quantisation."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssr_exp.edge.export import formats, predict_runtimes
from ssr_exp.edge.export.formats import Model, Order, traced
from ssr_exp.errors import SsrError, cause, innermost
from ssr_exp.rescaling.inputs import IMAGE

SUFFIX = ".onnx"
EXTRA = "onnx"
NEEDS = ("onnx", "onnxruntime", "onnxscript")
QUANTISES = True
CPU = "CPUExecutionProvider"
CALIBRATION_BATCH = 32


def write(order: Order, path: Path) -> tuple[str, ...]:
    """Write a network with a dynamic batch; its batch norms become part of the convolutions.

    Raises:
        SsrError: if ONNX has no operator for a part of the network.
    """
    if order.calibration is None:
        _save(_model(order), order, path)
        return (f"operators: {_operators(path)}",)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / f"whole{SUFFIX}"
        _save(_model(order), order, whole)
        _quantise(whole, path, order.calibration)
    return (f"calibrated on {len(order.calibration)} inputs; operators: {_operators(path)}",)


def load(path: Path, *, threads: int, provider: str = CPU) -> Model:
    """Load a file into ONNX Runtime.

    Raises:
        SsrError: if it has no kernel for an operator.
    """
    try:
        session = predict_runtimes.session(path, threads, provider)
    except Exception as error:  # its own exceptions have no common base
        raise SsrError(f"ONNX Runtime cannot load {path.name}: {cause(error)}.") from None

    if (own := session.get_providers()[0]) != provider:
        raise SsrError(f"ONNX Runtime cannot use {provider} here, and would take {own}.")

    return formats.model(predict_runtimes.call_session(session))


def version() -> str:
    """Name the runtime and its version."""
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def _model(order: Order) -> Any:
    """Translate a network into ONNX."""
    program = traced.export(order.module(), order.images(2))
    try:
        with _quiet():
            return torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=list(order.inputs),
                output_names=list(order.outputs),
            )
    except Exception as error:
        raise SsrError(
            f"the network cannot be written as ONNX: {cause(innermost(error))}."
        ) from error


def _save(model: Any, order: Order, path: Path) -> None:
    import onnx

    proto = model.model_proto
    _name_batch(proto.graph)
    _strip(proto.graph)
    for key, value in formats.metadata(order).items():
        text = value if isinstance(value, str) else json.dumps(value)
        proto.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))


def _name_batch(graph: Any) -> None:
    """Give the batch's symbol, the one that inputs have, a name that says what it is."""
    taken = [dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim]
    symbol = next(filter(None, taken), None)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if symbol and dim.dim_param == symbol:
                dim.dim_param = "batch"


def _strip(graph: Any) -> None:
    """Take out where in Python each node came from: half of a small network's file."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")


def _quantise(whole: Path, path: Path, images: Tensor) -> None:
    """Quantise to int8: weights for each channel, activations from what the images make of them."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(images.split(CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {IMAGE: batch.contiguous().numpy()}

    prepared = whole.with_name(f"prepared{SUFFIX}")
    with _quiet(), _temporary_files_in(whole.parent):
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have others write their temporary files there, as /tmp may be small."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _operators(path: Path) -> str:
    """Count the kinds of nodes, the most frequent first."""
    from collections import Counter

    import onnx

    counts = Counter(node.op_type for node in onnx.load(str(path)).graph.node)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its libraries' deprecations from the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(before)
