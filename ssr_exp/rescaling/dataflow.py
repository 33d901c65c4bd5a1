"""One run of a network on the meta device: what reads the image, and what writes the output.

Each tensor carries the names of the modules whose products it comes from. A product (of a
convolution or a linear layer) starts afresh, all else passes the names on; so what a residual sum,
a dropout or a pooling puts out still says which layers it is of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssr_exp.rescaling import meta

BATCH = 2  # images
IMAGE = "the image"  # no module has this name
PRODUCTS = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm)
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass
class Flow:
    """What was seen, up to the end or to the error.

    Attributes:
        readers: modules whose product reads the image, in the order of their first.
        channels: those of them, plain convolutions, that were made for images of another number of
            channels, and the number that they are given.
        order: modules, as they ran: one entry for each product and each pooling.
        writers: modules whose products the output comes from.
        output: of the network; None if it stopped.
        error: that stopped it.
        path: of the module that was running then.
    """

    readers: list[str] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    writers: frozenset[str] = frozenset()
    output: Any = None
    error: Exception | None = None
    path: str = ""


def run(network: nn.Module, input_shape: Sequence[int]) -> Flow:
    """Run a copy of `network`, in eval mode, on images of `input_shape`.

    A convolution that was made for images of another number of channels is fitted on the way.

    Args:
        network: is neither changed nor moved.
        input_shape: channels, height and width of the images, in pixels.
    """
    seen = Flow()
    watch = _Watch(seen)
    try:
        shadow = meta.copied(network).eval()
        with meta.undrawn(), torch.inference_mode(False), torch.no_grad(), watch:
            image = meta.images(shadow, input_shape, BATCH)
            watch.mark(image, frozenset({IMAGE}))
            watch.follow(shadow)
            seen.output = shadow(image)
            seen.writers = watch.origins(seen.output) - {IMAGE}
    except Exception as error:  # a network may be anyone's code
        seen.error, seen.path = error, watch.path
    return seen


def has_own_weight(module: nn.Module) -> bool:
    """Say whether a layer's weight is a parameter of it, not computed from others."""
    return isinstance(module._parameters.get("weight"), nn.Parameter)


class _Watch(TorchDispatchMode):
    """Carries the names along while the network runs."""

    def __init__(self, seen: Flow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen
        self._origins: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # an id must not be given twice
        self._scope: list[str] = [""]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation; what comes out has the names of what went in, or of its product."""
        origins = self.origins((args, kwargs))
        if origins and getattr(func, "overloadpacket", None) in PRODUCTS:
            origins = self._note_product(origins)
        out = meta.run(func, args, kwargs or {})
        self.mark(out, origins)
        return out

    @property
    def path(self) -> str:
        """Say which module is running, or was when the run stopped."""
        return self._scope[-1]

    def origins(self, value: Any) -> frozenset[str]:
        """Collect the names that the tensors of `value` carry."""
        known = (self._origins.get(id(leaf), frozenset()) for leaf in tree_leaves(value))
        return frozenset().union(*known)

    def mark(self, value: Any, origins: frozenset[str]) -> None:
        """Give these names to all tensors of `value`."""
        for leaf in tree_leaves(value):
            if isinstance(leaf, Tensor) and (origins or id(leaf) in self._origins):
                self._alive.append(leaf)
                self._origins[id(leaf)] = origins

    def follow(self, network: nn.Module) -> None:
        """Note from now on which module is running."""
        for path, module in network.named_modules():
            if not meta.takes_hooks(module):
                continue
            module.register_forward_pre_hook(self._enter(path))
            module.register_forward_hook(self._leave)

    def _note_product(self, origins: frozenset[str]) -> frozenset[str]:
        own = self._scope[-1]
        self._seen.order.append(own)
        if IMAGE in origins and own not in self._seen.readers:
            self._seen.readers.append(own)
        return frozenset({own})

    def _enter(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._scope.append(path)
            if isinstance(module, POOLINGS):
                self._seen.order.append(path)
            if isinstance(module, nn.Conv2d) and IMAGE in self.origins(args):
                self._widen(path, module, args[0])

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._scope.pop()

    def _widen(self, path: str, conv: nn.Conv2d, image: Tensor) -> None:
        channels = image.shape[1]
        if channels == conv.in_channels or conv.groups != 1 or not has_own_weight(conv):
            return
        weight = conv.weight.new_empty((conv.out_channels, channels, *conv.kernel_size))
        conv.in_channels, conv.weight = channels, nn.Parameter(weight)
        self._seen.channels[path] = channels
