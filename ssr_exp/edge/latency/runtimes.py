"""What runs a network: each runtime prepares it for a batch, and gives back what runs it once.

A network is handed to a runtime by way of the file that `ssr export` would write for it, so what is
measured is what is shipped.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp import files
from ssr_exp.edge.export import formats
from ssr_exp.edge.export.formats import Batch, Order, executorch, onnx, traced
from ssr_exp.edge.export.formats.flat import FlatNetwork, Tensors
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import saved
from ssr_exp.runs import provenance

Runner = Callable[[], object]
"""Runs a network on a batch once, to the end."""

Prepare = Callable[[nn.Module, Batch, int], Runner]
"""Prepares a network for a batch, `b x c x h x w`, or a `FlatNetwork` for all its tensors, with so
many threads; it stays in eval mode."""

CUDA = "CUDAExecutionProvider"
TURNS_BEFORE_CAPTURE = 3


@dataclass(frozen=True)
class Runtime:
    """A way to run a network on this machine."""

    name: str  # as it is typed
    prepare: Prepare  # a network for a batch
    check: Callable[[], object]  # raises an `SsrError` where it cannot run here
    version: Callable[[], str]  # names it and its version
    on_gpu: bool = False  # whether it runs there; else on the CPU

    def device(self) -> str:
        """Name the processor that it runs on; no name of a host or user."""
        return torch.cuda.get_device_name() if self.on_gpu else provenance.processor()


def find(name: str) -> Runtime:
    """Find a runtime by its name.

    Raises:
        SsrError: if there is none of it, or it cannot run here.
    """
    runtime = next((runtime for runtime in ALL if runtime.name == name), None)
    if runtime is None:
        raise SsrError(f"there is no runtime {name}: type one of {', '.join(NAMES)}.")
    runtime.check()
    return runtime


def _tensors(batch: Batch) -> Tensors:
    return batch if isinstance(batch, tuple) else (batch,)


def _eager(network: nn.Module, batch: Batch, _threads: int) -> Runner:
    """Run as PyTorch does, without gradients."""
    network.eval()
    inputs = _tensors(batch)

    def run() -> object:
        with torch.inference_mode():
            return network(*inputs)

    return run


def _compiled(network: nn.Module, batch: Batch, _threads: int) -> Runner:
    """Compile with inductor, for this size of batch.

    The network is exported first: that gives each one code of its own, where torch.compile would
    count all networks of a class as recompilations of one, and give up after eight.
    """
    inputs = _tensors(batch)
    two = network.draw(2) if isinstance(network, FlatNetwork) else _zeros(2, inputs[0])
    program = traced.export(network.eval(), two)
    compiled = torch.compile(program.module(), dynamic=False)

    def run() -> object:
        with torch.no_grad():
            return compiled(*inputs)

    try:
        run()
    except Exception as error:
        raise SsrError(f"torch.compile cannot compile the network: {cause(error)}.") from error
    return run


def _by_file(name: str, **options: Any) -> Prepare:
    """Write the file of a format, and run that; images go there and logits come back each time."""

    def prepare(network: nn.Module, batch: Batch, threads: int) -> Runner:
        kind: Any = formats.find(name)
        most = max(Order.max_batch, _size(network, batch))
        order = Order(network.eval(), _nameless(_tensors(batch)[0]), max_batch=most)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"network{kind.SUFFIX}"
                kind.write(order, path)
                model = kind.load(path, threads=threads, **options)
        except OSError as error:
            if error.errno not in (*files.FULL, errno.EACCES, errno.ENOENT, errno.EROFS):
                raise
            raise SsrError(
                f"cannot write the file that is measured to {tempfile.gettempdir()} "
                f"({cause(error)}): make room there, or set TMPDIR to another folder."
            ) from error
        return lambda: model(batch)

    return prepare


def _zeros(count: int, images: Tensor) -> Tensor:
    return torch.zeros(count, *images.shape[1:], dtype=images.dtype)


def _size(network: nn.Module, batch: Batch) -> int:
    """Count the samples of a batch."""
    places = network.batch_dims if isinstance(network, FlatNetwork) else (0,)
    pairs = zip(_tensors(batch), places, strict=True)
    return max(tensor.shape[dim] for tensor, dim in pairs if dim is not None)


def _cuda(network: nn.Module, batch: Batch, _threads: int) -> Runner:
    """Run on the GPU as PyTorch does, kernel by kernel; images and results stay there."""
    on_gpu, there = network.eval().cuda(), [tensor.cuda() for tensor in _tensors(batch)]

    def run() -> object:
        with torch.inference_mode():
            logits = on_gpu(*there)
        torch.cuda.synchronize()
        return logits

    return run


def _cuda_graphs(network: nn.Module, batch: Batch, _threads: int) -> Runner:
    """Capture all kernels once, and launch them together."""
    on_gpu, there = network.eval().cuda(), [tensor.cuda() for tensor in _tensors(batch)]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.no_grad():
        with torch.cuda.stream(aside):
            for _ in range(TURNS_BEFORE_CAPTURE):
                on_gpu(*there)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            on_gpu(*there)

    def run() -> object:
        graph.replay()
        torch.cuda.synchronize()
        return None

    return run


def _nameless(images: Tensor) -> saved.Description:
    """Describe a network of which only the shape of its images matters."""
    shape = tuple(images.shape[1:]) or (1,)
    return saved.Description(
        model=saved.Model(name="measured"),
        segment=saved.Segmentation(multiple=1),
        network="",
        num_classes=1,
        input_shape=shape,
        classes=("",),
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
        modifiers=saved.Shares(depth=(), width=()),
    )


def _torch() -> str:
    return f"PyTorch {torch.__version__}"


def _check_compiler() -> None:
    if shutil.which("c++") is None and shutil.which("g++") is None:
        raise SsrError(
            "the runtime compile takes a C++ compiler, and there is none: install g++ (Debian, "
            "Ubuntu: apt install g++), or choose another runtime."
        )


def _check_gpu() -> None:
    if not torch.cuda.is_available():
        raise SsrError("PyTorch sees no GPU here: choose a runtime of the CPU.")


def _check_onnxruntime_cuda() -> None:
    formats.find("onnx")
    _check_gpu()
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        raise SsrError(
            "this ONNX Runtime knows no GPU: type pip install onnxruntime-gpu on a machine with one"
            ", or choose onnxruntime."
        )


ALL = (
    Runtime("eager", _eager, lambda: None, _torch),
    Runtime("compile", _compiled, _check_compiler, _torch),
    Runtime("onnxruntime", _by_file("onnx"), lambda: formats.find("onnx"), onnx.version),
    Runtime(
        "executorch",
        _by_file("executorch"),
        lambda: formats.find("executorch"),
        executorch.version,
    ),
    Runtime("cuda", _cuda, _check_gpu, _torch, on_gpu=True),
    Runtime("cuda_graphs", _cuda_graphs, _check_gpu, _torch, on_gpu=True),
    Runtime(
        "onnxruntime_cuda",
        _by_file("onnx", provider=CUDA),
        _check_onnxruntime_cuda,
        onnx.version,
        on_gpu=True,
    ),
)
NAMES = tuple(runtime.name for runtime in ALL)
