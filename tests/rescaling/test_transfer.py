"""The backbone of trained weights is taken as it is; a head and a stem of another shape are not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds, transfer
from ssr_exp.rescaling.transfer import Transfer

RGB = (3, 96, 96)


def network(word: str, classes: int = 7, shape: Sequence[int] = RGB) -> nn.Module:
    return seeds.build(seeds.parse(word), num_classes=classes, input_shape=shape)


def published(word: str) -> dict[str, Tensor]:
    """Make weights as they are published: of 1000 classes, for large images in colour."""
    return network(word, 1000, (3, 224, 224)).state_dict()


def taken(word: str, weights: dict[str, Tensor], shape: Sequence[int] = RGB) -> Transfer:
    return transfer.fit(weights, network(word, shape=shape), shape)


HEADS = {
    "resnet18": "fc",
    "torchvision/mobilenet_v3_small": "classifier.3",
    "torchvision/squeezenet1_0": "classifier.1",  # a convolution of 1x1
    "torchvision/convnext_tiny": "classifier.2",
    "timm/regnety_002": "head.fc",
}


@pytest.mark.parametrize("word", HEADS)
def test_all_but_the_head_is_taken_bit_for_bit(word: str) -> None:
    weights = published(word)
    found = taken(word, weights)
    assert found.fresh == (f"{HEADS[word]}.weight", f"{HEADS[word]}.bias")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.state.items())
    assert found.state.keys() | set(found.fresh) == weights.keys()
    assert (found.adapted, found.unused) == ((), ())


def test_as_many_classes_take_the_head_too_unless_they_are_others() -> None:
    weights = network("resnet18").state_dict()
    assert taken("resnet18", weights).fresh == ()
    other = transfer.fit(weights, network("resnet18"), RGB, takes_head=False)
    assert other.fresh == ("fc.weight", "fc.bias")


def test_a_grey_image_gives_what_it_gave_in_colour() -> None:
    weights = published("resnet18")
    found = taken("resnet18", weights, (1, 96, 96))
    assert found.adapted == ("conv1.weight",)
    grey = torch.rand(2, 1, 96, 96)
    one = nn.functional.conv2d(grey, found.state["conv1.weight"])
    three = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weights["conv1.weight"])
    torch.testing.assert_close(one, three)


@pytest.mark.parametrize(("there", "here"), [(3, 4), (3, 6), (1, 3), (3, 2), (5, 1)])
def test_channels_are_fitted_as_timm_fits_them(there: int, here: int) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate")
    weight = torch.rand(8, there, 3, 3)
    found = transfer._rechanneled(weight, (8, here, 3, 3))
    assert found is not None
    torch.testing.assert_close(found, manipulate.adapt_input_conv(here, weight, there))


def test_a_stem_of_another_kernel_is_drawn_anew() -> None:
    assert taken("resnet18", published("resnet18"), (3, 32, 32)).fresh[0] == "conv1.weight"


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("resnet18", "resnet34"),
        ("resnet34", "resnet18"),
        ("resnet50", "resnext50_32x4d"),
        ("resnet50", "torchvision/wide_resnet50_2"),
        ("torchvision/efficientnet_b0", "torchvision/efficientnet_b1"),
        ("resnet18", "torchvision/mobilenet_v3_small"),
    ],
)
def test_weights_of_a_sibling_are_refused_with_the_first_difference(word: str, other: str) -> None:
    with pytest.raises(SsrError, match=r"is (\S+|a number) there and \S+ here"):
        taken(word, published(other))


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.backbone.", "_orig_mod."])
def test_a_prefix_of_the_names_makes_no_difference(prefix: str) -> None:
    weights = published("resnet18")
    wrapped = {prefix + name: tensor for name, tensor in weights.items()}
    wrapped["loss.weight"] = torch.ones(1000)
    found, plain = (taken("resnet18", one) for one in (wrapped, weights))
    assert found.state.keys() == plain.state.keys() and found.fresh == plain.fresh
    assert found.unused == ("loss.weight",)


class Segmenter(nn.Module):
    """A backbone that is published without its head, under another name, and a head of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = network("resnet18")
        self.encoder.fc, self.encoder.avgpool = nn.Identity(), nn.Identity()
        self.decoder = nn.Conv2d(512, 64, 3, padding=1)
        self.head = nn.Conv2d(64, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder(x).unflatten(1, (512, 3, 3))
        return self.head(self.decoder(maps).relu())


def test_a_backbone_alone_fills_its_place_in_a_larger_network() -> None:
    weights = published("resnet18")
    found = transfer.fit(weights, Segmenter(), RGB)
    assert found.fresh == ("decoder.weight", "decoder.bias", "head.weight", "head.bias")
    assert torch.equal(
        found.state["encoder.layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"]
    )
    assert found.unused == ("fc.weight", "fc.bias")


def test_a_segmentation_takes_all_but_its_head_or_a_backbone_alone() -> None:
    name, backbone = "torchvision/lraspp_mobilenet_v3_large", "torchvision/mobilenet_v3_large"
    whole = torchvision.models.get_model(
        "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None
    ).state_dict()
    found = taken(name, whole)
    assert {n.rpartition(".")[0] for n in found.fresh} == {
        "classifier.low_classifier",
        "classifier.high_classifier",
    }
    found = taken(name, published(backbone))
    assert all(n.startswith("classifier.") for n in found.fresh)
    assert found.unused[0] == "classifier.0.weight"


def test_auxiliary_heads_and_counters_do_not_matter() -> None:
    weights = published("resnet18")
    weights = {n: t for n, t in weights.items() if not n.endswith("num_batches_tracked")}
    weights |= {"aux.fc1.weight": torch.ones(3), "aux.bn.num_batches_tracked": torch.tensor(1)}
    found = taken("resnet18", weights)
    assert (found.fresh, found.unused) == (("fc.weight", "fc.bias"), ("aux.fc1.weight",))


def test_weights_take_the_type_of_the_networks() -> None:
    weights = {
        n: t.half() if t.is_floating_point() else t for n, t in published("resnet18").items()
    }
    own = network("resnet18").state_dict()
    assert all(t.dtype == own[n].dtype for n, t in taken("resnet18", weights).state.items())


def test_exact_weights_may_differ_in_head_and_stem_alone() -> None:
    weights = published("resnet18")
    transfer.fit(weights, network("resnet18", shape=(1, 32, 32)), (1, 32, 32), exact=True)
    del weights["layer4.1.conv2.weight"]
    with pytest.raises(SsrError, match=r"layer4.1.conv2.weight is missing there"):
        transfer.fit(weights, network("resnet18"), RGB, exact=True)


def test_weights_that_give_nothing_are_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
    with pytest.raises(SsrError, match="gives nothing"):
        transfer.fit({"1.weight": torch.ones(5, 12)}, network, (3, 2, 2))
