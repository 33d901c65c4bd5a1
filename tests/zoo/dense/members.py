"""The other half of the zoo: networks that put out maps, several tensors, or read no images.

Segmentation and restoration nets of segmentation_models_pytorch, MONAI and torchvision, 3-D and
1-D networks, and backbones that put out the feature maps of all stages.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torchvision
from torch import nn
from torchvision.models.detection import backbone_utils

from tests.zoo.dense import sequences

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what MONAI imports
    from monai.networks import nets

CLASSES = 4

UNET, FPN, DEEPLAB, RESNET_3D = "U-Nets", "FPNs", "DeepLabs", "3-D ResNets"
WIDE = (UNET, FPN, DEEPLAB, RESNET_3D)  # families of which nearly all parameters must change


class Member(NamedTuple):
    """A network: how it is made, the shape of one input, and its family, if that is in `WIDE`."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    family: str = ""


IMAGE, SCAN, SLICE = (3, 64, 64), (1, 32, 32, 32), (1, 64, 64)

SMP = {
    "Unet": UNET,
    "UnetPlusPlus": UNET,
    "MAnet": UNET,
    "Linknet": UNET,
    "FPN": FPN,
    "PSPNet": "",
    "DeepLabV3": DEEPLAB,
    "DeepLabV3Plus": DEEPLAB,
    "PAN": "",
    "UPerNet": FPN,
}
ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0")

SEGMENTATION = """fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large
lraspp_mobilenet_v3_large""".split()
VIDEO = {
    "r3d_18": (3, 8, 32, 32),
    "mc3_18": (3, 8, 32, 32),
    "r2plus1d_18": (3, 8, 32, 32),
    "s3d": (3, 13, 209, 209),  # the least that it pools by 7 x 7
}

TIMM = """convnext_atto cs3darknet_s dla34 edgenext_xx_small efficientnet_b0 fasternet_t0
ghostnet_050 hrnet_w18_small mobilenetv3_small_050 nf_resnet26 regnety_002 res2net50_14w_8s resnet18
vovnet39a""".split()


def names() -> list[str]:
    return list(MEMBERS)


