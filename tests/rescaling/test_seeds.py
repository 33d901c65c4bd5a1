"""Seed networks by name take the images and classes that they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from ssr_exp.config import ModelConf, Shortcut, Source, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds


def build(name: str, shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> nn.Module:
    conf = ModelConf(name, **options)  # type: ignore[arg-type]
    with torch.device("meta"):
        return seeds.build(conf, num_classes=7, input_shape=shape)


OTHERS = "alexnet densenet121 efficientnet_b0 mnasnet0_5 squeezenet1_1 vgg11_bn".split()
QUICK = "unet resnet8 resnet20 resnet18 alexnet squeezenet1_1".split()
SOME = "resnet56 resnet50 efficientnet_b0".split()  # the others: left to `make check`


def marks(name: str) -> list[pytest.MarkDecorator]:
    slow = [] if name in QUICK else [pytest.mark.slow]
    return slow if name in (*QUICK, *SOME) else [*slow, pytest.mark.more]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks(name)) for name in [*seeds.names(), *OTHERS]],
)
def test_every_network_maps_images_to_logits(name: str) -> None:
    source = Source.builtin if name in seeds.names() else Source.torchvision
    for shape in ((1, 32, 32), (3, 96, 96)):
        network = build(name, shape, source=source).eval()
        pixels = shape[1:] if name == seeds.UNET else ()
        assert network(torch.empty((2, *shape), device="meta")).shape == (2, 7, *pixels)


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


@pytest.mark.parametrize(
    ("name", "source"), [("resnet50", Source.builtin), ("mobilenet_v3_small", Source.torchvision)]
)
def test_with_the_imagenet_stem_a_network_is_torchvisions(name: str, source: Source) -> None:
    with torch.device("meta"):
        reference = torchvision.models.get_model(name, num_classes=7)
    assert repr(build(name, (3, 224, 224), source=source)) == repr(reference)


def test_the_shortcut_is_chosen() -> None:
    sizes = [
        sum(p.numel() for p in build("resnet20", shortcut=kind).parameters())
        for kind in (Shortcut.A, Shortcut.B)
    ]
    assert sizes[1] - sizes[0] == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


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
    confs = [ModelConf(name) for name in ("resnet8", "resnet110", "resnet18")]
    assert [seeds.multiple(conf) for conf in confs] == [4, 4, 8]
    assert seeds.multiple(ModelConf("resnet8", source=Source.module)) == 8


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
    assert seeds.family(ModelConf(name)) == siblings.split()


@pytest.mark.parametrize("name", ["resnet110", *(row.split()[-1] for row in seeds.FAMILIES)])
def test_a_family_grows_up_to_the_network_itself(name: str) -> None:
    source = Source.builtin if name in seeds.names() else Source.torchvision
    members = [*seeds.family(ModelConf(name, source=source)), name]
    sizes = [known_size(member) for member in members]
    assert len(members) > 1 and sizes == sorted(set(sizes))


def known_size(name: str) -> int:
    if name in seeds.CIFAR:
        return size(build(name))
    return torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_families_are_of_torchvisions_networks() -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    assert {name for row in seeds.FAMILIES for name in row.split()} < set(known)


def test_timms_networks_and_ones_own_have_no_family() -> None:
    assert seeds.family(ModelConf("resnet50", source=Source.timm)) == []
    assert seeds.family(ModelConf("resnet50", source=Source.module, target="my.Net")) == []


def test_a_member_of_a_family_is_named_on_the_command_line() -> None:
    assert seeds.words("resnet20") == ["model=resnet20", "model.name=resnet20"]
    assert seeds.words("vgg11") == ["model=torchvision", "model.name=vgg11"]


@pytest.mark.parametrize("name", ["resnet57", "", "ResNet20", "vgg16"])
def test_an_unknown_model_is_quoted_beside_the_known_ones(name: str) -> None:
    with pytest.raises(SsrError) as error:
        build(name)
    assert f"the model {name!r} is unknown" in str(error.value)
    assert all(known in str(error.value) for known in seeds.names())


def other(source: Source, name: str, **options: object) -> ModelConf:
    return ModelConf(name, source=source, **options)  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize(
    ("source", "name"),
    [
        (Source.torchvision, "regnet_y_400mf"),
        (Source.timm, "tf_mobilenetv3_small_minimal_100"),  # pads as TensorFlow does
        (Source.timm, "resnet10t"),
    ],
)
def test_networks_of_other_sources_run(source: Source, name: str) -> None:
    conf, shape = other(source, name), (1, 32, 32)
    network = seeds.build(conf, num_classes=7, input_shape=shape).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 7)


def test_resnets_are_the_same_by_either_name() -> None:
    one, two = ModelConf("resnet50"), other(Source.torchvision, "resnet50")
    network = nn.Identity()
    assert seeds.identity(one, (3, 32, 32), network) == seeds.identity(two, (3, 32, 32), network)
    assert repr(build("resnet50")) == repr(build("resnet50", source=Source.torchvision))


def test_arguments_reach_the_constructor() -> None:
    network = build("resnet18", arguments={"replace_stride_with_dilation": None})
    assert size(network) == size(build("resnet18"))
    dropped = build("mobilenet_v2", source=Source.torchvision, arguments={"dropout": 0.5})
    assert dropped.classifier[0].p == 0.5
    conf = other(Source.timm, "resnet10t", arguments={"stem_width": 16})
    network = seeds.build(conf, num_classes=2, input_shape=(3, 224, 224))
    assert network.conv1[0].out_channels == 12  # three quarters, in its tiered stem


def test_ones_own_network_is_fitted_to_images_and_classes(own: Callable[[str], str]) -> None:
    name = own(OWN)
    conf = ModelConf("mine", source=Source.module, target=f"{name}.net", arguments={"width": 4})
    network = seeds.build(conf, num_classes=7, input_shape=(1, 16, 16))
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert (network[0].in_channels, network[0].stride) == (1, (2, 2))
    assert network[0].out_channels == 4
    small = replace(conf, stem=Stem.cifar)  # only where it is asked for
    assert seeds.build(small, num_classes=7, input_shape=(1, 16, 16))[0].stride == (1, 1)


OWN = """
from torch import nn

