"""Fit the stem and the head of any network to a data set: its channels, its size, its classes.

What to change is seen in one run on the meta device (see `flow`); it is changed in place, so that
a layer keeps its class. A network that fits is left as it is.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import dataflow, meta
from ssr_exp.rescaling.dataflow import Flow
from ssr_exp.rescaling.tracing import data_dependence

SIZES = (32, 64, 96, 128, 224)  # pixels: those that are proposed where the images are too small
SMALL = 64  # pixels; up to here an ImageNet network gets the CIFAR stem by itself


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
    seen = dataflow.run(network, input_shape)
    if _fit_stem(network, seen, small=small):
        seen = dataflow.run(network, input_shape)
    if seen.error is not None:
        raise _stopped(network, original, name, input_shape, seen)
    found = _classes(seen.output, name)
    if found != num_classes:
        _fit_head(network, seen, name, found, num_classes)
        seen = dataflow.run(network, input_shape)
        if seen.error is not None or _classes(seen.output, name) != num_classes:
            raise _wrong_head(name, found, num_classes)
    return network


def _check_inputs(network: nn.Module, name: str) -> None:
    """Refuse a network whose forward needs something else than one batch of images."""
    parameters = inspect.signature(network.forward).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    if len(needed) > 1 or not parameters:
        takes = f"{len(needed)} inputs ({', '.join(needed)})" if needed else "no input"
        raise SsrError(
            f"the forward of {name} takes {takes}, and it is given one, a batch of images: give "
            "the others default values, or wrap the network."
        )


def _fit_stem(network: nn.Module, seen: Flow, *, small: bool) -> bool:
    """Fit what reads the image; says whether anything was changed."""
    for path, channels in seen.channels.items():
        conv = network.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        _redraw(conv, channels, conv.kernel_size)
    stem = _strided(network, seen) if small else None
    if stem is None:
        return bool(seen.channels)
    if (pooling := _pooling(network, seen)) is not None:
        parent, _, own = pooling.rpartition(".")
        setattr(network.get_submodule(parent), own, nn.Identity())
    _unstride(stem)
    return True


def _strided(network: nn.Module, seen: Flow) -> nn.Conv2d | None:
    """Find the one convolution that reads the image, if it is strided."""
    if len(seen.readers) != 1 or seen.order.count(seen.readers[0]) != 1:
        return None
    stem = network.get_submodule(seen.readers[0])
    if not (isinstance(stem, nn.Conv2d) and dataflow.has_own_weight(stem)):
        return None
    return stem if max(stem.stride) > 1 else None


def _pooling(network: nn.Module, seen: Flow) -> str | None:
    """Find the strided pooling that runs before any other product than the stem's."""
    after = seen.order[seen.order.index(seen.readers[0]) + 1 :]
    if not after or seen.order.count(after[0]) != 1:
        return None
    found = network.get_submodule(after[0])
    if not isinstance(found, dataflow.POOLINGS):
        return None
    stride = found.stride if isinstance(found.stride, tuple) else (found.stride,)
    return after[0] if max(stride) > 1 else None


def _unstride(conv: nn.Conv2d) -> None:
    patches = conv.kernel_size == conv.stride
    conv.stride = (1, 1)
    if max(conv.kernel_size) <= 3 and not patches:
        return
    _redraw(conv, conv.in_channels, (3, 3))
    conv.dilation = (1, 1)
    if type(conv) is nn.Conv2d or conv.padding != (0, 0):  # else it pads for itself
        conv.padding = (1, 1)
        conv._reversed_padding_repeated_twice = [1, 1, 1, 1]


def _redraw(conv: nn.Conv2d, in_channels: int, kernel: tuple[int, ...]) -> None:
    """Give a convolution a new weight, drawn by the rule of He et al. that its old one is near."""
    mode = _mode(conv.weight)
    weight = conv.weight.new_empty((conv.out_channels, in_channels // conv.groups, *kernel))
    conv.in_channels, conv.kernel_size, conv.weight = in_channels, kernel, nn.Parameter(weight)
    nn.init.kaiming_normal_(conv.weight, mode=mode, nonlinearity="relu")


def _mode(weight: Tensor) -> Any:
    """Tell fan in from fan out: rescaling looks for one rule that all convolutions follow."""
    std = 0.0 if weight.is_meta else float(weight.detach().std())
    if not std > 0:
        return "fan_out"
    n_out, n_in = weight.shape[:2]
    kernel = weight[0, 0].numel()
    fans = {"fan_out": n_out * kernel, "fan_in": n_in * kernel}
    return min(fans, key=lambda mode: abs(math.log(std * math.sqrt(fans[mode] / 2))))


def _classes(output: Any, name: str) -> int:
    """Count the logits."""
    if isinstance(output, Tensor) and output.ndim == 2 and output.shape[0] == dataflow.BATCH:
        return output.shape[1]
    what = f"a {type(output).__name__}"
    if isinstance(output, Tensor):
        size = "x".join(map(str, output.shape)) or "one number"
        what = f"a tensor of {size} for {dataflow.BATCH} images"
    raise SsrError(
        f"{name} puts out {what}, not logits: its forward must return one tensor, images x classes."
    )


def _fit_head(network: nn.Module, seen: Flow, name: str, found: int, num_classes: int) -> None:
    """Replace the weights of the layers whose sum the logits are."""
    heads = [network.get_submodule(path) for path in sorted(seen.writers)]
    is_conv = len(heads) == 1 and _is_pointwise(heads[0], found)
    if not heads or not (is_conv or all(_is_linear(head, found) for head in heads)):
        raise _wrong_head(name, found, num_classes)
    for head in heads:
        size = "out_channels" if isinstance(head, nn.Conv2d) else "out_features"
        setattr(head, size, num_classes)
        for key, old in head.named_parameters(recurse=False):
            setattr(head, key, nn.Parameter(old.new_empty((num_classes, *old.shape[1:]))))
        head.reset_parameters()  # type: ignore[operator]


def _is_linear(module: nn.Module, outputs: int) -> bool:
    if not (isinstance(module, nn.Linear) and dataflow.has_own_weight(module)):
        return False
    return module.out_features == outputs


def _is_pointwise(module: nn.Module, outputs: int) -> bool:
    if not (isinstance(module, nn.Conv2d) and dataflow.has_own_weight(module)):
        return False
    return tuple(module.weight.shape) == (outputs, module.in_channels, 1, 1)


def _wrong_head(name: str, found: int, num_classes: int) -> SsrError:
    return SsrError(
        f"{name} puts out {found} logits for {num_classes} classes, and no last linear layer was "
        "found to replace: give the callable a num_classes argument."
    )


def _stopped(
    network: nn.Module, original: nn.Module, name: str, input_shape: Sequence[int], seen: Flow
) -> SsrError:
    """Say why a run stopped, and which stem or size would help: that was tried."""
    assert seen.error is not None
    if data_dependence.are_asked(seen.error):
        return data_dependence.refusal(name, seen.path, seen.error)
    advice = ""
    if original is not network and dataflow.run(original, input_shape).error is None:
        advice = "; type model.stem=imagenet, which keeps its own stem"
    else:
        larger = (size for size in SIZES if size > max(input_shape[1:]))
        for size in larger:
            tried = original if size > SMALL else network
            if dataflow.run(tried, (input_shape[0], size, size)).error is None:
                advice = f"; try dataset.resize={size}"
                break
    shape = "x".join(map(str, input_shape))
    return SsrError(
        f"{name} does not run on images of {shape} (channels x height x width): "
        f"{cause(seen.error)}{advice}."
    )
