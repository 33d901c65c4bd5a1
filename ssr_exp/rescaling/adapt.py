"""Fit the stem and the head of any network to a data set: its channels, its size, its classes.

What to change shows in one run on the meta device; it is changed in place, so that a layer keeps
its class. A network that fits is left as it is.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import chosen_values, initialise, input_examples, meta
from ssr_exp.rescaling.inputs import Example

SIZES = (32, 64, 96, 128, 224)  # pixels: those that are proposed where the images are too small
SMALL = 64  # pixels; up to here an ImageNet network gets the CIFAR stem by itself
BATCH = 2  # images
IMAGE = "the image"  # no module has this name
PRODUCTS = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm)
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)


def fit(
    network: nn.Module, name: str, *, num_classes: int, input_shape: Sequence[int], small: bool
) -> nn.Module:
    """Fit a network, in place, to images and classes.

    Args:
        network: maps images to logits.
        name: what errors call it.
        num_classes: how many logits it shall put out.
        input_shape: channels, height and width of the images, in pixels.
        small: whether the images are too small for a strided stem: then the first convolution
            gets stride 1 and at most 3x3, and the pooling right after it goes. A first convolution
            of stride 1 says that the network is made for such images; it stays.

    Raises:
        SsrError: if the network does not run on such images, decides by the values of its
            activations, puts out something else than logits, or has no last linear layer that
            could be replaced.
    """
    _check_inputs(network, name)
    original = meta.copied(network) if small else network
    flow = Flow(network, input_shape)
    if _fit_stem(network, flow, small=small):
        flow = Flow(network, input_shape)
    if flow.error is not None:
        raise _stopped(network, original, name, input_shape, flow)
    size = input_shape[1:]
    n_logits = _count_logits(flow.output, name, size)
    if n_logits != num_classes:
        wrong_head = SsrError(
            f"{name} puts out {n_logits} logits for {num_classes} classes, and no last linear "
            "layer was found to replace: give the callable a num_classes argument."
        )
        if not _fit_head(network, flow, n_logits, num_classes):
            raise wrong_head
        flow = Flow(network, input_shape)
        if flow.error is not None or _count_logits(flow.output, name, size) != num_classes:
            raise wrong_head
    return network


class Flow(meta.ModuleWatch):
    """One run of a copy of a network, in eval mode: what reads the image, what writes the output.

    Each tensor carries the names of the modules whose products it comes from. A product (of a
    convolution or a linear layer) starts afresh, all else passes the names on. A convolution that
    was made for images of another number of channels is fitted on the way.

    Attributes:
        readers: modules whose product reads the image, in the order of their first.
        channels: those of them that were fitted, and the number of channels that they are given.
        order: modules, as they ran: one entry for each product and each pooling.
        writers: modules whose products the output comes from.
        output: of the network; None if it stopped.
        error: that stopped it, in the module at `path`.
    """

    def __init__(self, network: nn.Module, example: Example) -> None:
        super().__init__(network)
        self.readers: list[str] = []
        self.channels: dict[str, int] = {}
        self.order: list[str] = []
        self.writers: frozenset[str] = frozenset()
        self.output: Any = None
        self.error: Exception | None = None
        try:
            self._network = meta.copied(network).eval()
            with meta.undrawn(), torch.inference_mode(False), torch.no_grad(), self:
                args, kwargs = input_examples.read(self._network, example).make(
                    BATCH, device="meta"
                )
                self.mark((args, kwargs), frozenset({IMAGE}))
                self.output = self._network(*args, **kwargs)
                self.writers = self.made_by(self.output) - {IMAGE}
        except Exception as error:  # a network may be anyone's code
            self.error = error

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        makers = self.made_by((args, kwargs))
        if makers and func.overloadpacket in PRODUCTS:
            self.order.append(self.path)
            if IMAGE in makers and self.path not in self.readers:
                self.readers.append(self.path)
            makers = frozenset({self.path})
        out = meta.run(func, args, kwargs or {})
        self.mark(out, makers)
        return out

    def _start(self, path: str, module: nn.Module, args: Any) -> None:
        super()._start(path, module, args)
        if isinstance(module, POOLINGS):
            self.order.append(path)
        if not (isinstance(module, nn.Conv2d) and IMAGE in self.made_by(args)):
            return
        channels = args[0].shape[1]
        if channels != module.in_channels and module.groups == 1 and has_own_weight(module):
            shape = (module.out_channels, channels, *module.kernel_size)
            module.weight = nn.Parameter(module.weight.new_empty(shape))
            module.in_channels = self.channels[path] = channels


def is_dictionary(network: nn.Module, input_shape: Sequence[int]) -> bool:
    """Say whether a network puts out a dictionary, as torchvision's for segmentation do."""
    return isinstance(Flow(network, input_shape).output, Mapping)


