"""A trace names what runs, and says so when a network does not run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.rescaling.tracing import runner
from tests.rescaling import probes


def test_products_are_the_convolutions_and_linear_maps_in_order() -> None:
    network = CifarResNet(20)
    kinds = (nn.Conv2d, nn.Linear)
    expected = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    assert [product.path for product in runner.run(network, (3, 32, 32)).products] == expected


def test_every_parameter_of_a_resnet_is_labelled_where_channels_are() -> None:
    traced = runner.run(CifarResNet(20), (3, 32, 32))
    for name, leaf in traced.leaves.items():
        n_labelled = sum(labels is not None for labels in leaf.dims)
        expected = 0 if name.endswith("num_batches_tracked") else min(len(leaf.shape), 2)
        assert n_labelled == expected, name


def test_modules_that_lend_an_activation_run_where_they_are_called() -> None:
    traced = runner.run(probes.build("one_activation"), probes.SHAPE)
    assert [product.path for product in traced.products] == [
        "stem.0",
        "body.0.conv",
        "body.1.conv",
        "body.2.conv",
        "fc",
    ]


@pytest.mark.parametrize("shape", [(1, 32, 32), (4, 32, 32), (3, 32), (3,), ()])
def test_images_that_the_network_does_not_take_are_named(shape: tuple[int, ...]) -> None:
    kind = "images" if len(shape) == 3 else "inputs"
    said = f"does not run on {kind} of {'x'.join(map(str, shape)) or '1'}"
    with pytest.raises(SsrError, match=said):
        runner.run(CifarResNet(8), shape)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(5, 7)


def test_a_network_that_fails_by_itself_is_named() -> None:
    with pytest.raises(SsrError, match="does not run on images of 3x8x8"):
        runner.run(Broken(), (3, 8, 8))


class Deciding(nn.Module):
    def __init__(self, decide: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 8, 3), Gate(decide)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.conv(x)).mean((2, 3))


class Gate(nn.Module):
    def __init__(self, decide: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.decide = decide

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(x)


DECISIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "if": lambda x: x if x.sum() > 0 else -x,
    "item": lambda x: x * x.mean().item(),
    "list": lambda x: x * x.mean().tolist(),
    "numpy": lambda x: x * float(x.numpy().mean()),
    "mask": lambda x: x[x.sum((1, 2, 3)) > 0],
    "select": lambda x: x.masked_select(x > 0)[:4].reshape(1, 1, 2, 2),
    "range": lambda x: x * sum(range(x.sum().int())),
}


@pytest.mark.parametrize("decide", DECISIONS.values(), ids=list(DECISIONS))
def test_a_module_that_decides_by_values_is_named(decide: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(SsrError) as caught:
        runner.run(Deciding(decide), (3, 8, 8))
    said = str(caught.value)
    assert "it decides in its module gate by the values of its activations" in said
    assert "\n" not in said and said.endswith("torch.where.")


def test_the_module_in_which_a_run_stops_is_named() -> None:
    with pytest.raises(SsrError, match=r"not run on images of 3x8x8 .* in gate, KeyError: 'x'"):
        runner.run(Deciding(lambda x: {}["x"]), (3, 8, 8))


def test_tracing_draws_no_random_numbers() -> None:
    network = CifarResNet(8)
    before = torch.get_rng_state()
    runner.run(network, (3, 8, 8))
    assert torch.equal(before, torch.get_rng_state())
