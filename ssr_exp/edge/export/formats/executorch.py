"""ExecuTorch's program, its convolutions and linear maps delegated to XNNPACK."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ssr_exp.edge.export import formats, predict_runtimes
from ssr_exp.edge.export.formats import Model, Order, traced
from ssr_exp.errors import SsrError, cause, innermost

SUFFIX = ".pte"
EXTRA = "executorch"
NEEDS = ("executorch",)
QUANTISES = True
METADATA = "metadata"  # a method of the program that returns it, as JSON
DELEGATE = "executorch_call_delegate"
NO_WORK = ("getitem", "sym_size")  # what reads a delegate's results, or a shape
CALIBRATION_BATCH = 32


def write(order: Order, path: Path) -> tuple[str, ...]:
    """Write a network for batches of 1 to `max_batch`, for which it reserves memory.

    Returns what XNNPACK took, what it left to the portable kernels, and the memory reserved.

    Raises:
        SsrError: if ExecuTorch has no kernel for a part of the network.
    """
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = traced.export(order.module(), order.images(2), max_batch=order.max_batch)
        if order.calibration is not None:
            program = _quantised(program, order)
        about = json.dumps(formats.metadata(order))
        try:
            lowered = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], constant_methods={METADATA: about}
            )
            inside = lowered.exported_program()
            remark = _delegated(inside)
            _bound(inside, order.max_batch)
            whole = lowered.to_executorch()
        except Exception as error:
            raise SsrError(
                "ExecuTorch cannot run a part of the network: lowering it for XNNPACK stopped with "
                f"{cause(innermost(error))}."
            ) from error
    path.write_bytes(whole.buffer)
    return (remark, _reserved(whole, order.max_batch))


def load(path: Path, *, threads: int) -> Model:
    """Load a program; all programs of a process run with the threads of the last one loaded.

    Raises:
        SsrError: if it cannot be loaded.
    """
    with _quiet():
        try:
            call = predict_runtimes.LOADERS[SUFFIX](path, threads)
        except Exception as error:
            raise SsrError(f"ExecuTorch cannot load {path.name}: {cause(error)}.") from None
    return formats.model(call)


def version() -> str:
    """Name the runtime and its version."""
    return f"ExecuTorch {metadata.version('executorch')} with XNNPACK"


def _quantised(program: ExportedProgram, order: Order) -> ExportedProgram:
    """Quantise to int8 with XNNPACK's own quantiser: weights for each channel."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    assert order.calibration is not None
    quantiser = XNNPACKQuantizer()
    quantiser.set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(program.module(), quantiser)
    size = min(CALIBRATION_BATCH, order.max_batch)
    with torch.no_grad():
        for images in order.calibration.split(size):
            prepared(images)
    return traced.export(convert_pt2e(prepared), order.images(2), max_batch=order.max_batch)


def _bound(program: ExportedProgram, max_batch: int) -> None:
    """Say again how many images there may be.

    Lowering traces anew, and forgets it: ExecuTorch 1.5 then reserves memory for 15.
    """
    from torch.utils._sympy.value_ranges import ValueRanges

    for node in program.graph.nodes:
        for size in getattr(node.meta.get("val"), "shape", ()) if node.op == "placeholder" else ():
            if isinstance(size, torch.SymInt):
                ranges: Any = size.node.shape_env.var_to_range  # type: ignore[union-attr]
                ranges[size.node.expr] = ValueRanges(ranges[size.node.expr].lower, max_batch)


def _delegated(program: ExportedProgram) -> str:
    """Say what XNNPACK runs, and which operators it leaves."""
    inside: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        if _name(node) == DELEGATE:
            lowered = getattr(program.graph_module, node.args[0].target)
            nodes = lowered.original_module.graph.nodes
            inside.update(_name(n) for n in nodes if n.op == "call_function" and _works(n))
            inside[DELEGATE] += 1
        elif _works(node):
            outside[_name(node)] += 1
    parts = inside.pop(DELEGATE, 0)
    left = ", ".join(f"{count} {name}" for name, count in outside.most_common()) or "nothing"
    return f"XNNPACK runs {inside.total()} operators in {parts} delegates; left outside: {left}"


def _works(node: Any) -> bool:
    return not any(word in _name(node) for word in NO_WORK)


def _name(node: Any) -> str:
    """Shorten an operator's name: `aten.convolution.default` to `convolution`."""
    target = node.target
    own = str(getattr(target, "_name", "") or getattr(target, "__name__", target))
    return own.removeprefix("aten::").partition(".")[0].removesuffix("_copy")


def _reserved(whole: Any, max_batch: int) -> str:
    """Say how much memory loading reserves beside XNNPACK's own."""
    plan = whole.executorch_program.execution_plan[0]
    kilobytes = sum(plan.non_const_buffer_sizes) / 1024
    return (
        f"takes 1 to {max_batch} images at once, and reserves {kilobytes:,.0f} KiB for them beside "
        "XNNPACK's own memory"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ExecuTorch's libraries write to the error stream from the user's screen."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