def output_shape(network: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...] | None:
    """Say the shape of what a network puts out for one image; None where it is no one tensor."""
    output = Flow(network, input_shape).output
    if isinstance(output, Mapping):
        output = output.get("out")
    return tuple(output.shape[1:]) if isinstance(output, Tensor) else None


def has_own_weight(module: nn.Module) -> bool:
    """Say whether a layer's weight is a parameter of it, not computed from others."""
    return isinstance(module._parameters.get("weight"), nn.Parameter)


def _check_inputs(network: nn.Module, name: str) -> None:
    """Refuse a network whose forward needs something else than one batch of images."""
    parameters = inspect.signature(network.forward).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    if len(needed) > 1 or not parameters:
        takes = f"{len(needed)} inputs ({', '.join(needed)})" if needed else "no input"
        raise SsrError(
            f"the forward of {name} takes {takes}, and it is given one, a batch of images: give "
            "the others default values, wrap the network, or train it by your own module "
            "(task=module), which may call it with anything."
        )


def _fit_stem(network: nn.Module, flow: Flow, *, small: bool) -> bool:
    """Fit what reads the image; says whether anything was changed."""
    std = initialise.constant_std(network)
    for path, channels in flow.channels.items():
        conv = network.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        _redraw(conv, channels, conv.kernel_size, std)
    stem = _strided(network, flow) if small else None
    if stem is None:
        return bool(flow.channels)
    if (pooling := _pooling(network, flow)) is not None:
        parent, _, name = pooling.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
    _unstride(stem, std)
    return True


def _strided(network: nn.Module, flow: Flow) -> nn.Conv2d | None:
    """Find the one convolution that reads the image, if it is strided."""
    if len(flow.readers) != 1 or flow.order.count(flow.readers[0]) != 1:
        return None
    stem = network.get_submodule(flow.readers[0])
    is_plain = isinstance(stem, nn.Conv2d) and has_own_weight(stem)
    return stem if is_plain and max(stem.stride) > 1 else None  # type: ignore[return-value, arg-type]


def _pooling(network: nn.Module, flow: Flow) -> str | None:
    """Find the strided pooling that runs before any other product than the stem's."""
    after = flow.order[flow.order.index(flow.readers[0]) + 1 :]
    if not after or flow.order.count(after[0]) != 1:
        return None
    module = network.get_submodule(after[0])
    if not isinstance(module, POOLINGS):
        return None
    stride = module.stride if isinstance(module.stride, tuple) else (module.stride,)
    return after[0] if max(stride) > 1 else None


def _unstride(conv: nn.Conv2d, std: float | None) -> None:
    patches = conv.kernel_size == conv.stride
    conv.stride = (1, 1)
    if max(conv.kernel_size) <= 3 and not patches:
        return
    _redraw(conv, conv.in_channels, (3, 3), std)
    conv.dilation = (1, 1)
    if type(conv) is nn.Conv2d or conv.padding != (0, 0):  # else it pads for itself
        conv.padding = (1, 1)
        conv._reversed_padding_repeated_twice = [1, 1, 1, 1]


