"""Seed networks by name take the images and classes that they are asked for."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from ssr_exp.config import ModelConf, Shortcut, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds


def build(name: str, shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> nn.Module:
    conf = ModelConf(name, **options)  # type: ignore[arg-type]
    with torch.device("meta"):
        return seeds.build(conf, num_classes=7, input_shape=shape)


@pytest.mark.parametrize("name", seeds.names())
def test_every_network_maps_images_to_logits(name: str) -> None:
    for shape in ((1, 28, 28), (3, 96, 96)):
        network = build(name, shape).eval()
        assert network(torch.empty((2, *shape), device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    ("size", "stem", "is_small"),
    [
        (32, Stem.auto, True),
        (64, Stem.auto, True),
        (65, Stem.auto, False),
        (224, Stem.auto, False),
        (32, Stem.imagenet, False),
        (224, Stem.cifar, True),
    ],
)
def test_small_images_get_the_small_stem(size: int, stem: Stem, is_small: bool) -> None:
    network = build("resnet18", (3, size, size), stem=stem)
    assert network.conv1.kernel_size == ((3, 3) if is_small else (7, 7))
    assert network.conv1.stride == ((1, 1) if is_small else (2, 2))
    assert isinstance(network.maxpool, nn.Identity if is_small else nn.MaxPool2d)


def test_with_the_imagenet_stem_a_network_is_torchvisions() -> None:
    with torch.device("meta"):
        reference = torchvision.models.resnet50(num_classes=7)
    assert repr(build("resnet50", (3, 224, 224))) == repr(reference)


def test_the_shortcut_is_chosen() -> None:
    sizes = [
        sum(p.numel() for p in build("resnet20", shortcut=kind).parameters())
        for kind in (Shortcut.A, Shortcut.B)
    ]
    assert sizes[1] - sizes[0] == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_a_stem_of_ours_is_drawn_as_torchvisions() -> None:
    network = seeds.build(ModelConf("resnet18"), num_classes=2, input_shape=(1, 32, 32))
    std = network.conv1.weight.std().item()
    assert abs(std - (2 / (64 * 9)) ** 0.5) < 0.01


def test_the_same_torch_seed_draws_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(
            seeds.build(ModelConf("resnet8"), num_classes=2, input_shape=(3, 8, 8)).state_dict()
        )
    one, other = states
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_channels_round_to_four_for_cifar_resnets_and_to_eight_else() -> None:
    assert [seeds.multiple(name) for name in ("resnet8", "resnet110", "resnet18")] == [4, 4, 8]


@pytest.mark.parametrize(
    ("name", "siblings"),
    [
        ("resnet56", "resnet8 resnet14 resnet20 resnet32 resnet44"),
        ("resnet8", ""),
        ("resnet18", ""),
        ("resnet50", "resnet18 resnet34"),
        ("resnet101", "resnet18 resnet34 resnet50"),
        ("resnext50_32x4d", ""),
        ("resnext101_32x8d", "resnext50_32x4d"),
        ("resnext101_64x4d", "resnext50_32x4d"),
        ("wide_resnet50_2", ""),
        ("wide_resnet101_2", "wide_resnet50_2"),
        ("resnet57", ""),
        ("", ""),
    ],
)
def test_a_family_is_the_smaller_networks_of_the_same_kind(name: str, siblings: str) -> None:
    assert seeds.family(name) == siblings.split()


@pytest.mark.parametrize("name", seeds.names())
def test_a_family_grows_up_to_the_network_itself(name: str) -> None:
    members = [*seeds.family(name), name]
    sizes = [sum(p.numel() for p in build(member).parameters()) for member in members]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", ["resnet57", "", "ResNet20", "vgg16"])
def test_an_unknown_model_is_quoted_beside_the_known_ones(name: str) -> None:
    with pytest.raises(SsrError) as error:
        build(name)
    assert f"the model {name!r} is unknown" in str(error.value)
    assert all(known in str(error.value) for known in seeds.names())
