"""Seed networks by name, with the stem and head that the images ask for.

Any ConvNet can be one: ours for CIFAR and for masks, torchvision's, timm's, or the user's own.
Weights are always fresh; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torchvision
from torch import nn

from ssr_exp import user_code
from ssr_exp.config import ModelConf, Source, Stem
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import adapt, user_modules
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.rescaling.unet import UNet

CIFAR = {f"resnet{depth}": depth for depth in (8, 14, 20, 32, 44, 56, 110)}
UNET = "unet"
TORCHVISION = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d "
    "resnext101_64x4d wide_resnet50_2 wide_resnet101_2"
).split()
FAMILIES = (  # each by size
    "resnet18 resnet34 resnet50 resnet101 resnet152",
    "resnext50_32x4d resnext101_32x8d",
    "resnext50_32x4d resnext101_64x4d",
    "wide_resnet50_2 wide_resnet101_2",
    "convnext_tiny convnext_small convnext_base convnext_large",
    "densenet121 densenet169 densenet201 densenet161",
    "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
    "efficientnet_b5 efficientnet_b6 efficientnet_b7",
    "efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l",
    "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3",
    "mobilenet_v3_small mobilenet_v3_large",
    "regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf "
    "regnet_x_32gf",
    "regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf "
    "regnet_y_32gf regnet_y_128gf",
    "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
    "vgg11 vgg13 vgg16 vgg19",
    "vgg11_bn vgg13_bn vgg16_bn vgg19_bn",
)
WITHOUT_AUX = {"aux_logits": False, "init_weights": True}  # one output, and no warning
AUX = ("googlenet", "inception_v3")
SEGMENTATION = torchvision.models.segmentation
TRAINED = (
    "weights",
    "weights_backbone",
    "pretrained",
    "checkpoint_path",
)  # arguments that load weights
LONGEST_LABEL = 40  # with data set and fingerprint still a W&B tag, of 64 characters


def build(
    conf: ModelConf,
    *,
    num_classes: int | None,
    input_shape: Sequence[int],
    takes_images: bool = True,
) -> nn.Module:
    """Construct a seed network with fresh weights from torch's global generator.

    Args:
        conf: which one.
        num_classes: how many logits it puts out; None: a network of the user's own keeps its
            head.
        input_shape: channels, height and width of the images, in pixels.
        takes_images: whether it is called with a batch of images; else it is a network of the
            user's own, and stays as it is made.

    Raises:
        SsrError: if there is no such network, it cannot be built, or does not fit the images.
    """
    _check(conf)
    is_own = conf.source is Source.module
    if not takes_images and not is_own:
        raise SsrError(
            f"{spell(conf)} takes one batch of images, channels x height x width: other inputs are "
            "for networks of your own, as my_package.MyNet."
        )
    if num_classes is None and not is_own:
        raise SsrError(f"{spell(conf)} has to be told how many classes there are.")
    if is_own:
        network = user_modules.build(
            _target(conf), conf.arguments, num_classes=num_classes, in_channels=input_shape[0]
        )
    if num_classes is None or is_part(conf) or not takes_images:
        return network
    if is_cifar(conf):
        return CifarResNet(
            CIFAR[conf.name],
            num_classes=num_classes,
            in_channels=input_shape[0],
            shortcut=conf.shortcut.value,
        )
    if is_unet(conf):
        options = {"num_classes": num_classes, "in_channels": input_shape[0]}
        return _call(UNet, conf, options | conf.arguments)
    if conf.source is Source.timm:
        network = _timm(conf, num_classes, input_shape[0])
    elif not is_own:
        network = _torchvision(conf, num_classes)
    return adapt.fit(
        network,
        spell(conf),
        num_classes=num_classes,
        input_shape=input_shape,
        small=stem(conf, input_shape) is Stem.cifar,
    )


def identity(conf: ModelConf, input_shape: Sequence[int], network: nn.Module) -> dict[str, Any]:
    """Say what makes two seed networks the same: a choice that one does not have is left out.

    Of a network of the user's own, the code of the files that define it is a part.
    """
    if is_cifar(conf):
        return {"name": conf.name, "shortcut": conf.shortcut.value}
    same: dict[str, Any] = {"name": spell(conf)}
    if not is_unet(conf):
        same["stem"] = stem(conf, input_shape).value
    is_own = conf.source is Source.module
    code = user_modules.digest(_target(conf), network) if is_own else None
    return same | {k: v for k, v in (("arguments", conf.arguments), ("code", code)) if v}


def spell(conf: ModelConf) -> str:
    """Write a seed network's source and name as one word, which `parse` reads.

    No two networks share one: `resnet56`, `torchvision/vgg11`, `timm/regnety_004`,
    `my_package.MyNet`. The ResNets of torchvision are written without it, as long as they have no
    arguments of their own.
    """
    if conf.source is Source.module:
        return _target(conf)
    if conf.source is Source.timm:
        return f"timm/{conf.name}"
    is_ours = is_cifar(conf) or is_unet(conf)
    if is_ours or (conf.name in TORCHVISION and not conf.arguments):
        return conf.name
    return f"torchvision/{conf.name}"


def parse(word: str, **options: Any) -> ModelConf:
    """Read a seed network from one word, as `spell` writes it; options are its other fields.

    Raises:
        SsrError: if what stands before the slash is no source.
    """
    before, slash, name = word.partition("/")
    if not slash and "." in word:
        return ModelConf(word, source=Source.module, target=word, **options)
    if not slash:
        return ModelConf(word, **options)
    if before not in (Source.torchvision, Source.timm):
        raise SsrError(
            f"{word!r} names no seed network: type one of {', '.join(names())}, torchvision/NAME, "
            "timm/NAME, or my_package.MyNet."
        )
    return ModelConf(name, source=Source(before), **options)


def label(conf: ModelConf) -> str:
    """Name a seed network in a folder's name: `conf.name` with what is odd in a path replaced."""
    return re.sub(r"[^\w.+-]+", "_", conf.name).lstrip(".-")[:LONGEST_LABEL] or "network"