def _redraw(conv: nn.Conv2d, in_channels: int, kernel: tuple[int, ...], std: float | None) -> None:
    """Give a convolution a new weight, drawn by the rule of He et al. that its old one is near.

    Where all convolutions have one standard deviation `std`, the new weight has it, too.
    """
    mode = _mode(conv.weight)
    weight = conv.weight.new_empty((conv.out_channels, in_channels // conv.groups, *kernel))
    conv.in_channels, conv.kernel_size, conv.weight = in_channels, kernel, nn.Parameter(weight)
    if std is None:
        nn.init.kaiming_normal_(conv.weight, mode=mode, nonlinearity="relu")
    else:
        nn.init.normal_(conv.weight, std=std)
    if conv.bias is not None and not chosen_values.is_constant(conv.bias.detach()):
        nn.init.uniform_(conv.bias, -(bound := weight[0].numel() ** -0.5), bound)


def _mode(weight: Tensor) -> Any:
    """Tell fan in from fan out: rescaling looks for one rule that all convolutions follow."""
    std = 0.0 if weight.is_meta else float(weight.detach().std())
    if not std > 0:
        return "fan_out"
    n_out, n_in = weight.shape[:2]
    kernel = weight[0, 0].numel()
    fans = {"fan_out": n_out * kernel, "fan_in": n_in * kernel}
    return min(fans, key=lambda mode: abs(math.log(std * math.sqrt(fans[mode] / 2))))


def _count_logits(output: Any, name: str, size: Sequence[int]) -> int:
    """Count the logits of an image, or of each of its pixels; `size` is height and width."""
    if isinstance(output, Mapping) and "out" in output:
        output = output["out"]
    is_batch = isinstance(output, Tensor) and output.ndim > 1 and output.shape[0] == BATCH
    if is_batch and output.shape[2:] in ((), tuple(size)):
        return int(output.shape[1])
    what = f"a {type(output).__name__}"
    if isinstance(output, Tensor):
        shape = "x".join(map(str, output.shape)) or "one number"
        what = f"a tensor of {shape} for {BATCH} images"
    raise SsrError(
        f"{name} puts out {what}, not logits: its forward must return one tensor, images x classes "
        "(of segmentations images x classes x height x width)."
    )


def _fit_head(network: nn.Module, flow: Flow, n_logits: int, num_classes: int) -> bool:
    """Replace the weights of the layers whose sum the logits are; says whether it could."""
    heads = [network.get_submodule(path) for path in sorted(flow.writers)]
    kinds = {_head_kind(head, n_logits) for head in heads}
    if not (kinds == {nn.Linear} or (kinds == {nn.Conv2d} and len(heads) == 1)):
        return False
    for head in heads:
        size = "out_channels" if isinstance(head, nn.Conv2d) else "out_features"
        setattr(head, size, num_classes)
        for key, old in head.named_parameters(recurse=False):
            setattr(head, key, nn.Parameter(old.new_empty((num_classes, *old.shape[1:]))))
        head.reset_parameters()  # type: ignore[operator]
    return True


def _head_kind(module: nn.Module, outputs: int) -> type[nn.Module] | None:
    """Tell a linear layer and a convolution of 1x1 with so many outputs from all else."""
    if isinstance(module, nn.Linear) and has_own_weight(module):
        return nn.Linear if module.out_features == outputs else None
    if isinstance(module, nn.Conv2d) and has_own_weight(module):
        shape = (outputs, module.in_channels, 1, 1)
        return nn.Conv2d if tuple(module.weight.shape) == shape else None
    return None


def _stopped(
    network: nn.Module, original: nn.Module, name: str, input_shape: Sequence[int], flow: Flow
) -> SsrError:
    """Say why a run stopped, and which stem or size would help: that was tried."""
    assert flow.error is not None
    if meta.asks_for_values(flow.error):
        return meta.values_refused(name, flow.path, flow.error)
    advice = ""
    if original is not network and Flow(original, input_shape).error is None:
        advice = "; type model.stem=imagenet, which keeps its own stem"
    else:
        for size in (size for size in SIZES if size > max(input_shape[1:])):
            tried = original if size > SMALL else network
            if Flow(tried, (input_shape[0], size, size)).error is None:
                advice = f"; try dataset.resize={size}"
                break
    shape = "x".join(map(str, input_shape))
    return SsrError(
        f"{name} does not run on images of {shape} (channels x height x width): "
        f"{cause(flow.error)}{advice}."
    )
