"""PyTorch's own program, for `torch.export.load`, AOTInductor, or C++."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ssr_exp.edge.export import formats, predict_runtimes
from ssr_exp.edge.export.formats import Model, Order, traced

SUFFIX = ".pt2"
EXTRA = None
NEEDS = ()
QUANTISES = False
METADATA = "metadata.json"
ATEN = torch.ops.aten
NORM = ATEN.batch_norm.default
CONVOLUTIONS = tuple(
    kind
    for packet in (ATEN.conv1d, ATEN.conv2d, ATEN.conv3d)
    for kind in (packet.default, packet.padding)
)


def write(order: Order, path: Path) -> tuple[str, ...]:
    """Write a network with a dynamic batch; batch norms become part of their convolutions."""
    images = order.images(2)
    graph, folded = fold(traced.export(order.module(), images))
    program = traced.export(graph, images, dims=order.batch_dims)
    about = json.dumps(formats.metadata(order))
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(program, path, extra_files={METADATA: about})
    return (f"{folded} batch norms folded; {METADATA} is inside",)


def load(path: Path, *, threads: int) -> Model:
    """Load a program, to run it as PyTorch does.

    It is a pickle inside: load only what you trust.
    """
    return formats.model(predict_runtimes.LOADERS[SUFFIX](path, threads))


def version() -> str:
    """Name the runtime and its version."""
    return f"torch.export {torch.__version__}"


def fold(program: ExportedProgram) -> tuple[GraphModule, int]:
    """Make each batch norm that alone reads a convolution part of it; returns how many.

    The other exporters do so themselves. y = gamma (W x + b - mean) / sqrt(var + eps) + beta is a
    convolution by gamma W / sqrt(var + eps).
    """
    module: Any = program.module(check_guards=False)
    graph, folded = module.graph, 0
    for norm in [node for node in graph.nodes if node.target is NORM]:
        convolution = norm.args[0]
        if not _can_fold(convolution, norm):
            continue
        weight, bias = _folded(module, convolution, norm)
        _replace(module, convolution, norm, weight, bias, number=folded)
        folded += 1
    graph.eliminate_dead_code()
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    return GraphModule({name: _tensor_of(module, name) for name in used}, graph), folded


def _can_fold(convolution: Node, norm: Node) -> bool:
    """Say whether a norm with fixed statistics alone reads a convolution with fixed weights."""
    if convolution.target not in CONVOLUTIONS or len(convolution.users) > 1:
        return False
    statistics, fixed = norm.args[3:5], (*convolution.args[1:3], *norm.args[1:5])
    has_statistics = None not in statistics and not norm.args[5]
    return has_statistics and all(n is None or _is_stored(n) for n in fixed)


def _is_stored(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _folded(module: nn.Module, convolution: Node, norm: Node) -> tuple[nn.Parameter, nn.Parameter]:
    weight, bias = (_tensor(module, node) for node in (*convolution.args, None)[1:3])
    gamma, beta, mean, var = (_tensor(module, node) for node in norm.args[1:5])
    assert weight is not None and mean is not None and var is not None
    eps = norm.args[7]
    assert isinstance(eps, float)
    return fuse_conv_bn_weights(weight, bias, mean, var, eps, gamma, beta)


def _tensor(module: nn.Module, node: Any) -> Tensor | None:
    return None if node is None else _tensor_of(module, node.target).detach()


def _tensor_of(module: nn.Module, target: str) -> Tensor:
    path, _, name = target.rpartition(".")
    tensor = getattr(module.get_submodule(path), name)
    assert isinstance(tensor, Tensor)
    return tensor


def _replace(
    module: Any,
    convolution: Node,
    norm: Node,
    weight: nn.Parameter,
    bias: nn.Parameter,
    *,
    number: int,
) -> None:
    names = f"folded{number}_weight", f"folded{number}_bias"
    for name, parameter in zip(names, (weight, bias), strict=True):
        module.register_parameter(name, nn.Parameter(parameter.detach(), requires_grad=False))
    with module.graph.inserting_before(convolution):
        nodes = [module.graph.get_attr(name) for name in names]
    convolution.args = (convolution.args[0], *nodes, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    module.graph.erase_node(norm)
