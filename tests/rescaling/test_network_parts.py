"""Laws of a network's part that is rescaled by itself."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from ssr_exp.config import ChannelChoice
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, inherit, network_parts, output_readers, planning, rescale
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Plan

detection = torchvision.models.detection


def conv(n_in: int, n_out: int, **arguments: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False, **arguments),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class Encoder(nn.Module):
    """Two maps, of 16 channels and of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(3, 16), conv(16, 16), conv(16, 16))
        self.second = nn.Sequential(conv(16, 32), conv(32, 32), conv(32, 32))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        shallow = self.first(x)
        return OrderedDict(shallow=shallow, deep=self.second(F.max_pool2d(shallow, 2)))


class UNet(nn.Module):
    """Its decoder joins the skip with another map, and reads the deepest map by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.decoder = conv(32, 16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder(x)
        return self.head(self.decoder(torch.cat([maps["shallow"], self.up(maps["deep"])], 1)))


class Detector(nn.Module):
    """What it puts out depends on values; its heads follow, whatever lies in between."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Encoder()
        self.neck = nn.Sequential(conv(16, 16, groups=16), nn.Conv2d(16, 32, 1))
        self.head = nn.Conv2d(32, 4, 1)
        self.score = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        shallow, deep = self.backbone(x).values()
        anchors = torch.zeros(shallow.shape[-2:], device=shallow.device)
        score = self.score(F.adaptive_avg_pool2d(F.relu(deep), 1).flatten(1)).softmax(-1)
        boxes = self.head(deep).mean((2, 3)) + self.neck(shallow).mean() + anchors.mean()
        return torch.cat([boxes, score], 1)[score[:, 0] > 0.5]


