"""Seed networks by name, with the stem and head that the images ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torchvision
from torch import nn

from ssr_exp.config import ModelConf, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.resnet import CifarResNet

CIFAR = {f"resnet{depth}": depth for depth in (8, 14, 20, 32, 44, 56, 110)}
TORCHVISION = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d "
    "resnext101_64x4d wide_resnet50_2 wide_resnet101_2"
).split()
KIND = re.compile(r"(\D+)(\d+)")  # and the layers: wide_resnet, 101
SMALL = 64  # pixels; up to here an ImageNet network gets the CIFAR stem by itself


def build(conf: ModelConf, *, num_classes: int, input_shape: Sequence[int]) -> nn.Module:
    """Construct a seed network with fresh weights from torch's global generator.

    Args:
        conf: its name, stem and shortcut.
        num_classes: size of the classifier's output.
        input_shape: channels, height and width of the images, in pixels.

    Raises:
        SsrError: if the name is unknown.
    """
    if conf.name in CIFAR:
        return CifarResNet(
            CIFAR[conf.name],
            num_classes=num_classes,
            in_channels=input_shape[0],
            shortcut=conf.shortcut.value,
        )
    if conf.name in TORCHVISION:
        network = torchvision.models.get_model(conf.name, num_classes=num_classes)
        _adapt_stem(network, _stem(conf.stem, input_shape), input_shape[0])
        return network  # type: ignore[no-any-return]
    raise SsrError(f"the model {conf.name!r} is unknown; choose one of {', '.join(names())}.")


def identity(conf: ModelConf, input_shape: Sequence[int]) -> dict[str, str]:
    """Say what makes two seed networks the same: a choice that one does not have is left out."""
    if conf.name in CIFAR:
        return {"name": conf.name, "shortcut": conf.shortcut.value}
    return {"name": conf.name, "stem": _stem(conf.stem, input_shape).value}


def names() -> list[str]:
    """List the names of all seed networks."""
    return [*CIFAR, *TORCHVISION]


def family(name: str) -> list[str]:
    """List the smaller siblings of a seed network, smallest first: its kind, with fewer layers.

    They are what its rescaled networks must beat; an unknown network has none.
    """
    siblings = list(CIFAR) if name in CIFAR else TORCHVISION if name in TORCHVISION else []
    kind, layers = _kind(name) if siblings else ("", 0)
    return [other for other in siblings if _kind(other)[0] == kind and _kind(other)[1] < layers]


def multiple(name: str) -> int:
    """Choose the multiple that channels are rounded to: 4 for CIFAR ResNets, 8 else."""
    return 4 if name in CIFAR else 8


def _kind(name: str) -> tuple[str, int]:
    match = KIND.match(name)
    assert match is not None
    return match[1], int(match[2])


def _stem(stem: Stem, input_shape: Sequence[int]) -> Stem:
    if stem is Stem.auto:
        return Stem.cifar if max(input_shape[1:]) <= SMALL else Stem.imagenet
    return stem


def _adapt_stem(network: nn.Module, stem: Stem, in_channels: int) -> None:
    old = network.conv1
    assert isinstance(old, nn.Conv2d)
    if stem is Stem.cifar:
        new = nn.Conv2d(in_channels, old.out_channels, 3, 1, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif in_channels != old.in_channels:
        new = nn.Conv2d(in_channels, old.out_channels, 7, 2, padding=3, bias=False)
    else:
        return
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = new