def names() -> list[str]:
    """List the names of all built-in seed networks."""
    return [*CIFAR, *TORCHVISION, UNET]


def family(conf: ModelConf) -> list[str]:
    """List the smaller siblings of a seed network, smallest first: its kind, with fewer layers.

    They are what its rescaled networks must beat. Timm's networks, the user's own and unknown ones
    have none.
    """
    if conf.source in (Source.timm, Source.module):
        return []
    rows = [list(CIFAR)] if is_cifar(conf) else [row.split() for row in FAMILIES]
    return next((row[: row.index(conf.name)] for row in rows if conf.name in row), [])


def words(name: str) -> list[str]:
    """Write a member of a family as overrides of the command line."""
    return [f"model={name if name in names() else 'torchvision'}", f"model.name={name}"]


def multiple(conf: ModelConf) -> int:
    """Choose the multiple that channels are rounded to: 4 for CIFAR ResNets and U-Nets, 8 else."""
    return 4 if is_cifar(conf) or is_unet(conf) else 8


def stem(conf: ModelConf, input_shape: Sequence[int]) -> Stem:
    """Choose the stem, where it is left to the images; a module of one's own stays as it is."""
    if conf.stem is not Stem.auto:
        return conf.stem
    is_small = conf.source is not Source.module and max(input_shape[1:]) <= adapt.SMALL
    return Stem.cifar if is_small else Stem.imagenet


def is_cifar(conf: ModelConf) -> bool:
    """Say whether it is a ResNet of ours, which has a shortcut to choose and no stem."""
    return conf.source is Source.builtin and conf.name in CIFAR


def is_part(conf: ModelConf) -> bool:
    """Say whether it is a part of a module of the user's own, which trains it as it is."""
    return conf.source is Source.module and user_modules.PART in _target(conf)


def is_unet(conf: ModelConf) -> bool:
    """Say whether it is the U-Net of ours."""
    return conf.source is Source.builtin and conf.name == UNET


def publisher(conf: ModelConf) -> Source | None:
    """Say which library made a seed network, and publishes weights of it; None: neither."""
    if conf.source is Source.builtin and not (is_cifar(conf) or is_unet(conf)):
        return Source.torchvision
    return conf.source if conf.source in (Source.torchvision, Source.timm) else None


def _target(conf: ModelConf) -> str:
    if conf.target is None:
        raise SsrError("model=module needs a callable: type model.target=my_package.MyNet.")
    return conf.target


def _check(conf: ModelConf) -> None:
    if conf.source is Source.builtin and conf.name not in names():
        raise SsrError(
            f"the model {conf.name!r} is unknown; choose one of {', '.join(names())}, or give its "
            "source: model=torchvision or model=timm with model.name=NAME, model=module with "
            "model.target=my_package.MyNet."
        )
    if conf.target is not None and conf.source is not Source.module:
        raise SsrError(f"model.target={conf.target} goes with model=module: type that, too.")
    if conf.arguments and is_cifar(conf):
        raise SsrError(f"model.arguments are not for {conf.name}: take them out.")
    loads = [key for key in TRAINED if key in conf.arguments and conf.source is not Source.module]
    if loads:
        raise SsrError(
            f"model.arguments.{loads[0]} cannot be set: a seed network starts from fresh weights."
        )


def _torchvision(conf: ModelConf, num_classes: int) -> nn.Module:
    dense = torchvision.models.list_models(module=SEGMENTATION)
    names = [*torchvision.models.list_models(module=torchvision.models), *dense]
    if conf.name not in names:
        raise _unknown(conf, names)
    options: dict[str, Any] = {"num_classes": num_classes} | (
        WITHOUT_AUX if conf.name in AUX else {}
    )
    options |= {"weights_backbone": None} if conf.name in dense else {}
    make = torchvision.models.get_model_builder(conf.name)
    return _call(make, conf, {"weights": None} | options | conf.arguments)


def _timm(conf: ModelConf, num_classes: int, in_channels: int) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise SsrError("model=timm needs timm: type pip install 'ssr_exp[timm]'.") from None
    if not timm.is_model(conf.name):  # a name that asks for a download is none
        raise _unknown(conf, timm.list_models())
    options = {"pretrained": False, "num_classes": num_classes, "in_chans": in_channels}
    return _call(timm.create_model, conf, {"model_name": conf.name} | options | conf.arguments)


def _call(make: Callable[..., Any], conf: ModelConf, options: dict[str, Any]) -> nn.Module:
    try:
        return make(**options)  # type: ignore[no-any-return]
    except Exception as error:
        raise SsrError(f"{spell(conf)} cannot be built: {cause(error)}.") from error


def _unknown(conf: ModelConf, names: Sequence[str]) -> SsrError:
    source = conf.source.value
    advice = user_code.nearest(conf.name, names) or f": {source}.list_models() lists all"
    return SsrError(f"there is no {source} model {conf.name!r}{advice}.")
