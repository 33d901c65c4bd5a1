"""One run says who reads the image and who writes the output, whatever happens between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssr_exp.rescaling import dataflow

SHAPE = (3, 8, 8)


class Parts(nn.Module):
    """A stem, a second convolution and two heads, put together by a function."""

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


def dressed(net: Parts, x: Tensor) -> Tensor:
    return F.log_softmax(F.dropout(plain(net, x)).clone().view(2, 5, 1).squeeze(-1), dim=1)


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
        (dressed, ["one"], {"head"}),
        (summed, ["one"], {"head", "other"}),
        (functional, [""], {"head"}),  # the network itself
    ],
)
def test_readers_and_writers_are_those_of_the_products(
    forward: Callable[..., Tensor], readers: list[str], writers: set[str]
) -> None:
    seen = dataflow.run(Parts(forward), SHAPE)
    assert seen.error is None
    assert (seen.readers, set(seen.writers)) == (readers, writers)
    assert seen.output.shape == (dataflow.BATCH, 5)


def test_products_and_poolings_are_listed_as_they_ran() -> None:
    assert dataflow.run(Parts(plain), SHAPE).order == ["one", "pool", "two", "head"]


def test_a_convolution_for_other_channels_is_fitted_on_the_way() -> None:
    seen = dataflow.run(Parts(plain), (1, 8, 8))
    assert seen.error is None
    assert seen.channels == {"one": 1}


def test_the_network_is_neither_moved_nor_changed_nor_hooked() -> None:
    network = Parts(plain).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    dataflow.run(network, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert network.training and network.one.in_channels == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(p.requires_grad and not p.is_meta for p in network.parameters())


def test_what_was_seen_before_an_error_is_kept() -> None:
    def broken(net: Parts, x: Tensor) -> Tensor:
        net.pool(net.one(x))
        raise KeyError("no reason")

    seen = dataflow.run(Parts(broken), SHAPE)
    assert isinstance(seen.error, KeyError)
    assert (seen.order, seen.readers, seen.output) == (["one", "pool"], ["one"], None)


def test_a_weight_that_is_computed_is_not_a_layers_own() -> None:
    layer = nn.Linear(2, 2)
    assert dataflow.has_own_weight(layer)
    assert not dataflow.has_own_weight(nn.utils.parametrizations.weight_norm(layer))
    assert not dataflow.has_own_weight(nn.ReLU())