class Reading(nn.Module):
    """Reads an encoder's deep map in a way of its own."""

    def __init__(self, read: Callable[[Reading, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.conv, self.bare = (
            Encoder(),
            nn.Conv2d(32, 32, 1),
            nn.Parameter(torch.rand(32)),
        )
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self, self.encoder(x)["deep"]) + self.encoder.first[0][0].weight.mean()


IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def run(whole: nn.Module) -> object:
    return whole(IMAGES)


def planned(
    whole: nn.Module, path: str, call: output_readers.Run = run
) -> tuple[network_parts.Part, Plan]:
    part = network_parts.find(whole, path, call)
    plan = planning.trace(part.network, part.input_shape, multiple=4)
    part.prove(whole, plan, call)
    return part, plan


def n_params(whole: nn.Module) -> int:
    return sum(parameter.numel() for parameter in whole.parameters())


def test_layers_before_the_first_convolution_follow_a_part() -> None:
    part, plan = planned(Detector(), "backbone")
    assert part.kept == () and part.untrained is None
    assert part.readers == (
        "score",
        "head",
        "neck.0.0",
        "neck.0.1",
        "neck.0.2",
        "neck.1",
    )
    whole = part.put(Detector(), rescale.build(part.network, plan, plan.smallest))
    widths = (whole.score.in_features, whole.head.in_channels, whole.neck[0][0].groups)
    assert widths == (4, 4, 4)
    whole(IMAGES).sum().backward()
    assert all(parameter.grad is not None for parameter in whole.backbone.parameters())


def test_remarks_say_whose_costs_are_counted_and_what_stays() -> None:
    part, _ = planned(UNet(), "encoder")
    costs, stays = part.remarks
    assert costs.startswith("costs are those of encoder and of the layers that read it (1);")
    assert stays.startswith("encoder keeps the channels of its outputs 0 (counted from 0)")


def test_a_copy_of_a_part_is_remarked() -> None:
    whole = UNet()
    whole.average = copy.deepcopy(whole.encoder)
    part, _ = planned(whole, "encoder")
    assert part.remarks[-1].startswith("a copy of weights of encoder is in average.first.0.0, ")


def test_another_whole_is_refused() -> None:
    part, plan = planned(UNet(), "encoder")
    rescaled = rescale.build(part.network, plan, plan.smallest)
    part.put(whole := UNet(), rescaled)
    with pytest.raises(
        SsrError, match=r"this UNet is not as .*: encoder.first.1.0.weight is missing"
    ):
        part.put(whole, rescaled)


def test_an_output_that_is_joined_with_another_map_keeps_its_channels() -> None:
    part, plan = planned(UNet(), "encoder")
    assert part.kept == (0,) and part.readers == ("up",)
    whole = part.put(UNet(), rescale.build(part.network, plan, plan.smallest))
    assert whole.up.in_channels < 32 and whole.encoder.first[-1][0].out_channels == 16
    assert run(whole).shape == (2, 2, 16, 16)


@pytest.mark.parametrize(
    "read",
    [
        lambda self, deep: deep.softmax(1).mean(),
        lambda self, deep: (deep * self.bare[:, None, None]).mean(),
        lambda self, deep: self.conv(self.conv(deep)).mean(),
        lambda self, deep: (self.conv(deep) + deep).mean(),
        lambda self, deep: F.conv2d(deep, self.conv.weight).mean(),
        lambda self, deep: deep.flatten()[:32] @ self.bare,
        lambda self, deep: deep,
    ],
    ids=[
        "softmax",
        "gain",
        "layer that reads its own output",
        "sum",
        "function",
        "flat batch",
        "output",
    ],
)
def test_an_output_that_anything_else_reads_keeps_its_channels(
    read: Callable[[Reading, Tensor], Tensor],
) -> None:
    part, plan = planned(Reading(read), "encoder")
    assert 1 in part.kept
    assert plan.smallest != plan.baseline
    whole = part.put(Reading(read), rescale.build(part.network, plan, plan.smallest))
    assert whole.encoder.second[-1][0].out_channels == 32 and n_params(whole) < n_params(
        Reading(read)
    )


@pytest.mark.parametrize("make, path", [(Detector, "backbone"), (UNet, "encoder")])
def test_a_part_of_full_size_with_inherited_weights_changes_nothing(
    make: Callable[[], nn.Module], path: str
) -> None:
    whole = make().eval()
    part, plan = planned(whole, path)
    architecture = plan.baseline
    rescaled = rescale.build(part.network, plan, architecture, inherits=True)
    names = rescale.names(part.network, plan, architecture)
    state = part.network.state_dict()
    inherit.fill(rescaled, state, plan, architecture, names, by=ChannelChoice.l1)
    other = part.put(copy.deepcopy(whole), rescaled)
    assert torch.equal(other(IMAGES), whole(IMAGES))
    assert all(name in whole.state_dict() for name in state)


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("make, path", [(Detector, "backbone"), (UNet, "encoder")])
def test_parameters_are_those_of_plan_and_rest(
    make: Callable[[], nn.Module], path: str, width: float
) -> None:
    part, plan = planned(make(), path)
    n = len(plan.segments)
    modifiers = Modifiers((0.5,) * n, (width,) * n)
    architecture = plan.effective(modifiers)
    whole = part.put(make(), rescale.build(part.network, plan, modifiers))
    assert n_params(whole) == cost.count_one(plan, architecture).params + part.rest


def test_nothing_beside_the_part_is_drawn_or_changed() -> None:
    whole = Detector()
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    part, plan = planned(whole, "backbone")
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
    unet = UNet()
    part, plan = planned(unet, "encoder")
    rest = copy.deepcopy(unet.decoder.state_dict())
    part.put(unet, rescale.build(part.network, plan, plan.smallest))
    assert all(torch.equal(tensor, rest[n]) for n, tensor in unet.decoder.state_dict().items())


class Deep(Encoder):
    """Puts out an auxiliary map in training, and in front of the other."""

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = super().forward(x)
        return [maps["shallow"], maps["deep"]] if self.training else [maps["deep"]]


class Auxiliary(nn.Module):
    """Reads the auxiliary map by a head that runs in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.aux, self.head = Deep(), nn.Conv2d(16, 2, 1), nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        *shallow, deep = self.encoder(x)
        return self.head(deep).mean() + sum(self.aux(each).mean() for each in shallow)


def test_what_reads_a_part_in_training_alone_follows_it() -> None:
    part, plan = planned(Auxiliary(), "encoder")
    assert part.kept == () and {*part.readers} == {"head", "aux"}
    whole = part.put(Auxiliary(), rescale.build(part.network, plan, plan.smallest))
    assert whole.aux.in_channels == whole.head.in_channels == 4
    whole.train()(IMAGES).backward()
    assert all(parameter.grad is not None for parameter in whole.parameters())


class Named(nn.Module):
    """Holds the encoder twice, and says how wide it is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 32), conv(32, 32), conv(32, 32))
        self.out_channels = 32
        self.again = [self.body]

    def forward(self, x: Tensor) -> Tensor:
        return self.again[0](x)


