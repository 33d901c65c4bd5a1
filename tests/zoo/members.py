"""The zoo: torchvision's classification ConvNets, and small members of timm's families."""

from __future__ import annotations

import warnings

import timm
import torchvision
from torch import nn

from ssr_exp.rescaling import seeds

TRANSFORMERS = ("maxvit", "swin", "vit")

TIMM = """
cs3darknet_focus_s cs3darknet_s cs3edgenet_x cs3se_edgenet_x cs3sedarknet_xdw cspdarknet53
cspresnet50 cspresnet50d cspresnext50 darknet17 darknet53 darknetaa53 sedarknet21 cspnext_tiny
convmixer_768_32 convnext_atto convnext_atto_ols convnext_atto_rms convnext_tiny convnext_tiny_hnf
convnext_zepto_rms convnextv2_atto test_convnext3 csatv2 densenet121 densenetblur121d dla34 dla46x_c
dla60 dla60_res2net dla60_res2next dpn48b dpn68 dpn68b edgenext_xx_small efficientnet_b0
efficientnet_b0_g8_gn efficientnet_b0_g16_evos efficientnet_b0_gn efficientnet_b1_pruned
efficientnet_blur_b0 efficientnet_cc_b0_4e efficientnet_es efficientnet_lite0 efficientnet_x_b3
efficientnetv2_rw_t fbnetc_100 gc_efficientnetv2_rw_t mixnet_s mnasnet_050 mobilenet_edgetpu_v2_xs
mobilenetv1_100 mobilenetv2_050 semnasnet_050 spnasnet_100 test_efficientnet test_efficientnet_ln
tf_efficientnet_b0 tf_efficientnetv2_b0 tf_mixnet_s tinynet_e fbnetv3_b lcnet_050 lcnetv2_small
mobilenetv3_small_050 tf_mobilenetv3_small_minimal_100 mobilenetv4_conv_small
mobilenetv4_conv_blur_medium mobilenetv4_hybrid_medium efficientformer_l1 efficientformerv2_s0
efficientvit_b0 efficientvit_l1 efficientvit_m0 fasternet_t0 fastvit_t8 focalnet_tiny_srf
ghostnet_050 ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnet_tiny hgnetv2_b0 hrnet_w18_small
hrnet_w18_ssld inception_next_atto inception_resnet_v2 inception_v3 inception_v4 legacy_xception
mambaout_femto convformer_s18 poolformer_s12 poolformerv2_s12 mobilevit_xxs mobilevitv2_050
nasnetalarge pnasnet5large nextvit_small nfnet_l0 dm_nfnet_f0 eca_nfnet_l0 nf_ecaresnet26
nf_regnet_b0 nf_resnet26 nf_seresnet26 rdnet_tiny regnetx_002 regnety_002 regnety_004
regnety_040_sgn regnetz_005 regnetv_040 repghostnet_050 repvit_m1 res2net50_14w_8s
res2net50_48w_2s res2next50 resnest14d resnest50d_4s2x40d ecaresnet26t ecaresnetlight
ecaresnext26t_32x4d resnet10t resnet18 resnet18d resnet26 resnet26t resnet50_gn resnet50s
resnetaa50 resnetblur18 resnetrs50 resnext50_32x4d senet154 seresnet18 seresnext26d_32x4d
seresnextaa101d_32x8d wide_resnet50_2 ecaresnet50d_pruned resnetv2_18 resnetv2_50
resnetv2_50d_evos resnetv2_50d_frn resnetv2_50d_gn resnetv2_50x1_bit rexnet_100 rexnetr_100
selecsls42 selecsls42b legacy_seresnet18 legacy_seresnext26_32x4d legacy_senet154 shvit_s1
skresnet18 skresnext50_32x4d starnet_s1 starnet_s050 swiftformer_xs tresnet_m tresnet_v2_l
vgg11 vgg11_bn visformer_tiny ese_vovnet19b_dw ese_vovnet39b_evos eca_vovnet39b vovnet39a
xception41 xception41p bat_resnext26ts eca_resnet33ts eca_resnext26ts gcresnet33ts gcresnext26ts
gernet_s mobileone_s0 mobileone_s4 regnetz_b16 regnetz_b16_evos regnetz_c16 regnetz_d8
repvgg_a0 repvgg_b1g4 repvgg_d2se resnet32ts resnet33ts resnet50_clip_gap resnet50_mlp resnet51q
resnet61q resnext26ts seresnet33ts seresnext26ts botnet26t_256 eca_botnext26ts_256 eca_halonext26ts
haloregnetz_b lambda_resnet26t lambda_resnet26rpt_256 sebotnet33ts_256 test_byobnet test_resnet
test_nfnet cpubone_nano lowformer_b0
iformer_t levit_conv_128s efficientvim_m1 tiny_vit_5m_224 coatnet_nano_rw_224 coatnext_nano_rw_224
""".split()

# One sentence for each member that fails, and why it may.
EXPLAINED: dict[str, str] = {}


def torchvision_names() -> list[str]:
    """List torchvision's classification builders without its transformers."""
    names = torchvision.models.list_models(module=torchvision.models)
    return [name for name in names if not name.startswith(TRANSFORMERS)]


def names() -> list[str]:
    """List all members: `torchvision/NAME` and `timm/NAME`."""
    return [f"torchvision/{n}" for n in torchvision_names()] + [f"timm/{n}" for n in TIMM]


def build(name: str, num_classes: int) -> nn.Module:
    """Construct a member with fresh weights, by its own library and without its second outputs."""
    library, _, own = name.partition("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "timm":
            return timm.create_model(own, pretrained=False, num_classes=num_classes)
        options = seeds.WITHOUT_AUX if own in seeds.AUX else {}
        return torchvision.models.get_model(own, weights=None, num_classes=num_classes, **options)


def fixed_pixels(network: nn.Module) -> int | None:
    """Look up the only height and width that a network of timm says it takes."""
    given = getattr(network, "default_cfg", None) or {}
    return given["input_size"][-1] if given.get("fixed_input_size") else None