def net(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 7, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000),
    )
"""


def test_what_a_built_in_network_is_stays_as_it_was() -> None:
    def same(conf: ModelConf, side: int = 32) -> dict[str, object]:
        return seeds.identity(conf, (3, side, side), nn.Identity())

    assert same(ModelConf("resnet56")) == {"name": "resnet56", "shortcut": "A"}
    assert same(ModelConf("resnet50")) == {"name": "resnet50", "stem": "cifar"}
    large = ModelConf("resnet50", shortcut=Shortcut.B)
    assert same(large, 65) == {"name": "resnet50", "stem": "imagenet"}


def test_what_another_network_is_holds_its_source_and_arguments() -> None:
    conf = other(Source.timm, "regnety_004", arguments={"depth": 3})
    expected = {"name": "timm/regnety_004", "stem": "cifar", "arguments": {"depth": 3}}
    assert seeds.identity(conf, (3, 32, 32), nn.Identity()) == expected


def test_what_an_own_network_is_holds_its_code_not_its_label(own: Callable[[str], str]) -> None:
    target = f"{own(OWN)}.net"
    conf = ModelConf("mine", source=Source.module, target=target)
    network = nn.Identity()
    same = seeds.identity(conf, (3, 32, 32), network)
    assert same["name"] == target and len(same["code"]) == 16
    assert seeds.identity(replace(conf, name="other"), (3, 32, 32), network) == same
    changed = replace(conf, target=f"{own(OWN.replace('8', '4'))}.net")
    assert seeds.identity(changed, (3, 32, 32), network)["code"] != same["code"]


CONFS = {
    "resnet56": ModelConf("resnet56"),
    "resnet50": ModelConf("resnet50"),
    "torchvision/vgg11": other(Source.torchvision, "vgg11"),
    "torchvision/resnet56": other(Source.torchvision, "resnet56"),
    "timm/resnet50": other(Source.timm, "resnet50"),
    "timm/resnet50.a1_in1k": other(Source.timm, "resnet50.a1_in1k"),
    "my.nets.Net": ModelConf("my.nets.Net", source=Source.module, target="my.nets.Net"),
}


@pytest.mark.parametrize(("word", "conf"), CONFS.items(), ids=list(CONFS))
def test_a_network_is_written_as_one_word_and_read_back(word: str, conf: ModelConf) -> None:
    assert (seeds.spell(conf), seeds.parse(word)) == (word, conf)
    assert seeds.parse(word, stem=Stem.cifar) == replace(conf, stem=Stem.cifar)


def test_a_resnet_with_arguments_is_another_network() -> None:
    conf = ModelConf("resnet50", arguments={"zero_init_residual": True})
    assert seeds.spell(conf) == "torchvision/resnet50"


@pytest.mark.parametrize("word", ["keras/vgg16", "builtin/resnet50", "module/a.b", "/x", "a/b/c"])
def test_an_unknown_source_is_refused(word: str) -> None:
    with pytest.raises(SsrError, match="names no seed network: type one of resnet8"):
        seeds.parse(word)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", "resnet50"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("hf_hub:me/mine", "hf_hub_me_mine"),
        (".hidden -x", "hidden_-x"),
        ("a\\b\nc", "a_b_c"),
        ("...", "network"),
        ("x" * 100, "x" * 40),
    ],
)
def test_a_label_is_one_folders_name(name: str, expected: str) -> None:
    assert seeds.label(ModelConf(name)) == expected


def refusal(conf: ModelConf) -> str:
    with pytest.raises(SsrError) as caught:
        seeds.build(conf, num_classes=7, input_shape=(3, 32, 32))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (Source.torchvision, "mobilenet_v3_smal", "'mobilenet_v3_smal'; the nearest names are mob"),
        (Source.torchvision, "resnet20", "'resnet20'; the nearest names are resnet"),
        (Source.torchvision, "fcn_resnet55", "the nearest names are fcn_resnet50"),
        (Source.torchvision, "quantized_resnet18", "no torchvision model"),
        (Source.torchvision, "?", "no torchvision model '?': torchvision.list_models() lists all"),
        (Source.timm, "regnety_04", "no timm model 'regnety_04'; the nearest names are regnety_"),
        (Source.timm, "hf-hub:timm/resnet18", "no timm model"),  # this would ask a server
        (Source.timm, "", "no timm model ''"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(source: Source, name: str, said: str) -> None:
    assert said in refusal(other(source, name))


def test_without_timm_its_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    said = refusal(other(Source.timm, "regnety_004"))
    assert said == "model=timm needs timm: type pip install 'ssr_exp[timm]'."


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (Source.builtin, "weights"),
        (Source.torchvision, "weights"),
        (Source.torchvision, "pretrained"),
        (Source.timm, "pretrained"),
        (Source.timm, "checkpoint_path"),
    ],
)
def test_weights_are_never_loaded(source: Source, key: str) -> None:
    said = refusal(other(source, "resnet18", arguments={key: "DEFAULT"}))
    assert f"model.arguments.{key} cannot be set" in said


@pytest.mark.parametrize("source", [Source.torchvision, Source.timm])
def test_an_argument_that_a_constructor_does_not_take_is_named(source: Source) -> None:
    said = refusal(other(source, "resnet18", arguments={"widht": 3}))
    assert "resnet18 cannot be built: TypeError: " in said and "widht" in said


def test_keys_that_do_not_go_together_are_refused() -> None:
    assert "type model.target=my_package.MyNet" in refusal(other(Source.module, "mine"))
    assert "goes with model=module" in refusal(ModelConf("resnet18", target="a.b"))
    assert "not for resnet20" in refusal(ModelConf("resnet20", arguments={"depth": 3}))