def test_what_repeats_a_width_outside_of_the_part_follows() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(OrderedDict(backbone=Named(), head=nn.Conv2d(32, 2, 1)))

    part, plan = planned(make(), "backbone.body")
    whole = part.put(make(), rescale.build(part.network, plan, plan.smallest))
    assert whole.backbone.out_channels == whole.head.in_channels == 4
    assert whole.backbone.again == [whole.backbone.body]


class Twice(nn.Module):
    """Calls its encoder on two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)["deep"].mean() + self.encoder(x[..., ::2, ::2])["deep"].mean()


class Tied(nn.Module):
    """A layer beside the encoder has its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.other = Encoder(), nn.Conv2d(3, 16, 3)
        self.other.weight = self.encoder.first[0][0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)["deep"].mean() + self.other(x).mean()


class Past(nn.Module):
    """Calls what the encoder holds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)["deep"].mean() + self.encoder.first(x).mean()


class Sized(nn.Module):
    """Reads the width of its encoder alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(), nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.encoder(x)["deep"]
        return self.head(deep) / (deep.shape[1] // 32)


class Sliced(nn.Module):
    """Looks up its encoder's width."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.names = Encoder(), nn.Conv2d(32, 2, 1), {32: 1}

    def forward(self, x: Tensor) -> Tensor:
        deep = self.encoder(x)["deep"]
        return self.head(deep) * self.names[deep.shape[1]]


@pytest.mark.parametrize(
    "whole, path, words",
    [
        (UNet(), "backbone", "UNet has no part 'backbone': .* such as encoder, up, decoder, head"),
        (UNet(), "encoder.third", "no part .* such as encoder.first, encoder.second"),
        (UNet(), "", "UNet has no part ''"),
        (Twice(), "encoder", r"several shapes in one run \(2x3x16x16 and 2x3x8x8\)"),
        (Tied(), "encoder", "encoder of Tied shares weights with other"),
        (Past(), "encoder", "Past calls encoder.first.* by itself"),
        (nn.ModuleList([UNet()]), "0", "does not run on its example inputs"),
        (nn.Sequential(UNet(), nn.Identity()), "1", "has no segment"),
        (Sized(), "encoder", "smaller encoder .* not finite.* such as encoder.first"),
        (
            Sliced(),
            "encoder",
            r"with a smaller encoder \(in .*\.py, line \d+, KeyError",
        ),
    ],
)
def test_what_cannot_be_a_part_is_said_in_a_sentence(
    whole: nn.Module, path: str, words: str
) -> None:
    with pytest.raises(SsrError, match=words):
        planned(whole, path)


def test_a_part_that_does_not_run_or_takes_more_is_refused() -> None:
    with pytest.raises(SsrError, match="UNet does not call its part encoder"):
        network_parts.find(UNet(), "encoder", lambda whole: whole.head(torch.zeros(1, 16, 4, 4)))
    with pytest.raises(SsrError, match="UNet calls encoder with something else than one tensor"):
        network_parts.find(UNet(), "encoder", lambda whole: whole.encoder(x=IMAGES))


def loss_of(whole: nn.Module, images: list[Tensor]) -> Tensor:
    target = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    return torch.stack([*whole.train()(images, [target] * len(images)).values()]).sum()


def ssdlite() -> nn.Module:
    return detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )


def retinanet() -> nn.Module:
    return detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
    )


def ssd() -> nn.Module:
    return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, path, n_readers",
    [
        (ssd, "backbone", 12),
        (ssdlite, "backbone", 48),
        (retinanet, "backbone", 2),
        (retinanet, "backbone.body", 3),
    ],
)
def test_a_detector_trains_with_a_rescaled_part(
    make: Callable[[], nn.Module], path: str, n_readers: int
) -> None:
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]

    def call(whole: nn.Module) -> object:
        return whole(images)

    whole = make()
    n_before, before = n_params(whole), whole.eval()(images)
    part, plan = planned(whole, path, call)
    assert part.kept == () and len(part.readers) == n_readers and part.untrained
    architecture = plan.effective(
        Modifiers((0.5,) * len(plan.segments), (0.5,) * len(plan.segments))
    )
    rescaled = rescale.build(part.network, plan, architecture)
    part.put(whole, rescaled)
    assert n_params(whole) == cost.count_one(plan, architecture).params + part.rest < n_before
    loss = loss_of(whole, images)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in whole.get_submodule(path).parameters())
    after = whole.eval()(images)
    assert [{*found} for found in after] == [{*found} for found in before]
    assert all(found["boxes"].shape[1] == 4 for found in after)
