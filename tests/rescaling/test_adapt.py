"""A network that does not fit the images or the classes is made to, and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import adapt, initialise

SHAPE = (3, 32, 32)


class Net(nn.Module):  # a strided stem with pooling, a second convolution with pooling, a head
    def __init__(self, stem: nn.Module | None = None, head: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, padding=3) if stem is None else stem
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.late = nn.AvgPool2d(2)
        self.head = nn.Linear(8, 7) if head is None else head

    def features(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.norm(self.stem(x))))
        return self.late(self.conv(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x))


def fit(network: nn.Module, *, classes: int = 7, shape: Any = SHAPE, small: bool = True) -> Any:
    return adapt.fit(network, "its name", num_classes=classes, input_shape=shape, small=small)


def refusal(network: nn.Module, **options: Any) -> str:
    with pytest.raises(SsrError) as caught:
        fit(network, **options)
    said = str(caught.value)
    assert "its name" in said and "\n" not in said and said.endswith(".")
    return said


@torch.no_grad()
def test_a_network_that_fits_stays_bit_for_bit_and_nothing_is_drawn() -> None:
    network = Net()
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    text = repr(network)
    assert fit(network, small=False) is network
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(network) == text
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.training and all(p.requires_grad and not p.is_meta for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_first_convolution_of_stride_1_says_that_the_network_is_for_small_images() -> None:
    network = fit(Net(stem=nn.Conv2d(3, 8, 5)))
    assert network.stem.kernel_size == (5, 5)
    assert isinstance(network.pool, nn.MaxPool2d)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "becomes"),
    [
        (7, 2, 3, (3, 1)),  # ResNet
        (7, 2, 0, (3, 1)),  # SqueezeNet
        (11, 4, 2, (3, 1)),  # AlexNet
        (4, 4, 0, (3, 1)),  # ConvNeXt
        (2, 2, 0, (3, 1)),
        (3, 2, 1, (3, 1)),  # MobileNet
        (3, 2, 0, (3, 0)),  # Inception
        (1, 2, 0, (1, 0)),
        ((7, 1), (2, 1), (3, 0), (3, 1)),
    ],
)
def test_a_strided_stem_gets_stride_1_and_at_most_3x3(
    kernel: Any, stride: Any, padding: Any, becomes: tuple[int, int]
) -> None:
    network = Net(stem=nn.Conv2d(3, 8, kernel, stride, padding, bias=False))
    before, stem = network.stem.weight.clone(), fit(network).stem
    assert torch.equal(before, stem.weight) == (before.shape == stem.weight.shape)
    assert stem.stride == (1, 1) and stem.bias is None
    assert (stem.kernel_size[0], stem.padding[0]) == becomes
    assert stem.weight.shape == (8, 3, *stem.kernel_size)
    assert stem.weight.requires_grad


def test_the_pooling_right_after_the_stem_goes_and_the_next_one_stays() -> None:
    network = fit(Net())
    assert isinstance(network.pool, nn.Identity)
    assert isinstance(network.late, nn.AvgPool2d)


def test_a_pooling_that_is_used_again_stays() -> None:
    class Shared(Net):
        def features(self, x: Tensor) -> Tensor:
            return self.pool(self.conv(self.pool(self.stem(x)))).mean((2, 3))

    network = fit(Shared())
    assert isinstance(network.pool, nn.MaxPool2d)
    assert network.stem.stride == (1, 1)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(4), nn.ReLU()])
def test_only_a_strided_pooling_goes(pool: nn.Module) -> None:
    network = Net()
    network.pool = pool
    assert fit(network).pool is pool


class SelfPadded(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        pad = self.kernel_size[0] // 2
        return F.conv2d(F.pad(x, [pad] * 4), self.weight, self.bias, self.stride, self.padding)


def test_a_convolution_of_another_class_keeps_its_class_and_its_way_of_padding() -> None:
    network = fit(Net(stem=SelfPadded(3, 8, 7, 2)), shape=(1, 32, 32))
    assert type(network.stem) is SelfPadded
    assert network.stem.padding == (0, 0)
    assert network.stem.weight.shape == (8, 1, 3, 3)
    assert network.stem(torch.zeros(1, 1, 9, 9)).shape == (1, 8, 9, 9)


def test_padding_of_another_kind_follows_the_kernel() -> None:
    stem = fit(Net(stem=nn.Conv2d(3, 8, 7, 2, 3, padding_mode="reflect"))).stem
    assert stem(torch.zeros(1, 3, 9, 9)).shape == (1, 8, 9, 9)


class TwoStems(Net):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(3, 8, 3, 2, padding=1)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x) + self.second(2 * x)
        return self.conv(self.pool(x)).mean((2, 3))


def test_two_convolutions_that_read_the_image_get_its_channels_and_keep_their_strides() -> None:
    network = fit(TwoStems(), shape=(1, 32, 32))
    assert network.stem.in_channels == network.second.in_channels == 1
    assert network.stem.stride == network.second.stride == (2, 2)
    assert isinstance(network.pool, nn.MaxPool2d)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("small", [True, False])
def test_images_of_any_number_of_channels_are_read(channels: int, small: bool) -> None:
    network = fit(Net(), shape=(channels, 32, 32), small=small).eval()
    assert network.stem.in_channels == channels
    assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_a_new_weight_follows_the_rule_of_the_old_one(mode: Any) -> None:
    stem = nn.Conv2d(3, 64, 7, 2, padding=3)
    nn.init.kaiming_normal_(stem.weight, mode=mode, nonlinearity="relu")
    network = Net(stem=stem)
    network.norm, network.conv = nn.BatchNorm2d(64), nn.Conv2d(64, 8, 1)
    fan = 9 * (1 if mode == "fan_in" else 64)
    std = fit(network, shape=(1, 32, 32)).stem.weight.std().item()
    assert std == pytest.approx((2 / fan) ** 0.5, rel=0.15)


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(8, 1000),
        nn.Linear(8, 1000, bias=False),
        nn.Sequential(nn.Linear(8, 1000), nn.Dropout(), nn.LogSoftmax(1)),
        nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1000)),
        nn.Sequential(nn.Unflatten(1, (8, 1, 1)), nn.Conv2d(8, 1000, 1), nn.ReLU(), nn.Flatten()),
    ],
)
def test_the_last_linear_layer_gets_one_output_for_each_class(head: nn.Module) -> None:
    names = [name for name, _ in head.named_parameters()]
    network = fit(Net(head=head), classes=7).eval()
    assert network(torch.zeros(2, *SHAPE)).shape == (2, 7)
    assert [name for name, _ in network.head.named_parameters()] == names
    assert all(p.requires_grad for p in network.parameters())


def test_heads_whose_mean_is_the_output_are_replaced_together() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 1000), nn.Linear(8, 1000)

        def forward(self, x: Tensor) -> Tensor:
            return (self.one(x) + self.two(x)) / 2

    head = fit(Net(head=Heads())).head
    assert head.one.out_features == head.two.out_features == 7


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12)),  # what follows has its own size
        nn.Sequential(nn.Linear(8, 24), nn.MaxPool1d(2)),
        nn.Identity(),  # a residual sum or a 3x3 convolution
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 12)),
    ],
)
def test_without_a_last_linear_layer_the_callable_is_asked_for_the_classes(head: nn.Module) -> None:
    assert "no last linear layer was found to replace: give the callable" in refusal(Net(head=head))


class Returns(Net):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        return self.kind(super().forward(x))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (lambda y: {"logits": y}, "puts out a dict, not logits"),
        (lambda y: (y, y), "puts out a tuple, not logits"),
        (lambda y: None, "puts out a NoneType, not logits"),
        (lambda y: y[:, :, None, None], "puts out a tensor of 2x7x1x1 for 2 images"),
        (lambda y: y.T, "puts out a tensor of 7x2 for 2 images"),
        (lambda y: y.sum(), "puts out a tensor of one number"),
    ],
)
def test_an_output_that_is_not_logits_is_named(kind: Any, said: str) -> None:
    assert said in refusal(Returns(kind))


class Pair(Net):
    def forward(self, x: Tensor, mask: Tensor, *, scale: float) -> Tensor:
        return super().forward(x * mask * scale)


class Nothing(Net):
    def forward(self) -> Tensor:
        return self.head.weight


class Optional(Net):
    def forward(self, x: Tensor, mask: Tensor | None = None, *rest: Tensor, **more: Any) -> Any:
        return super().forward(x)


def test_a_forward_of_several_inputs_is_refused_and_its_inputs_named() -> None:
    assert "takes 3 inputs (x, mask, scale)" in refusal(Pair())
    assert "takes no input" in refusal(Nothing())
    assert isinstance(fit(Optional()), Optional)


class Flat(Net):  # made for one size only: 56 pixels with its own stem
    def features(self, x: Tensor) -> Tensor:
        return self.late(self.conv(self.pool(self.stem(x)))).flatten(1)


def deep(*strides: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, padding=1), *(nn.MaxPool2d(s) for s in strides),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "shape", "advice"),
    [
        (deep(1, 8, 4), (1, 16, 16), "; try dataset.resize=32."),
        (deep(1, 8, 8), (3, 32, 32), "; try dataset.resize=64."),
        (deep(1, 8, 8), (3, 32, 16), "; try dataset.resize=64."),
        (deep(1, 8, 12), (3, 32, 32), "; try dataset.resize=224."),  # there with its own stem
        (Net(head=nn.Sequential(nn.Flatten(), nn.Linear(9, 7))), (3, 32, 32), "."),
        (Flat(head=nn.Linear(8 * 7 * 7, 7)), (3, 56, 56), "; type model.stem=imagenet"),
    ],
)
def test_images_that_are_too_small_get_advice(network: nn.Module, shape: Any, advice: str) -> None:
    said = refusal(network, shape=shape)
    assert f"does not run on images of {'x'.join(map(str, shape))} " in said
    assert "RuntimeError: " in said
    assert advice in said
    assert ("try" in said or "type" in said) == (len(advice) > 1)


def test_a_grouped_stem_is_not_fitted_to_other_channels() -> None:
    grouped = Net(stem=nn.Conv2d(3, 9, 3, groups=3))
    grouped.norm, grouped.conv = nn.BatchNorm2d(9), nn.Conv2d(9, 8, 1)
    assert "does not run on images of 1x32x32" in refusal(grouped, shape=(1, 32, 32))


def test_the_first_line_of_an_error_is_enough() -> None:
    class Long(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the cause.\nmany\nmore\nlines")

    assert "AssertionError: the cause." in refusal(Long())


class Deciding(Net):
    def forward(self, x: Tensor) -> Any:
        y = self.features(x)
        return self.head(y if y.sum() > 0 else -y)


def test_a_network_that_decides_by_the_values_of_its_activations_is_refused() -> None:
    said = refusal(Deciding())
    assert said.startswith("its name cannot be traced: it decides by the values")
    assert "does not run on images" not in said


# One run says who reads the image and who writes the output, whatever happens between
class Parts(nn.Module):  # a stem, a second convolution and two heads, put together by a function
    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4, 5)
        self.other = nn.Linear(4, 5)
        self.together = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.together(self, x)


def plain(net: Parts, x: Tensor) -> Tensor:
    return net.head(net.two(net.pool(net.one(x))).mean((2, 3)))


def prepared(net: Parts, x: Tensor) -> Tensor:
    x = (x.float() - 0.5) / torch.ones_like(x)
    return plain(net, F.avg_pool2d(x, 2).clamp(max=1).relu_())


def doubled(net: Parts, x: Tensor) -> Tensor:
    return net.head((net.one(x) + F.pad(x, (0, 0, 0, 0, 0, 1))).mean((2, 3))) + x.sum() * 0


def summed(net: Parts, x: Tensor) -> Tensor:
    features = net.one(x).mean((2, 3))
    return (net.head(features) + net.other(features)) / 2


def functional(net: Parts, x: Tensor) -> Tensor:
    x = F.conv2d(x, net.one.weight)
    return net.head(net.two(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "readers", "writers"),
    [
        (plain, ["one"], {"head"}),
        (prepared, ["one"], {"head"}),
        (doubled, ["one", "head"], {"head"}),
        (summed, ["one"], {"head", "other"}),
        (functional, [""], {"head"}),  # the network itself
    ],
)
def test_readers_and_writers_are_those_of_the_products(
    forward: Callable[..., Tensor], readers: list[str], writers: set[str]
) -> None:
    flow = adapt.Flow(Parts(forward), SHAPE)
    assert flow.error is None
    assert (flow.readers, set(flow.writers)) == (readers, writers)
    assert flow.output.shape == (adapt.BATCH, 5)


def test_products_and_poolings_are_listed_as_they_ran_up_to_an_error() -> None:
    def broken(net: Parts, x: Tensor) -> Tensor:
        net.pool(net.one(x))
        raise KeyError("no reason")

    assert adapt.Flow(Parts(plain), SHAPE).order == ["one", "pool", "two", "head"]
    flow = adapt.Flow(Parts(broken), SHAPE)
    assert isinstance(flow.error, KeyError)
    assert (flow.order, flow.readers, flow.output) == (["one", "pool"], ["one"], None)


def test_a_weight_that_is_computed_is_not_a_layers_own() -> None:
    layer = nn.Linear(2, 2)
    assert adapt.has_own_weight(layer)
    assert not adapt.has_own_weight(nn.utils.parametrizations.weight_norm(layer))
    assert not adapt.has_own_weight(nn.ReLU())


def test_a_new_stem_has_the_spread_that_all_convolutions_share() -> None:
    """As in ConvNeXt, whatever the fans; else rescaling would find no rule of them all."""
    network = Net(nn.Conv2d(3, 8, 4, 4))
    network.conv = nn.Conv2d(8, 8, 3, padding=1)
    for conv in (network.stem, network.conv):
        nn.init.trunc_normal_(conv.weight, std=0.02)
    for shape in (SHAPE, (16, 32, 32)):
        fitted = fit(network, shape=shape)
        assert fitted.stem.weight.shape[2:] == (3, 3)
        assert 0.015 < float(fitted.stem.weight.detach().std()) < 0.025
        spread = initialise.constant_std(fitted)
        assert spread is not None and 0.015 < spread < 0.025