def build(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MEMBERS[name].build()


def _smp() -> dict[str, Member]:
    options: dict[str, Any] = {"encoder_weights": None, "in_channels": 3, "classes": CLASSES}
    found = {
        f"smp/{name}/{encoder}": Member(
            lambda name=name, encoder=encoder: getattr(smp, name)(encoder, **options),
            (3, 128, 128) if name == "PAN" else IMAGE,
            family,
        )
        for name, family in SMP.items()
        for encoder in ENCODERS
    }
    logits = {"classes": CLASSES, "dropout": 0.1}
    found["smp/Unet/resnet18+logits"] = Member(
        lambda: smp.Unet("resnet18", aux_params=logits, **options), IMAGE, UNET
    )
    found["smp/Segformer/resnet18"] = Member(lambda: smp.Segformer("resnet18", **options), IMAGE)
    return found


def _monai() -> dict[str, Member]:
    maps: dict[str, Any] = {"in_channels": 1, "out_channels": CLASSES}
    logits: dict[str, Any] = {"spatial_dims": 3, "num_classes": CLASSES}
    few, strides = (16, 32, 64, 128), (2, 2, 2)
    features = (16, 16, 32, 64, 128, 16)
    deep = {"strides": (1, 2, 2), "upsample_kernel_size": (2, 2), "filters": (16, 32, 64)}
    found = {
        "UNet2d": Member(
            lambda: nets.UNet(2, **maps, channels=few, strides=strides, num_res_units=2),
            SLICE,
            UNET,
        ),
        "UNet3d": Member(
            lambda: nets.UNet(3, **maps, channels=few, strides=strides, norm="batch"), SCAN, UNET
        ),
        "BasicUNet2d": Member(lambda: nets.BasicUNet(2, **maps, features=features), SLICE, UNET),
        "BasicUNet3d": Member(lambda: nets.BasicUNet(3, **maps, features=features), SCAN, UNET),
        "BasicUNetPlusPlus2d": Member(
            lambda: nets.BasicUNetPlusPlus(2, **maps, features=features, deep_supervision=True),
            SLICE,
            UNET,
        ),
        "AttentionUnet2d": Member(
            lambda: nets.AttentionUnet(2, **maps, channels=few, strides=strides), SLICE, UNET
        ),
        "SegResNet2d": Member(lambda: nets.SegResNet(2, 16, **maps, norm="instance"), SLICE, UNET),
        "SegResNet3d": Member(lambda: nets.SegResNet(3, **maps), SCAN, UNET),
        "SegResNetDS3d": Member(
            lambda: nets.SegResNetDS(3, 8, **maps, blocks_down=(1, 2, 2), dsdepth=2), SCAN, UNET
        ),
        "DynUNet2d": Member(
            lambda: nets.DynUNet(2, **maps, kernel_size=(3, 3, 3), **deep, deep_supervision=True),
            SLICE,
            UNET,
        ),
        "DynUNet3d": Member(
            lambda: nets.DynUNet(3, **maps, kernel_size=(3, 3, 3), **deep, res_block=True),
            SCAN,
            UNET,
        ),
        "VNet2d": Member(lambda: nets.VNet(2, **maps), SLICE, UNET),
        "VNet3d": Member(lambda: nets.VNet(3, **maps, dropout_prob_down=0.1), SCAN, UNET),
        "RegUNet2d": Member(lambda: nets.RegUNet(2, 1, 16, 3, out_channels=CLASSES), SLICE, UNET),
        "RegUNet3d": Member(lambda: nets.RegUNet(3, 1, 8, 3, out_channels=CLASSES), SCAN, UNET),
        "FlexibleUNet2d": Member(
            lambda: nets.FlexibleUNet(3, CLASSES, "efficientnet-b0"), IMAGE, UNET
        ),
        "SegResNetVAE3d": Member(
            lambda: nets.SegResNetVAE((32, 32, 32), init_filters=8, **maps), SCAN, UNET
        ),
        "MedNeXtS2d": Member(
            lambda: nets.MedNeXtSmall(spatial_dims=2, **maps, deep_supervision=True), SLICE, UNET
        ),
        "LocalNet2d": Member(lambda: nets.LocalNet(2, 1, 8, (0, 1, 2), out_channels=2), SLICE),
        "GlobalNet2d": Member(lambda: nets.GlobalNet((64, 64), 2, 1, 8, 3), SLICE),
        "AutoencoderKL2d": Member(
            lambda: nets.AutoencoderKL(
                spatial_dims=2,
                in_channels=1,
                num_res_blocks=(1, 1, 1),
                channels=(32, 32, 64),
                attention_levels=(False, False, False),
                latent_channels=4,
                norm_num_groups=8,
                with_encoder_nonlocal_attn=False,
                with_decoder_nonlocal_attn=False,
            ),
            (1, 32, 32),
        ),
        "HighResNet3d": Member(lambda: nets.HighResNet(3, **maps), (1, 16, 16, 16)),
        "AutoEncoder2d": Member(
            lambda: nets.AutoEncoder(2, **maps, channels=few, strides=(2, 2, 2, 2)), SLICE
        ),
        "Quicknat2d": Member(
            lambda: nets.Quicknat(num_classes=CLASSES, num_channels=1, num_filters=32), SLICE
        ),
        "DenseNet121_3d": Member(
            lambda: nets.DenseNet121(spatial_dims=3, **maps, init_features=32, growth_rate=16), SCAN
        ),
        "resnet10_3d": Member(lambda: nets.resnet10(**logits, n_input_channels=1), SCAN, RESNET_3D),
        "resnet18_3d": Member(
            lambda: nets.resnet18(**logits, n_input_channels=1, shortcut_type="A"), SCAN, RESNET_3D
        ),
        "resnet50_3d": Member(lambda: nets.resnet50(**logits, n_input_channels=1), SCAN, RESNET_3D),
        "SEResNet50_3d": Member(lambda: nets.SEResNet50(**logits, in_channels=1), SCAN, RESNET_3D),
        "EfficientNetBN_3d": Member(
            lambda: nets.EfficientNetBN(
                "efficientnet-b0", pretrained=False, in_channels=1, **logits
            ),
            SCAN,
        ),
    }
    return {f"monai/{name}": member for name, member in found.items()}


def _segmentation() -> dict[str, Member]:
    found = {}
    for name in SEGMENTATION:
        for aux in ({}, {"aux_loss": True}) if not name.startswith("lraspp") else ({},):
            found[f"segmentation/{name}{'+aux' if aux else ''}"] = Member(
                lambda name=name, aux=aux: torchvision.models.get_model(
                    name, weights=None, weights_backbone=None, num_classes=CLASSES, **aux
                ),
                IMAGE,
                DEEPLAB if name.startswith("deeplab") else "",
            )
    return found


def _video() -> dict[str, Member]:
    return {
        f"video/{name}": Member(
            lambda name=name: torchvision.models.get_model(name, weights=None, num_classes=CLASSES),
            shape,
            RESNET_3D if name.endswith("_18") else "",
        )
        for name, shape in VIDEO.items()
    }


def _detection() -> dict[str, Member]:
    trained: dict[str, Any] = {"weights": None, "norm_layer": nn.BatchNorm2d}
    resnet = functools.partial(backbone_utils.resnet_fpn_backbone, backbone_name="resnet18")
    mobilenet = functools.partial(backbone_utils.mobilenet_backbone, fpn=True, trainable_layers=6)
    found = {
        "resnet18_fpn": lambda: resnet(trainable_layers=5, **trained),
        "resnet18_fpn_frozen_norm": lambda: resnet(weights=None, trainable_layers=3),
        "mobilenet_v2_fpn": lambda: mobilenet(backbone_name="mobilenet_v2", **trained),
        "mobilenet_v3_large_fpn": lambda: mobilenet(backbone_name="mobilenet_v3_large", **trained),
    }
    return {f"detection/{name}": Member(build, IMAGE, FPN) for name, build in found.items()}


def _torchvision() -> dict[str, Member]:
    found = _segmentation() | _video() | _detection()
    return {f"torchvision/{name}": member for name, member in found.items()}


def _timm() -> dict[str, Member]:
    return {
        f"timm-features/{name}": Member(
            lambda name=name: timm.create_model(name, pretrained=False, features_only=True), IMAGE
        )
        for name in TIMM
    }


def _sequences() -> dict[str, Member]:
    return {
        "sequences/ResNet1d": Member(sequences.ResNet1d, (1, 1600)),
        "sequences/Tcn": Member(lambda: sequences.Tcn(normed=False), (2, 256)),
        "sequences/Tcn_weight_norm": Member(lambda: sequences.Tcn(normed=True), (2, 256)),
        "sequences/WaveNet": Member(sequences.WaveNet, (1, 256)),
        "sequences/UNet1d": Member(sequences.UNet1d, (1, 256), UNET),
    }


MEMBERS: dict[str, Member] = {**_smp(), **_monai(), **_torchvision(), **_timm(), **_sequences()}
