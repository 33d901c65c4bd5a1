"""The U-Net is split into its stages, each of which can lose blocks and channels."""

from __future__ import annotations

import pytest
import torch

from ssr_exp.config import ModelConf, SegmentConf, Source
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import adapt, cost, planning, rescale, seeds
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.unet import UNet

SHAPE = (1, 21, 18)
STAGES = ["encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.1"]


def planned(**arguments: int) -> tuple[UNet, Plan]:
    network = UNet(num_classes=4, in_channels=1, **arguments)
    return network, planning.trace(network, SHAPE, multiple=4)


def test_each_stage_is_a_segment_and_only_its_first_block_must_stay() -> None:
    _, plan = planned(width=8)
    assert [segment.name for segment in plan.segments] == STAGES
    assert [(len(s.blocks), s.fewest) for s in plan.segments] == [(3, 1)] * 5
    assert plan.channels(plan.baseline) == (8, 16, 32, 16, 8)


@pytest.mark.parametrize("depth", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("width", [1.0, 0.5])
def test_a_rescaled_one_names_each_pixel_and_its_cost_is_exact(depth: float, width: float) -> None:
    network, plan = planned(width=8)
    modifiers = Modifiers(depth=[depth] * 5, width=[width, 1, width, 1, width])
    small = rescale.build(network, plan, modifiers)
    out = small(torch.randn(2, *SHAPE))
    assert out.shape == (2, 4, *SHAPE[1:])
    out.sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    params = sum(p.numel() for p in small.parameters())
    assert cost.count_one(plan, plan.effective(modifiers)).params == params


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4), (33, 16)])
@pytest.mark.parametrize("levels", [2, 4])
def test_logits_have_the_size_of_any_image(size: tuple[int, int], levels: int) -> None:
    network = UNet(num_classes=3, in_channels=2, width=4, levels=levels, blocks=1).eval()
    assert network(torch.zeros(1, 2, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("name", "value"), [("width", 0), ("width", 7.5), ("levels", 1), ("blocks", 0)]
)
def test_an_argument_that_is_none_is_named(name: str, value: float) -> None:
    conf = ModelConf("unet", arguments={name: value})
    with pytest.raises(SsrError, match=rf"U-Net's {name} is a whole number, \d or more, and not"):
        seeds.build(conf, num_classes=3, input_shape=SHAPE)


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(SsrError, match=r"unet cannot be built: .*'size'"):
        seeds.build(ModelConf("unet", arguments={"size": 3}), num_classes=3, input_shape=SHAPE)


@pytest.mark.parametrize(
    "name",
    [
        "lraspp_mobilenet_v3_large",
        pytest.param("fcn_resnet50", marks=pytest.mark.slow),
        pytest.param("deeplabv3_mobilenet_v3_large", marks=pytest.mark.slow),
    ],
)
def test_networks_of_torchvision_name_each_pixel_in_out(name: str) -> None:
    conf, shape = ModelConf(name, source=Source.torchvision), (1, 40, 32)
    with torch.device("meta"):
        network = seeds.build(conf, num_classes=4, input_shape=shape)
        assert adapt.output_shape(network, shape) == (4, 40, 32)
    network, plan = planning.seed_and_plan(conf, SegmentConf(), num_classes=4, input_shape=shape)
    small = rescale.build(network, plan, plan.smallest).eval()
    assert small(torch.zeros(1, *shape))["out"].shape == (1, 4, 40, 32)
